//! What any [`Source`] must keep to, checked from outside.
//!
//! The suite opens the source as a first start does, reads every split, and then reads again from many of the positions
//! it was given, each time with a newly opened source, as a restart does. It holds that
//!
//! * it says which input it is, and the same when it is asked or opened again;
//! * split ids are unique, and parents are splits that were found;
//! * going on after any position gives exactly the records that remain, with the positions they had before; where the
//!   borders of the batches lie may differ;
//! * a position survives being stored as text;
//! * a split ends once: after its end there is its end, never another record;
//! * a position that the source never gave is an error, and no panic.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::source::{
    Discovery, Enumerator, KnownSplits, Position, RawBatch, Reader, Source, SourceContext, Split, SplitRecord,
    SplitStatus,
};
use crate::vocabulary::{Incarnation, SplitId, StepName};

/// A record as the suite compares it: bytes, position, fault.
type Seen = (Vec<u8>, String, Option<String>);

/// The suite with its settings.
///
/// # Examples
/// ```no_run
/// # async fn check(files: impl shardflow::source::Source) -> shardflow::Result<()> {
/// use shardflow::testing::source::SourceSuite;
///
/// let checked = SourceSuite::new().check(&files).await?;
/// assert!(checked.resumptions > 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SourceSuite {
    patience: Duration,
    resumptions: usize,
    open_ended: BTreeMap<SplitId, usize>,
}

/// What the suite looked at, so that a test can see that it was not nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceChecked {
    /// Splits that were found and read.
    pub splits: usize,
    /// Records of all splits together.
    pub records: usize,
    /// How many times a split was read again from a position inside it.
    pub resumptions: usize,
}

impl Default for SourceSuite {
    fn default() -> Self {
        Self::new()
    }
}

impl SourceSuite {
    /// The suite with its defaults: 30 s of patience for each read of a split, up to 64 resumptions a split.
    #[must_use]
    pub fn new() -> Self {
        Self { patience: Duration::from_secs(30), resumptions: 64, open_ended: BTreeMap::new() }
    }

    /// How long one read of a whole split may take before it counts as stuck.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// From how many positions a split, at most, is read again; they are spread evenly over the split.
    #[must_use]
    pub fn resumptions(mut self, most: usize) -> Self {
        self.resumptions = most.max(1);
        self
    }

    /// `split` does not end by itself: the suite stops reading it after `records` records.
    #[must_use]
    pub fn stop_after(mut self, split: impl Into<SplitId>, records: usize) -> Self {
        self.open_ended.insert(split.into(), records);
        self
    }

    /// Runs the suite on `source`, which must hold the same records throughout. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// Says which rule the source broke, in which split and from which position; or what the source itself reported.
    pub async fn check(&self, source: &dyn Source) -> Result<SourceChecked> {
        let identity = source.identity();
        if identity.is_empty() || identity != source.identity() {
            return Err(Error::source(format!(
                "the source does not conform: its identity \"{identity}\" names nothing"
            )));
        }
        let mut first = open(source, KnownSplits::new(), true).await?;
        let found = first.discover().await?;
        check_splits(&found)?;
        let known = known(&found);
        if open(source, known.clone(), false).await?.input() != first.input() {
            return Err(Error::source("the source does not conform: opened again it says that it is another input"));
        }
        let mut checked = SourceChecked { splits: found.splits.len(), ..SourceChecked::default() };
        for split in &found.splits {
            let (seen, marks) = self.read(&mut *first, &split.id, &split.start, 0).await?;
            checked.records = checked.records.saturating_add(seen.len());
            let stride = marks.len().div_ceil(self.resumptions).max(1);
            for (position, before) in marks.iter().rev().step_by(stride) {
                self.resume(source, &known, split, position, &seen, *before).await?;
                checked.resumptions = checked.resumptions.saturating_add(1);
            }
        }
        self.refuse_nonsense(&mut *first, &found).await?;
        Ok(checked)
    }

