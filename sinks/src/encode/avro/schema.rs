//! Schemas that are in use: parsed once, and kept as long as the program runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use apache_avro::Schema;

use crate::encode::unfit::Unfit;

/// A schema with its text.
#[derive(Clone)]
pub(super) struct Known {
    /// As it was given: it goes into the files.
    pub(super) json: Arc<str>,
    pub(super) schema: &'static Schema,
    /// Whether the crate `apache-avro` derived it from a type: then a newtype is a record of one field.
    pub(super) is_derived: bool,
    /// Whether a `u64` is a `long`, and not the type that `apache-avro` derives for it.
    pub(super) longs: bool,
}

/// By text. The library borrows the schema in everything that uses it, and an encoder has to own what it uses: so each
/// distinct schema is kept, once, for good.
static KNOWN: Mutex<BTreeMap<Arc<str>, &'static Schema>> = Mutex::new(BTreeMap::new());

impl Known {
    /// Parses it, unless it is known.
    ///
    /// # Errors
    /// It is no schema: why.
    pub(super) fn parse(json: &str, is_derived: bool) -> Result<Self, String> {
        let longs = !json.contains("org.apache.avro.rust.u64");
        // Nothing that could leave the map half changed runs under the lock.
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((json, schema)) = known.get_key_value(json) {
            return Ok(Self { json: Arc::clone(json), schema, is_derived, longs });
        }
        let schema = Schema::parse_str(json).map_err(Unfit::line)?;
        let (json, schema) = (Arc::<str>::from(json), &*Box::leak(Box::new(schema)));
        known.insert(Arc::clone(&json), schema);
        Ok(Self { json, schema, is_derived, longs })
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.json)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_kept_once() {
        let json = r#"{"type": "fixed", "name": "once", "size": 3}"#;
        let (one, two) = (Known::parse(json, false).unwrap(), Known::parse(json, false).unwrap());
        assert!(std::ptr::eq(one.schema, two.schema));
        assert_eq!(&*one.json, json);
    }

    #[test]
    fn what_is_no_schema_is_refused() {
        for json in ["", "{", r#"{"type": "unheard"}"#, r#"{"type": "record", "name": "a"}"#] {
            assert!(!Known::parse(json, false).unwrap_err().is_empty(), "{json}");
        }
    }
}
