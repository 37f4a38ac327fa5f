//! Which files a `COPY` reads. Pure.

use serde::Serialize;

use super::{FileFormat, StagedFile};

#[derive(Serialize)]
struct Manifest<'a> {
    entries: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    url: &'a str,
    /// A file that is missing fails the load.
    mandatory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<Meta>,
}

#[derive(Serialize)]
struct Meta {
    content_length: u64,
}

/// A manifest of exactly these files, each of which must be there. Columnar files need their lengths.
#[must_use]
pub fn manifest(files: &[StagedFile], format: FileFormat) -> String {
    let meta = |file: &StagedFile| (format == FileFormat::Parquet).then_some(Meta { content_length: file.bytes });
    let entries = files.iter().map(|file| Entry { url: &file.url, mandatory: true, meta: meta(file) }).collect();
    // Texts, numbers and truth values always have a form.
    serde_json::to_string(&Manifest { entries }).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardflow::Epoch;

    #[test]
    fn every_file_is_mandatory_and_columnar_ones_have_their_lengths() {
        let file = |url: &str| StagedFile { url: url.to_owned(), bytes: 12, epoch: Epoch::new(1) };
        let files = [file("s3://b/f"), file("s3://b/g \"h\"")];
        assert_eq!(
            manifest(&files, FileFormat::Json),
            r#"{"entries":[{"url":"s3://b/f","mandatory":true},{"url":"s3://b/g \"h\"","mandatory":true}]}"#
        );
        assert_eq!(
            manifest(&files[..1], FileFormat::Parquet),
            r#"{"entries":[{"url":"s3://b/f","mandatory":true,"meta":{"content_length":12}}]}"#
        );
    }
}
