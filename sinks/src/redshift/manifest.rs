//! Which files a `COPY` reads. Pure.

use serde::Serialize;

/// A manifest, as `COPY … MANIFEST` takes it.
#[derive(Serialize)]
struct Manifest<'a> {
    entries: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    url: &'a str,
    /// A file that is missing fails the load.
    mandatory: bool,
}

/// A manifest of exactly these files, each of which must be there.
pub(super) fn manifest(urls: &[String]) -> String {
    // Texts and truth values always have a form.
    serde_json::to_string(&Manifest { entries: urls.iter().map(|url| Entry { url, mandatory: true }).collect() })
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_mandatory() {
        assert_eq!(
            manifest(&["s3://b/f".to_owned(), "s3://b/g \"h\"".to_owned()]),
            r#"{"entries":[{"url":"s3://b/f","mandatory":true},{"url":"s3://b/g \"h\"","mandatory":true}]}"#
        );
    }
}
