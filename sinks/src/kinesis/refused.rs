//! A refused record as text, from which its data comes back byte by byte. Pure.

use base64_simd::STANDARD;

/// Before data that is no text.
const BASE64: &str = "base64:";

/// Before what is known of a record that has no data.
const WITHOUT_DATA: &str = "(partition key ";

/// Data as the rejected output carries it: text as it is, all else in base64. So is text that would be taken for either.
pub(super) fn text_of(data: &[u8]) -> String {
    match std::str::from_utf8(data) {
        Ok(text) if !text.starts_with(BASE64) && !text.starts_with(WITHOUT_DATA) => text.to_owned(),
        _ => format!("{BASE64}{}", STANDARD.encode_to_string(data)),
    }
}

/// What is known of a record that could not be encoded, in one line.
pub(super) fn without_data(partition_key: &str, hash_key: Option<&str>) -> String {
    let hash_key = hash_key.map(|key| format!(", hash key {key:?}")).unwrap_or_default();
    format!("{WITHOUT_DATA}{partition_key:?}{hash_key}, without data)")
}

/// The data of a record that a [`KinesisSink`](super::KinesisSink) refused, from the text in its
/// [`Refused`](shardflow::sink::Refused): byte by byte what was to be put. `None` for a record that could not be encoded, which
/// has none.
///
/// # Examples
/// ```
/// use shardflow_sinks::kinesis::data_of;
///
/// assert_eq!(data_of("{\"cents\":7}"), Some(b"{\"cents\":7}".to_vec()));
/// assert_eq!(data_of("base64:/wA="), Some(vec![0xff, 0]));
/// assert_eq!(data_of("(partition key \"acme\", without data)"), None);
/// ```
#[must_use]
pub fn data_of(record: &str) -> Option<Vec<u8>> {
    match record.strip_prefix(BASE64) {
        Some(encoded) => STANDARD.decode_to_vec(encoded).ok(),
        None if record.starts_with(WITHOUT_DATA) => None,
        None => Some(record.as_bytes().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_stays_as_it_is_and_what_could_be_mistaken_does_not() {
        assert_eq!(text_of(b"{\"n\":1}"), "{\"n\":1}");
        assert_eq!(text_of(b""), "");
        assert_eq!(text_of(&[0xff, 0]), "base64:/wA=");
        for data in ["base64:/wA=", "base64:no", "(partition key \"k\", without data)"] {
            assert!(text_of(data.as_bytes()).starts_with(BASE64), "{data}");
            assert_eq!(data_of(&text_of(data.as_bytes())), Some(data.as_bytes().to_vec()));
        }
    }

    #[test]
    fn a_record_without_data_is_described_in_one_line() {
        assert_eq!(without_data("k", None), "(partition key \"k\", without data)");
        assert_eq!(without_data("a\n\"", Some("7")), "(partition key \"a\\n\\\"\", hash key \"7\", without data)");
        assert_eq!(data_of(&without_data("k", Some("7"))), None);
    }

    proptest! {
        #[test]
        fn any_data_comes_back(data: Vec<u8>, text in "(base64:|\\(partition key )?.*") {
            prop_assert_eq!(data_of(&text_of(&data)), Some(data));
            prop_assert_eq!(data_of(&text_of(text.as_bytes())), Some(text.into_bytes()));
        }
    }
}
