//! A source that fails or panics, wherever it is called, ends the job with an error that names the source.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use shardflow::source::{BoxFuture, Discovery, Enumerator, Position, RawBatch, Reader, Source, SourceContext};
use shardflow::testing::{Collected, Feed};
use shardflow::vocabulary::SplitId;
use shardflow::{Error, ErrorKind, Result, lines};
use tempfile::tempdir;

use crate::support::{job, run};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Open,
    Discover,
    OpenSplit,
    Read,
}

/// A feed that breaks at one place.
#[derive(Clone)]
struct Broken {
    feed: Feed,
    place: Place,
    panics: bool,
    mended: Arc<AtomicBool>,
}

impl Broken {
    fn pass(&self, place: Place) -> Result<()> {
        if place != self.place || self.mended.load(Ordering::SeqCst) {
            return Ok(());
        }
        assert!(!self.panics, "the source panics in {place:?}");
        Err(Error::source(format!("no route to host in {place:?}")))
    }
}

impl Source for Broken {
    fn identity(&self) -> String {
        "broken".to_owned()
    }

    fn open(&self, context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
        Box::pin(async move {
            self.pass(Place::Open)?;
            let inner = Source::open(&self.feed, context).await?;
            Ok(Box::new(BrokenEnumerator { broken: self.clone(), inner }) as Box<dyn Enumerator>)
        })
    }
}

struct BrokenEnumerator {
    broken: Broken,
    inner: Box<dyn Enumerator>,
}

impl Enumerator for BrokenEnumerator {
    fn interval(&self) -> Duration {
        self.inner.interval()
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        match self.broken.pass(Place::Discover) {
            Ok(()) => self.inner.discover(),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }

    fn open(&mut self, split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
        self.broken.pass(Place::OpenSplit)?;
        Ok(Box::new(BrokenReader { broken: self.broken.clone(), inner: self.inner.open(split, position)? }))
    }
}

struct BrokenReader {
    broken: Broken,
    inner: Box<dyn Reader>,
}

impl Reader for BrokenReader {
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        self.broken.pass(Place::Read)?;
        self.inner.poll_read(cx)
    }
}

#[test]
fn a_source_that_breaks_at_any_place_ends_the_job_in_its_name() {
    for place in [Place::Open, Place::Discover, Place::OpenSplit, Place::Read] {
        for panics in [false, true] {
            let feed = Feed::new();
            feed.push("s", "a");
            feed.close();
            let (seen, state) = (Collected::new(), tempdir().unwrap());
            let broken = Broken { feed, place, panics, mended: Arc::default() };
            let program = |broken: Broken, seen: Collected<String>| {
                move |flow: &shardflow::Flow<'_>| {
                    flow.source("letters", broken.clone()).decode(lines()).0.sink("seen", seen.clone());
                }
            };
            let error = run(job("sources", state.path(), 2), program(broken.clone(), seen.clone())).unwrap_err();
            let (kind, text) = match panics {
                false => (ErrorKind::Source, format!("step \"letters\": no route to host in {place:?}")),
                true => (ErrorKind::User, format!("step \"letters\": panicked: the source panics in {place:?}")),
            };
            assert_eq!((error.kind(), error.to_string()), (kind, text));
            broken.mended.store(true, Ordering::SeqCst);
            run(job("sources", state.path(), 1), program(broken, seen.clone())).unwrap();
            assert_eq!(seen.values(), ["a"], "{place:?}");
        }
    }
}
