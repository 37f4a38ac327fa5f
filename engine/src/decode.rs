//! The port of decoders: bytes in, a record or a reason out.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Turns a raw record into a value.
pub trait Decoder: Send + Sync + 'static {
    /// What it makes.
    type Output: Clone + Send + Sync + 'static;

    /// Decodes one record.
    ///
    /// # Errors
    /// The reason, in one line. The record goes to the rejected output with it.
    fn decode(&self, raw: &[u8]) -> Result<Self::Output, String>;
}

/// A record that could not be decoded, as the rejected output carries it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// Why.
    pub error: String,
    /// The record as it came in; what is no UTF-8 is replaced by U+FFFD.
    pub raw: String,
    /// The split it came from.
    pub split: String,
    /// Where it stands in the split, in the source's own notation.
    pub position: String,
}

/// Decodes one JSON value a record. Made by [`json`].
#[derive(Debug)]
pub struct Json<T>(PhantomData<fn() -> T>);

/// Decodes each record as one JSON value of type `T`.
///
/// # Examples
/// ```
/// use shardflow::{Decoder, json};
/// #[derive(Clone, serde::Deserialize)]
/// struct Usage { qty: u64 }
/// assert_eq!(json::<Usage>().decode(br#"{"qty":7}"#).map(|usage| usage.qty), Ok(7));
/// assert!(json::<Usage>().decode(b"{").is_err());
/// ```
#[must_use]
pub fn json<T: DeserializeOwned>() -> Json<T> {
    Json(PhantomData)
}

impl<T: DeserializeOwned + Clone + Send + Sync + 'static> Decoder for Json<T> {
    type Output = T;

    fn decode(&self, raw: &[u8]) -> Result<T, String> {
        // sonic-rs is the fast path; serde_json has the last word, and the better error text, on what it refuses.
        match sonic_rs::from_slice(raw) {
            Ok(value) => Ok(value),
            Err(_) => serde_json::from_slice(raw).map_err(|error| error.to_string()),
        }
    }
}

/// Takes each record as one line of UTF-8 text. Made by [`lines`].
#[derive(Debug)]
pub struct Lines(());

/// Decodes each record as UTF-8 text.
#[must_use]
pub fn lines() -> Lines {
    Lines(())
}

impl Decoder for Lines {
    type Output = String;

    fn decode(&self, raw: &[u8]) -> Result<String, String> {
        std::str::from_utf8(raw).map(str::to_owned).map_err(|error| error.to_string())
    }
}
