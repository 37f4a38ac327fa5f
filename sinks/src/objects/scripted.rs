//! A service for tests in place of S3, so that what the crate `object_store` sends, and makes of answers, is its own.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::client::{HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService};

/// A call that was made.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) query: String,
    /// `If-None-Match`.
    pub(super) condition: Option<String>,
}

/// What is answered.
pub(super) struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    pub(super) fn new(status: u16, body: &str) -> Self {
        Self { status, body: body.to_owned() }
    }

    /// As S3 answers where nothing is amiss.
    pub(super) fn of_s3(seen: &Seen) -> Self {
        let body = match seen.method.as_str() {
            "POST" if seen.query.starts_with("uploads") => {
                "<InitiateMultipartUploadResult><UploadId>upload</UploadId></InitiateMultipartUploadResult>"
            }
            "POST" => "<CompleteMultipartUploadResult><ETag>\"etag\"</ETag></CompleteMultipartUploadResult>",
            _ => "",
        };
        Self::new(200, body)
    }
}

type Script = dyn Fn(&Seen) -> Answer + Send + Sync;

/// Answers as a function says, and remembers what it was asked.
#[derive(Clone)]
pub(super) struct Scripted {
    script: Arc<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    pub(super) fn new(script: impl Fn(&Seen) -> Answer + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), seen: Arc::default() }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl HttpConnector for Scripted {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Scripted {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let condition = request.headers().get("if-none-match");
        let seen = Seen {
            method: request.method().to_string(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            condition: condition.map(|value| value.to_str().unwrap().to_owned()),
        };
        let Answer { status, body } = (self.script)(&seen);
        self.seen.lock().unwrap().push(seen);
        let mut response = HttpResponse::new(body.into());
        *response.status_mut() = status.try_into().unwrap();
        response.headers_mut().insert("etag", "\"etag\"".parse().unwrap());
        Ok(response)
    }
}

/// A client of S3 that tries once.
pub(super) fn s3(connector: impl HttpConnector) -> AmazonS3 {
    let s3 = AmazonS3Builder::new().with_bucket_name("bucket").with_region("eu-west-1").with_http_connector(connector);
    let s3 = s3.with_access_key_id("key").with_secret_access_key("secret");
    s3.with_retry(super::reach::once()).build().unwrap()
}
