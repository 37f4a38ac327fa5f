//! One fixed way from a value to its stored bytes: bincode 1.3 with variable-length integers, little endian.
//!
//! The options are spelled out, because bincode's free functions use others, and bytes that lie on disks must not depend
//! on a default. Bytes left over after a value are an error: they mean that the type is not the one that was written.

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// The most bytes that one key or value may have: 1 GiB.
pub const LIMIT: u64 = 1 << 30;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_little_endian().with_varint_encoding().reject_trailing_bytes()
}

/// Appends the bytes of `value` to `out`.
///
/// # Errors
/// The type cannot be serialized (a sequence of unknown length, a custom `Serialize` that fails), or the value has more
/// than [`LIMIT`] bytes. `out` is as it was.
pub fn encode_into<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<()> {
    let before = out.len();
    let encoded = options().with_no_limit().serialize_into(&mut *out, value);
    let bytes = out.len().saturating_sub(before) as u64;
    let fault = match encoded {
        Ok(()) if bytes <= LIMIT => return Ok(()),
        Ok(()) => Error::state(format!("could not encode a value: {bytes} bytes are more than the limit of {LIMIT}")),
        Err(error) => Error::state(format!("could not encode a `{}`", std::any::type_name::<T>())).caused_by(error),
    };
    out.truncate(before);
    Err(fault)
}

/// The value that these bytes hold, all of them.
///
/// # Errors
/// They are not the bytes of a `T`.
///
/// # Examples
/// ```
/// use shardflow::state::codec;
/// let mut bytes = Vec::new();
/// codec::encode_into(&("acct", 7_u64), &mut bytes).unwrap();
/// assert_eq!(codec::decode::<(String, u64)>(&bytes).unwrap(), ("acct".to_owned(), 7));
/// assert!(codec::decode::<u64>(&bytes).is_err());
/// ```
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    options().with_limit(LIMIT).deserialize(bytes).map_err(|error| {
        let name = std::any::type_name::<T>();
        Error::state(format!("could not decode {} bytes as a `{name}`", bytes.len())).caused_by(error)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_encoding_does_not_change() {
        let mut bytes = vec![9];
        encode_into(&("ab", 300_u64, Some(1_u8)), &mut bytes).unwrap();
        assert_eq!(bytes, [9, 2, b'a', b'b', 251, 44, 1, 1, 1]);
    }

    #[test]
    fn trailing_bytes_are_refused() {
        assert!(decode::<u8>(&[1, 2]).unwrap_err().to_string().starts_with("could not decode 2 bytes as a `u8`"));
    }

    #[test]
    fn what_cannot_be_encoded_leaves_the_buffer_alone() {
        struct Endless;
        impl Serialize for Endless {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeTuple;
                let mut tuple = serializer.serialize_tuple(2)?;
                tuple.serialize_element(&1_u8)?;
                Err(serde::ser::Error::custom("no end"))
            }
        }
        let mut bytes = vec![9];
        assert!(encode_into(&Endless, &mut bytes).unwrap_err().to_string().ends_with("no end"));
        assert_eq!(bytes, [9]);
    }

    #[test]
    fn a_length_that_lies_allocates_nothing() {
        // 253 announces a u64: a string of 2^63 bytes.
        assert!(decode::<String>(&[253, 0, 0, 0, 0, 0, 0, 0, 128]).is_err());
        assert!(decode::<Vec<u64>>(&[253, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = decode::<(String, Vec<(u64, Option<String>)>, std::collections::BTreeMap<u16, String>)>(&bytes);
        }
    }
}
