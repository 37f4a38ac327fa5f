//! A bucket of a stand-in for S3 that asks for no signatures.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::copy::Files;

/// A bucket.
pub struct Bucket {
    /// `127.0.0.1:4566`.
    host: String,
    name: String,
}

impl Bucket {
    /// Makes a bucket of this name.
    pub async fn create(endpoint: &str, name: &str) -> Self {
        let bucket = Self { host: endpoint.trim_start_matches("http://").to_owned(), name: name.to_owned() };
        let (status, _) = bucket.call(Method::PUT, "").await;
        assert!(status.is_success(), "making bucket {name}: {status}");
        bucket
    }

    /// The keys of all objects; up to a thousand.
    pub async fn keys(&self) -> Vec<String> {
        let (status, answer) = self.call(Method::GET, "?list-type=2").await;
        assert!(status.is_success(), "listing bucket {}: {status}", self.name);
        let answer = String::from_utf8(answer.to_vec()).unwrap();
        let keys = answer.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
        keys.map(|(key, _)| key.to_owned()).collect()
    }

    async fn call(&self, method: Method, rest: &str) -> (StatusCode, Bytes) {
        let stream = TcpStream::connect(&self.host).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(format!("/{}{rest}", self.name)).header("host", &self.host);
        let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
        (answer.status(), answer.into_body().collect().await.unwrap().to_bytes())
    }
}

impl Files for Bucket {
    async fn get(&self, url: &str) -> Option<Vec<u8>> {
        let key = url.strip_prefix("s3://")?.strip_prefix(self.name.as_str())?;
        let (status, answer) = self.call(Method::GET, key).await;
        status.is_success().then(|| answer.to_vec())
    }
}
