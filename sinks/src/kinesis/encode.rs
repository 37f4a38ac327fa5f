//! How a record becomes the data of a stream record.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

/// Makes the data of records of type `T`.
pub trait Encoder<T>: Clone + Send + Sync + 'static {
    /// The data of a record.
    ///
    /// # Errors
    /// Why the record has none, in one line: it is refused.
    fn encode(&self, record: &T) -> Result<Vec<u8>, String>;
}

/// As JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<T: Serialize> Encoder<T> for Json {
    fn encode(&self, record: &T) -> Result<Vec<u8>, String> {
        serde_json::to_vec(record).map_err(|error| error.to_string())
    }
}

type Encode<T> = Arc<dyn Fn(&T) -> Result<Vec<u8>, String> + Send + Sync>;

/// By a closure. Made by [`KinesisSink::encoded_by`](super::KinesisSink::encoded_by).
pub struct With<T>(Encode<T>);

impl<T> With<T> {
    pub(super) fn new<B: Into<Vec<u8>>, X: fmt::Display>(
        encode: impl Fn(&T) -> Result<B, X> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |record| encode(record).map(Into::into).map_err(|error| error.to_string())))
    }
}

impl<T> Clone for With<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> fmt::Debug for With<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("With(closure)")
    }
}

impl<T: 'static> Encoder<T> for With<T> {
    fn encode(&self, record: &T) -> Result<Vec<u8>, String> {
        (self.0)(record)
    }
}
