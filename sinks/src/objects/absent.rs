//! Completes uploads in parts only where there is no object of that name, on S3.
//!
//! The crate `object_store` asks for no condition when it completes, so it is added to the request on its way out. S3 wants no
//! signature of it: only headers that begin with `x-amz-` must be signed.
//! (<https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html>)

use async_trait::async_trait;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::signer::Method;
use object_store::{ClientOptions, HeaderValue};
use reqwest::header::IF_NONE_MATCH;

/// Connects a store whose completions are refused where there is an object.
#[derive(Debug, Default)]
pub(super) struct WhereAbsent<C = ReqwestConnector>(C);

impl<C: HttpConnector> HttpConnector for WhereAbsent<C> {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Adding(self.0.connect(options)?)))
    }
}

/// Adds the condition to the calls that need it.
#[derive(Debug)]
struct Adding(HttpClient);

#[async_trait]
impl HttpService for Adding {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if completes(request.method(), request.uri().query()) {
            request.headers_mut().insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        self.0.execute(request).await
    }
}

/// Whether a call makes an object of parts: of all of S3's, the only POST that names an upload.
fn completes(method: &Method, query: Option<&str>) -> bool {
    let names_an_upload = || query.unwrap_or_default().split('&').any(|pair| pair.starts_with("uploadId="));
    *method == Method::POST && names_an_upload()
}

#[cfg(test)]
mod tests {
    use object_store::multipart::MultipartStore;
    use object_store::path::Path;
    use object_store::{ObjectStore, PutMode, PutPayload};
    use shardflow::Outcome;
    use shardflow::retry::Failed;

    use super::super::bucket::is_taken;
    use super::super::failure::trouble;
    use super::super::scripted::{Answer, Scripted, s3};
    use super::*;

    /// What each call was, and its condition.
    async fn asked(scripted: &Scripted) -> Vec<(String, Option<String>)> {
        let s3 = s3(WhereAbsent(scripted.clone()));
        let path = Path::from("out/a");
        let create = PutMode::Create.into();
        s3.put_opts(&path, PutPayload::from_static(b"whole"), create).await.unwrap();
        let upload = s3.create_multipart(&path).await.unwrap();
        let part = s3.put_part(&path, &upload, 0, PutPayload::from_static(b"part")).await.unwrap();
        s3.complete_multipart(&path, &upload, vec![part]).await.unwrap();
        s3.abort_multipart(&path, &upload).await.unwrap();
        scripted.seen().into_iter().map(|seen| (seen.method, seen.condition)).collect()
    }

    #[tokio::test]
    async fn completing_asks_for_there_to_be_no_object_and_nothing_else_is_changed() {
        let star = Some("*".to_owned());
        let of = |method: &str, condition: &Option<String>| (method.to_owned(), condition.clone());
        let expected = [of("PUT", &star), of("POST", &None), of("PUT", &None), of("POST", &star), of("DELETE", &None)];
        assert_eq!(asked(&Scripted::new(Answer::of_s3)).await, expected);
    }

    #[tokio::test]
    async fn an_answer_of_200_with_an_error_in_it_is_a_failure() {
        for (code, is_throttled) in [("InternalError", false), ("SlowDown", true), ("PreconditionFailed", false)] {
            let scripted = Scripted::new(move |_| Answer::new(200, &format!("\n\n<Error><Code>{code}</Code></Error>")));
            let s3 = s3(WhereAbsent(scripted));
            let part = object_store::multipart::PartId { content_id: "etag".to_owned() };
            let error = s3.complete_multipart(&Path::from("a"), &"upload".to_owned(), vec![part]).await.unwrap_err();
            let trouble = trouble(&error);
            let expected = if is_throttled { Failed::Throttled } else { Failed::Transient };
            assert_eq!(
                (trouble.may_pass, trouble.outcome),
                (Some(expected), Outcome::Indeterminate),
                "{code}: {error}"
            );
        }
    }

    #[tokio::test]
    async fn a_refusal_says_that_the_name_is_taken() {
        for (status, code) in [(412, "PreconditionFailed"), (409, "ConditionalRequestConflict")] {
            let scripted = Scripted::new(move |_| Answer::new(status, &format!("<Error><Code>{code}</Code></Error>")));
            let s3 = s3(WhereAbsent(scripted));
            let part = object_store::multipart::PartId { content_id: "etag".to_owned() };
            let error = s3.complete_multipart(&Path::from("a"), &"upload".to_owned(), vec![part]).await.unwrap_err();
            assert!(is_taken(&error), "{error}");
        }
    }
}
