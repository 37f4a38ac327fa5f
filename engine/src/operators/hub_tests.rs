//! What the hub decides, without a dataflow.

use std::task::{Context, Poll};

use super::*;
use crate::source::{BoxFuture, Discovery, Position, RawBatch, Split};

/// Opens readers that never have anything.
struct Silent;

impl Enumerator for Silent {
    fn interval(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn discover(&mut self) -> BoxFuture<'_, Result<Discovery>> {
        Box::pin(async { Ok(Discovery::default()) })
    }

    fn open(&mut self, _split: &SplitId, _position: &Position) -> Result<Box<dyn Reader>> {
        Ok(Box::new(Silent))
    }
}

impl Reader for Silent {
    fn poll_read(&mut self, _cx: &mut Context<'_>) -> Poll<Result<Option<RawBatch>>> {
        Poll::Pending
    }
}

fn hub(workers: usize) -> SourceHub {
    SourceHub::new(StepName::new("source"), workers, WatermarkBoard::default(), None)
}

fn dealer(hub: &SourceHub) -> Dealer<'_> {
    let ended = lock(&hub.receiver).take().unwrap();
    let context = Box::leak(Box::new(JobContext::bare()));
    Dealer::new(hub, context, Box::new(Silent), KnownSplits::new(), ended)
}

#[test]
fn a_split_that_must_come_after_an_epoch_ends_that_epoch_early() {
    let hub = hub(1);
    let mut dealer = dealer(&hub);
    list(&mut dealer, &[("parent", &[]), ("child", &["parent"])]);
    assert!(!dealer.context.take_hurry());
    end(&mut dealer, "parent");
    dealer.adopt(None).unwrap();
    assert!(dealer.context.take_hurry());
}

#[test]
fn splits_that_are_their_own_ancestors_are_refused() {
    let hub = hub(1);
    let mut dealer = dealer(&hub);
    list(&mut dealer, &[("a", &["b"]), ("b", &["a"]), ("c", &[])]);
    let error = dealer.refuse_circles().unwrap_err().to_string();
    assert!(error.contains("\"a\"") && error.contains("\"b\"") && !error.contains("\"c\""), "{error}");
}

/// Lists splits, each given with its parents, and opens what may be opened.
fn list(dealer: &mut Dealer<'_>, splits: &[(&str, &[&str])]) {
    let split = |(id, parents): &(&str, &[&str])| Split {
        id: SplitId::new(id),
        parents: parents.iter().map(SplitId::new).collect(),
        start: Position::new("0"),
    };
    dealer.lineage.discovered(&splits.iter().map(split).collect::<Vec<_>>());
    dealer.adopt(None).unwrap();
}

fn end(dealer: &mut Dealer<'_>, split: &str) {
    dealer.note_end(Ended { split: SplitId::new(split), epoch: Epoch::new(1) });
}

#[test]
fn a_new_split_goes_to_the_worker_with_the_fewest_that_have_not_ended() {
    let hub = hub(2);
    let mut dealer = dealer(&hub);
    list(&mut dealer, &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])]);
    assert_eq!(dealer.load, [2, 2]);
    end(&mut dealer, "b");
    end(&mut dealer, "d");
    end(&mut dealer, "d");
    assert_eq!(dealer.load, [2, 0], "an end that is told twice counts once");
    list(&mut dealer, &[("e", &[]), ("f", &[])]);
    assert_eq!(dealer.load, [2, 2]);
}

#[test]
fn an_ended_split_holds_time_until_a_listing_has_the_children_that_its_end_named() {
    let hub = hub(1);
    let mut dealer = dealer(&hub);
    list(&mut dealer, &[("parent", &[])]);
    hub.announce(&"parent".into(), vec!["left".into(), "right".into()]);
    end(&mut dealer, "parent");
    dealer.retire(false, Instant::now());
    list(&mut dealer, &[("left", &["parent"])]);
    dealer.retire(false, Instant::now());
    assert!(dealer.unretired.contains_key(&"parent".into()), "one of its children is missing yet");
    list(&mut dealer, &[("right", &["parent"])]);
    dealer.retire(false, Instant::now());
    assert!(dealer.unretired.is_empty());
}

#[test]
fn children_that_never_come_are_not_waited_for_for_ever() {
    let hub = hub(1);
    let mut dealer = dealer(&hub);
    list(&mut dealer, &[("parent", &[]), ("bounded", &[])]);
    for split in ["parent", "bounded"] {
        hub.announce(&split.into(), vec!["ghost".into()]);
        end(&mut dealer, split);
    }
    let now = Instant::now();
    dealer.retire(false, now + CHILDREN_PATIENCE / 2);
    assert_eq!(dealer.unretired.len(), 2);
    dealer.retire(false, now + CHILDREN_PATIENCE);
    assert!(dealer.unretired.is_empty());

    hub.announce(&"parent".into(), vec!["ghost".into()]);
    end(&mut dealer, "parent");
    dealer.retire(true, now);
    assert!(dealer.unretired.is_empty(), "a complete listing has all that there will ever be");
}