    /// Reads a split's rest from `position` in a newly opened source; it must equal what remained at the first reading.
    async fn resume(
        &self,
        source: &dyn Source,
        known: &KnownSplits,
        split: &Split,
        position: &Position,
        seen: &[Seen],
        before: usize,
    ) -> Result<()> {
        let stored = Position::new(position.as_str());
        let mut known = known.clone();
        if let Some(record) = known.get_mut(&split.id) {
            record.position = stored.clone();
        }
        let mut again = open(source, known, false).await?;
        // A restart looks for splits before it opens those it knows.
        check_splits(&again.discover().await?)?;
        let (rest, _) = self.read(&mut *again, &split.id, &stored, before).await?;
        let expected = seen.get(before..).unwrap_or_default();
        if rest == expected {
            return Ok(());
        }
        let at = rest.iter().zip(expected).take_while(|(a, b)| a == b).count();
        let describe = |seen: Option<&Seen>| match seen {
            Some((bytes, position, _)) => format!("{:?} at {position}", String::from_utf8_lossy(bytes)),
            None => "nothing".to_owned(),
        };
        Err(broken(
            &split.id,
            format!(
                "going on after \"{stored}\" gave {} records where {} remained; record {at} is {}, was {}",
                rest.len(),
                expected.len(),
                describe(rest.get(at)),
                describe(expected.get(at))
            ),
        ))
    }

    /// Reads a split from `position` to its end, or as far as the settings say, `before` records being behind it.
    /// Gives the records and each position with how many records were read before it.
    async fn read(
        &self,
        enumerator: &mut dyn Enumerator,
        split: &SplitId,
        position: &Position,
        before: usize,
    ) -> Result<(Vec<Seen>, Vec<(Position, usize)>)> {
        let mut reader = enumerator.open(split, position)?;
        let most = self.open_ended.get(split).map(|records| records.saturating_sub(before));
        let mut seen: Vec<Seen> = Vec::new();
        let mut marks = vec![(position.clone(), before)];
        loop {
            if most.is_some_and(|most| seen.len() >= most) {
                // Beyond what the settings name there is nothing to compare.
                seen.truncate(most.unwrap_or_default());
                marks.retain(|(_, behind)| behind.saturating_sub(before) <= seen.len());
                return Ok((seen, marks));
            }
            let Some(batch) = self.next(&mut *reader, split).await? else { break };
            take(&batch, &mut seen);
            marks.push((batch.after().clone(), before.saturating_add(seen.len())));
        }
        if self.next(&mut *reader, split).await?.is_some() {
            return Err(broken(split, "it gave a batch after its end"));
        }
        if let Some(most) = most {
            return Err(broken(split, format!("it ended {} records early", most.saturating_sub(seen.len()))));
        }
        Ok((seen, marks))
    }

    async fn next(&self, reader: &mut dyn Reader, split: &SplitId) -> Result<Option<RawBatch>> {
        tokio::time::timeout(self.patience, poll_fn(|cx| reader.poll_read(cx)))
            .await
            .unwrap_or_else(|_| Err(broken(split, format!("it gave nothing for {:?}", self.patience))))
    }

    /// A stored position that the source never gave (a damaged snapshot, another source's) is refused.
    async fn refuse_nonsense(&self, enumerator: &mut dyn Enumerator, found: &Discovery) -> Result<()> {
        let Some(split) = found.splits.first() else { return Ok(()) };
        for nonsense in ["", "no position at all", "-1", "\u{0}"] {
            if let Ok(mut reader) = enumerator.open(&split.id, &Position::new(nonsense))
                && self.next(&mut *reader, &split.id).await.is_ok()
            {
                return Err(broken(&split.id, format!("it read from the position {nonsense:?}, which it never gave")));
            }
        }
        Ok(())
    }
}

fn take(batch: &RawBatch, seen: &mut Vec<Seen>) {
    for (index, record) in batch.records().enumerate() {
        seen.push((record.to_vec(), batch.position(index), batch.fault(index).map(ToOwned::to_owned)));
    }
}

async fn open(source: &dyn Source, known: KnownSplits, first_start: bool) -> Result<Box<dyn Enumerator>> {
    let context = SourceContext {
        job: "conformance".to_owned(),
        step: StepName::new("source"),
        runtime: tokio::runtime::Handle::current(),
        known,
        first_start,
        incarnation: Incarnation::new(1),
        state_id: "conformance".to_owned(),
    };
    source.open(context).await
}

fn check_splits(found: &Discovery) -> Result<()> {
    let mut ids = BTreeMap::new();
    for split in &found.splits {
        if ids.insert(&split.id, ()).is_some() {
            return Err(broken(&split.id, "it was found twice in one look"));
        }
    }
    for split in &found.splits {
        if let Some(parent) = split.parents.iter().find(|parent| !ids.contains_key(parent)) {
            return Err(broken(&split.id, format!("its parent \"{parent}\" was not found, so it would wait for ever")));
        }
    }
    Ok(())
}

