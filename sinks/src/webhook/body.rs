//! What a call carries: the body, its key, its signature. Pure.

use hmac::{Hmac, KeyInit, Mac};
use serde::Serialize;
use sha2::{Digest, Sha256};
use shardflow::sink::Refused;

use crate::format::{Format, Ndjson};

/// How records become a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// One record a call.
    One,
    /// Up to so many, as an array.
    Array(usize),
    /// Up to so many, a line each.
    Lines(usize),
}

/// A record on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// Without its line break.
    pub(super) json: Vec<u8>,
    pub(super) id: Option<String>,
}

impl Item {
    /// What a record becomes.
    ///
    /// # Errors
    /// It has no form in JSON.
    pub(super) fn of<T: Serialize>(record: &T, id: Option<String>) -> Result<Self, Refused> {
        let mut json = Vec::new();
        let written = Ndjson.write(record, &mut json);
        json.pop();
        match written {
            Ok(()) => Ok(Self { json, id }),
            Err(error) => Err(Refused {
                error: format!("it cannot be written as JSON: {error}"),
                record: id.unwrap_or_else(|| String::from_utf8_lossy(&json).into_owned()),
            }),
        }
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.json).into_owned()
    }
}

impl Body {
    /// The most records of a call.
    pub(super) fn records(self) -> usize {
        match self {
            Self::One => 1,
            Self::Array(records) | Self::Lines(records) => records,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::One | Self::Array(_) => "application/json",
            Self::Lines(_) => "application/x-ndjson",
        }
    }

    /// The body of a call.
    pub(super) fn of(self, items: &[Item]) -> Vec<u8> {
        let bytes = items.iter().map(|item| item.json.len().saturating_add(1)).sum::<usize>();
        let mut body = Vec::with_capacity(bytes.saturating_add(1));
        for (n, item) in items.iter().enumerate() {
            match self {
                Self::One | Self::Lines(_) => {}
                Self::Array(_) => body.push(if n == 0 { b'[' } else { b',' }),
            }
            body.extend_from_slice(&item.json);
            if matches!(self, Self::Lines(_)) {
                body.push(b'\n');
            }
        }
        if matches!(self, Self::Array(_)) {
            body.push(b']');
        }
        body
    }
}

/// The longest id that goes into a header as it is, in bytes.
const LONGEST_KEY: usize = 255;

/// The idempotency key of a call; `None` where its records have no ids. An id that no header can carry becomes its hash.
pub(super) fn key(items: &[Item]) -> Option<String> {
    if let [Item { id: Some(id), .. }] = items
        && (1..=LONGEST_KEY).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Some(id.clone());
    }
    let mut hash = Sha256::new();
    for item in items {
        let id = item.id.as_ref()?;
        // With its length, so that no two rows of ids give the same bytes.
        hash.update((id.len() as u64).to_be_bytes());
        hash.update(id.as_bytes());
    }
    Some(hex(&hash.finalize()))
}

/// What the signature's header carries.
pub(super) fn signature(key: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(body);
    format!("sha256={}", hex(&mac.finalize().into_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item(json: &str, id: Option<&str>) -> Item {
        Item { json: json.as_bytes().to_vec(), id: id.map(str::to_owned) }
    }

    fn ids(ids: &[&str]) -> Vec<Item> {
        ids.iter().map(|id| item("1", Some(id))).collect()
    }

    #[test]
    fn a_body_is_a_record_an_array_or_lines() {
        let items = [item("{\"a\":1}", None), item("2", None)];
        assert_eq!(Body::One.of(&items[..1]), b"{\"a\":1}");
        assert_eq!(Body::Array(9).of(&items), b"[{\"a\":1},2]");
        assert_eq!(Body::Array(9).of(&items[..1]), b"[{\"a\":1}]");
        assert_eq!(Body::Lines(9).of(&items), b"{\"a\":1}\n2\n");
    }

    #[test]
    fn the_key_of_one_record_is_its_id_and_of_several_a_hash() {
        assert_eq!(key(&ids(&["charge-7"])).unwrap(), "charge-7");
        assert_eq!(key(&ids(&["a", "b"])).unwrap().len(), 64);
        assert_eq!(key(&[item("1", None)]), None);
        assert_eq!(key(&[item("1", Some("a")), item("1", None)]), None);
    }

    #[test]
    fn an_id_that_no_header_can_carry_is_hashed() {
        for id in ["", "with space", "ümlaut", "line\nbreak", &"x".repeat(256)] {
            assert_eq!(key(&ids(&[id])).unwrap().len(), 64, "{id:?}");
        }
    }

    /// RFC 4231, test case 2.
    #[test]
    fn the_signature_is_the_documented_one() {
        let signed = signature("Jefe", b"what do ya want for nothing?");
        assert_eq!(signed, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    proptest! {
        #[test]
        fn other_ids_give_other_keys(a in prop::collection::vec(".{0,3}", 2..5), b in prop::collection::vec(".{0,3}", 2..5)) {
            let of = |of: &[String]| key(&of.iter().map(|id| item("1", Some(id))).collect::<Vec<_>>());
            prop_assert_eq!(of(&a) == of(&b), a == b);
        }
    }
}
