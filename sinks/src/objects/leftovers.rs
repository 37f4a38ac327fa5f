//! Uploads that a crash broke off: nobody sees them, and they take space until they are aborted.

use std::path::Path as FilePath;
use std::time::Duration;

use object_store::aws::AmazonS3;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};
use serde::Deserialize;
use shardflow::sink::Trouble;

use super::failure::{fatal, passing, text, trouble};
use super::keys::Keys;

/// For how long a signed request is good.
const SIGNED_FOR: Duration = Duration::from_secs(60);

/// S3's answer, as far as it matters here.
/// (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListMultipartUploads.html>)
#[derive(Debug, Deserialize, Default, PartialEq, Eq)]
#[serde(rename_all = "PascalCase", default)]
struct Listed {
    is_truncated: bool,
    next_key_marker: Option<String>,
    next_upload_id_marker: Option<String>,
    #[serde(rename = "Upload")]
    uploads: Vec<Upload>,
}

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
struct Upload {
    key: String,
    upload_id: String,
}

/// Aborts those of this job and step in S3. Gives how many there were.
///
/// # Errors
/// S3 does not list or abort them.
pub(super) async fn of_s3(s3: &AmazonS3, keys: &Keys) -> Result<usize, Trouble> {
    let client = reqwest::Client::builder().timeout(SIGNED_FOR).build();
    let client = client.map_err(|error| fatal(text(&error.without_url())))?;
    let (mut aborted, mut markers) = (0_usize, None);
    loop {
        let listed = list(s3, &client, keys, markers.as_ref()).await?;
        for upload in &listed.uploads {
            let Ok(path) = Path::parse(&upload.key) else { continue };
            if !keys.is_ours(&path) {
                continue;
            }
            match s3.abort_multipart(&path, &upload.upload_id).await {
                Ok(()) => aborted = aborted.saturating_add(1),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(trouble(&error)),
            }
        }
        let next = listed.next_key_marker.map(|key| (key, listed.next_upload_id_marker.unwrap_or_default()));
        if !listed.is_truncated || next.is_none() || next == markers {
            return Ok(aborted);
        }
        markers = next;
    }
}

/// One page. The URL is a right to list: it is in no error.
async fn list(
    s3: &AmazonS3,
    client: &reqwest::Client,
    keys: &Keys,
    from: Option<&(String, String)>,
) -> Result<Listed, Trouble> {
    let mut query = vec![("uploads", ""), ("prefix", keys.prefix().as_ref())];
    if let Some((key, upload)) = from {
        query.extend([("key-marker", key.as_str()), ("upload-id-marker", upload.as_str())]);
    }
    let options = SignedUrlOptions::new().with_query(query);
    let url = s3.signed_url_opts(Method::GET, &Path::default(), SIGNED_FOR, &options).await;
    let url = url.map_err(|error| trouble(&error))?;
    let network = |error: reqwest::Error| passing(text(&error.without_url()));
    let answer = client.get(url).send().await.map_err(network)?;
    let status = answer.status();
    let body = answer.text().await.map_err(network)?;
    if status.is_server_error() || status.as_u16() == 429 {
        return Err(passing(format!("HTTP status {status}")));
    }
    if !status.is_success() {
        return Err(fatal(format!("HTTP status {status}")));
    }
    read(&body)
}

fn read(body: &str) -> Result<Listed, Trouble> {
    quick_xml::de::from_str(body).map_err(|error| passing(format!("an answer that cannot be read: {error}")))
}

/// Removes those of this job and step on a disk: `name#1` beside `name`. Gives how many there were.
///
/// # Errors
/// A folder cannot be read, or a file not removed.
pub(super) fn of_disk(root: &FilePath, keys: &Keys) -> std::io::Result<usize> {
    let (mut removed, mut folders) = (0_usize, vec![root.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
                continue;
            }
            let path = entry.path();
            let name = path.strip_prefix(root).ok().and_then(FilePath::to_str).unwrap_or_default();
            let staged = name.rsplit_once('#').filter(|(_, number)| number.bytes().all(|byte| byte.is_ascii_digit()));
            let is_ours = staged.is_some_and(|(name, _)| Path::parse(name).is_ok_and(|path| keys.is_ours(&path)));
            if is_ours {
                std::fs::remove_file(path)?;
                removed = removed.saturating_add(1);
            }
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_read() {
        let body = r#"<?xml version="1.0" encoding="UTF-8"?>
            <ListMultipartUploadsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <Bucket>b</Bucket><KeyMarker/><NextKeyMarker>k2</NextKeyMarker><NextUploadIdMarker>u2</NextUploadIdMarker>
              <MaxUploads>2</MaxUploads><IsTruncated>true</IsTruncated>
              <Upload><Key>k1</Key><UploadId>u1</UploadId><Initiator><ID>x</ID></Initiator></Upload>
              <Upload><Key>k2</Key><UploadId>u2</UploadId></Upload>
            </ListMultipartUploadsResult>"#;
        let listed = read(body).unwrap();
        assert!(listed.is_truncated);
        assert_eq!(listed.next_key_marker.as_deref(), Some("k2"));
        assert_eq!(listed.uploads.iter().map(|upload| upload.upload_id.as_str()).collect::<Vec<_>>(), ["u1", "u2"]);
        assert_eq!(read("<ListMultipartUploadsResult/>").unwrap(), Listed::default());
        assert!(read("<html").is_err());
    }

    #[test]
    fn files_of_uploads_that_a_crash_broke_off_are_removed_and_no_others() {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::new(Path::default(), "job", &"step".into());
        for folder in ["day=1", "_manifests", "_probes"] {
            std::fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let manifest = "_manifests/job.step-e0000000002-i00001-w00-s000000-f0000000001.json#3";
        let ours = ["job.step-i00001-w00#1", "day=1/job.step-i00001-w00#12", manifest, "_probes/job.step#1"];
        let others = ["job.step-i00001-w00", "job.other-i00001-w00#1", "notes#1", "day=1/job.step-i00001-w00#x"];
        ours.iter().chain(&others).for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
        assert_eq!(of_disk(dir.path(), &keys).unwrap(), 4);
        assert!(ours.iter().all(|name| !dir.path().join(name).exists()));
        assert!(others.iter().all(|name| dir.path().join(name).exists()));
    }
}