fn known(found: &Discovery) -> KnownSplits {
    let record = |split: &Split| SplitRecord {
        parents: split.parents.clone(),
        position: split.start.clone(),
        status: SplitStatus::Reading,
    };
    found.splits.iter().map(|split| (split.id.clone(), record(split))).collect()
}

fn broken(split: &SplitId, what: impl AsRef<str>) -> Error {
    Error::source(format!("split \"{split}\" does not conform: {}", what.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll};

    use super::*;
    use crate::source::BoxFuture;

    /// Ten records in one split, two a batch, with the faults that a test asks for.
    #[derive(Debug, Clone, Copy, Default)]
    struct Ten {
        resumes_at_the_last_record: bool,
        ends_twice: bool,
        waits_for_a_stranger: bool,
        takes_any_position: bool,
    }

    impl Source for Ten {
        fn identity(&self) -> String {
            "ten".to_owned()
        }

        fn open(&self, _context: SourceContext) -> BoxFuture<'_, Result<Box<dyn Enumerator>>> {
            let enumerator: Box<dyn Enumerator> = Box::new(*self);
            Box::pin(async move { Ok(enumerator) })
        }
    }

    impl Enumerator for Ten {
        fn interval(&self) -> Duration {
            Duration::from_secs(1)
        }

        fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
            let parents = if self.waits_for_a_stranger { vec![SplitId::new("stranger")] } else { Vec::new() };
            let split = Split::new("ten", parents, Position::new("0"));
            Box::pin(async move { Ok(Discovery { splits: vec![split], complete: true }) })
        }

        fn open(&mut self, _split: &SplitId, position: &Position) -> Result<Box<dyn Reader>> {
            let parsed = position.as_str().parse::<usize>();
            if parsed.is_err() && !self.takes_any_position {
                return Err(Error::source("no position"));
            }
            let mut next = parsed.unwrap_or(0);
            if self.resumes_at_the_last_record {
                next = next.saturating_sub(1);
            }
            Ok(Box::new(TenReader { faults: *self, next, ends: 0 }))
        }
    }

    struct TenReader {
        faults: Ten,
        next: usize,
        ends: usize,
    }

    impl Reader for TenReader {
        fn poll_read(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
            if self.next >= 10 {
                self.ends += 1;
                let is_again = self.faults.ends_twice && self.ends > 1;
                return Poll::Ready(Ok(is_again.then(|| RawBatch::with_positions(Position::new("10")))));
            }
            let end = (self.next + 2).min(10);
            let mut batch = RawBatch::with_positions(Position::new(end.to_string()));
            for n in self.next..end {
                batch.push(format!("record {n}").as_bytes(), n);
            }
            self.next = end;
            Poll::Ready(Ok(Some(batch)))
        }
    }

    async fn verdict(source: Ten) -> String {
        SourceSuite::new().check(&source).await.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[tokio::test]
    async fn a_source_that_keeps_to_the_port_conforms() {
        let checked = SourceSuite::new().check(&Ten::default()).await.unwrap();
        assert_eq!(checked, SourceChecked { splits: 1, records: 10, resumptions: 6 });
        let checked = SourceSuite::new().resumptions(1).stop_after("ten", 4).check(&Ten::default()).await.unwrap();
        assert_eq!(checked, SourceChecked { splits: 1, records: 4, resumptions: 1 });
    }

    #[tokio::test]
    async fn what_breaks_the_port_is_said() {
        let twice = verdict(Ten { resumes_at_the_last_record: true, ..Ten::default() }).await;
        assert!(twice.contains("going on after \"10\" gave 1 records where 0 remained"), "{twice}");
        let end = verdict(Ten { ends_twice: true, ..Ten::default() }).await;
        assert!(end.contains("a batch after its end"), "{end}");
        let parent = verdict(Ten { waits_for_a_stranger: true, ..Ten::default() }).await;
        assert!(parent.contains("its parent \"stranger\" was not found"), "{parent}");
        let nonsense = verdict(Ten { takes_any_position: true, ..Ten::default() }).await;
        assert!(nonsense.contains("it read from the position \"\""), "{nonsense}");
    }

    #[tokio::test]
    async fn a_split_that_ends_before_it_should_is_said() {
        let early = SourceSuite::new().stop_after("ten", 11).check(&Ten::default()).await.unwrap_err().to_string();
        assert!(early.contains("it ended 1 records early"), "{early}");
    }
}
