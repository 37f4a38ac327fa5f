//! Who answers: OpenSearch, or Elasticsearch, and in which version. Pure.

use serde::Deserialize;

/// The first version of Elasticsearch that knows `require_alias` and `_resolve`. OpenSearch came later and always did.
const OLDEST: (u32, u32) = (7, 10);

/// What answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Product {
    name: &'static str,
    version: String,
}

impl std::fmt::Display for Product {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

#[derive(Deserialize)]
struct Greeting {
    version: Version,
}

#[derive(Deserialize)]
struct Version {
    number: String,
    distribution: Option<String>,
}

/// Reads the answer to `GET /`. `says` is its header `X-Elastic-Product`, which Elasticsearch sends from 7.14 on.
///
/// # Errors
/// It is neither, or too old.
pub(super) fn identify(says: Option<&str>, body: &[u8]) -> Result<Product, String> {
    let greeting: Greeting = serde_json::from_slice(body)
        .map_err(|_| "what answers there is neither OpenSearch nor Elasticsearch".to_owned())?;
    let Version { number, distribution } = greeting.version;
    let mut parts = number.split('.').map(|part| part.parse().ok());
    let (Some(Some(major)), Some(Some(minor))) = (parts.next(), parts.next()) else {
        return Err(format!("what answers there has no version that is known: {number:?}"));
    };
    match distribution.as_deref() {
        Some("opensearch") => Ok(Product { name: "OpenSearch", version: number }),
        Some(other) => Err(format!("what answers there is {other:?}, neither OpenSearch nor Elasticsearch")),
        None if (major, minor) < OLDEST => Err(format!(
            "Elasticsearch {number} answers there, and the oldest that is supported is {}.{}",
            OLDEST.0, OLDEST.1
        )),
        // OpenSearch says that it is Elasticsearch 7.10.2 where it is set to, and then has no such header.
        None if says == Some("Elasticsearch") || (major, minor) < (7, 14) => {
            Ok(Product { name: "Elasticsearch", version: number })
        }
        None => {
            Err(format!("what answers there says that it is version {number} of something that is not Elasticsearch"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(says: Option<&str>, version: &str) -> Result<String, String> {
        let body = format!(r#"{{"name":"n","version":{version},"tagline":"t"}}"#);
        identify(says, body.as_bytes()).map(|product| product.to_string())
    }

    #[test]
    fn both_products_are_known_by_what_they_say() {
        let elastic = Some("Elasticsearch");
        let known = asked(None, r#"{"distribution":"opensearch","number":"3.3.0"}"#);
        assert_eq!(known.unwrap(), "OpenSearch 3.3.0");
        assert_eq!(asked(elastic, r#"{"number":"9.2.1"}"#).unwrap(), "Elasticsearch 9.2.1");
        assert_eq!(asked(None, r#"{"number":"7.10.2"}"#).unwrap(), "Elasticsearch 7.10.2");
    }

    #[test]
    fn what_is_neither_or_too_old_is_refused() {
        for (says, version, text) in [
            (None, r#"{"number":"8.1.0"}"#, "not Elasticsearch"),
            (Some("Elasticsearch"), r#"{"number":"7.9.3"}"#, "7.10"),
            (Some("Elasticsearch"), r#"{"number":"6.8"}"#, "7.10"),
            (None, r#"{"number":"new"}"#, "no version"),
            (None, r#"{"number":"1.0.0","distribution":"other"}"#, "other"),
            (None, "3", "neither"),
        ] {
            let error = asked(says, version).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        assert!(identify(None, b"<html>").is_err());
    }
}
