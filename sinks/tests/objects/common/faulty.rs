//! A store that fails in every way: before the work, after it was done, and with half of the parts there.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartId, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Pass,
    /// The store is not asked.
    Before,
    /// The store has done it, and its answer is lost.
    After,
    /// The store refuses it, and will again.
    Denied,
    /// The store is not reached at all, and so it is certain that nothing was done.
    Unreached,
    /// The store never answers.
    Never,
}

/// A call, as a rule sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    /// `put`, `get`, `list`, `create`, `part`, `complete`, `abort`.
    pub(crate) what: &'static str,
    pub(crate) key: &'a str,
    /// Counts all calls, from 1.
    pub(crate) nth: u64,
}

type Rule = Box<dyn Fn(Call<'_>) -> Fault + Send + Sync>;

/// A store in memory behind faults.
pub(crate) struct Faulty {
    pub(crate) inner: InMemory,
    rule: Rule,
    calls: AtomicU64,
    pub(crate) faults: AtomicU64,
    /// Whether put-if-absent is silently ignored.
    ignores: bool,
    /// Whether uploads in parts were begun and neither completed nor aborted: how many.
    pub(crate) open_uploads: AtomicU64,
}

impl Faulty {
    pub(crate) fn new(rule: impl Fn(Call<'_>) -> Fault + Send + Sync + 'static) -> Arc<Self> {
        Self::made(rule, false)
    }

    /// One that takes a second object of one name, whatever it is asked.
    pub(crate) fn ignoring(rule: impl Fn(Call<'_>) -> Fault + Send + Sync + 'static) -> Arc<Self> {
        Self::made(rule, true)
    }

    fn made(rule: impl Fn(Call<'_>) -> Fault + Send + Sync + 'static, ignores: bool) -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            rule: Box::new(rule),
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            ignores,
            open_uploads: AtomicU64::new(0),
        })
    }

    async fn call<T>(&self, what: &'static str, path: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let nth = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        let fault = (self.rule)(Call { what, key: path, nth });
        if fault != Fault::Pass {
            self.faults.fetch_add(1, Ordering::Relaxed);
        }
        match fault {
            Fault::Pass => work.await,
            Fault::Before => Err(lost()),
            Fault::After => {
                let _ = work.await;
                Err(lost())
            }
            Fault::Never => std::future::pending().await,
            Fault::Denied => Err(Error::PermissionDenied { path: path.to_owned(), source: "AccessDenied".into() }),
            Fault::Unreached => {
                let refused = HttpError::new(HttpErrorKind::Connect, std::io::Error::other("connection refused"));
                Err(Error::Generic { store: "faulty", source: refused.into() })
            }
        }
    }
}

fn lost() -> Error {
    Error::Generic { store: "faulty", source: "connection reset".into() }
}

impl fmt::Debug for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        if self.ignores {
            opts.mode = PutMode::Overwrite;
        }
        self.call("put", location.as_ref(), self.inner.put_opts(location, payload, opts)).await
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.call("create", location.as_ref(), self.inner.put_multipart_opts(location, opts)).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.call("get", location.as_ref(), self.inner.get_opts(location, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        let listed = self.inner.list_with_offset(prefix, offset);
        let nth = self.calls.fetch_add(1, Ordering::Relaxed) + 1;
        match (self.rule)(Call { what: "list", key: offset.as_ref(), nth }) {
            Fault::Pass => listed,
            _ => Box::pin(futures::stream::iter([Err(lost())])),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[async_trait]
impl MultipartStore for Faulty {
    async fn create_multipart(&self, path: &Path) -> Result<MultipartId> {
        self.create_multipart_opts(path, PutMultipartOptions::default()).await
    }

    async fn create_multipart_opts(&self, path: &Path, opts: PutMultipartOptions) -> Result<MultipartId> {
        let work = async {
            let created = self.inner.create_multipart_opts(path, opts).await?;
            self.open_uploads.fetch_add(1, Ordering::Relaxed);
            Ok(created)
        };
        self.call("create", path.as_ref(), work).await
    }

    async fn put_part(&self, path: &Path, id: &MultipartId, part_idx: usize, data: PutPayload) -> Result<PartId> {
        self.call("part", path.as_ref(), self.inner.put_part(path, id, part_idx, data)).await
    }

    async fn complete_multipart(&self, path: &Path, id: &MultipartId, parts: Vec<PartId>) -> Result<PutResult> {
        let work = async {
            let done = self.inner.complete_multipart(path, id, parts).await?;
            self.open_uploads.fetch_sub(1, Ordering::Relaxed);
            Ok(done)
        };
        self.call("complete", path.as_ref(), work).await
    }

    async fn abort_multipart(&self, path: &Path, id: &MultipartId) -> Result<()> {
        let work = async {
            self.inner.abort_multipart(path, id).await?;
            self.open_uploads.fetch_sub(1, Ordering::Relaxed);
            Ok(())
        };
        self.call("abort", path.as_ref(), work).await
    }
}
