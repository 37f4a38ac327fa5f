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
    let split = |(id, parents): &(&str, &[&str])| {
        Split::new(*id, parents.iter().map(SplitId::new).collect(), Position::new("0"))
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
fn an_ended_split_holds_time_until_the_children_that_its_end_named_are_read() {
    let hub = hub(1);
    let mut dealer = dealer(&hub);
    list(&mut dealer, &[("parent", &[]), ("neighbour", &[])]);
    let child =
        |id: &str, parents: &[&str]| Split::new(id, parents.iter().map(SplitId::new).collect(), Position::new("0"));
    let merged = child("merged", &["parent", "neighbour"]);
    let stored = hub.announce(&"parent".into(), vec![merged.clone()]);
    assert_eq!(stored, [(SplitId::new("merged"), merged.record())]);
    end(&mut dealer, "parent");
    // A listing that lags.
    list(&mut dealer, &[]);
    dealer.retire();
    assert!(dealer.unretired.contains(&"parent".into()), "its child waits for the other parent");
    assert_eq!(hub.announce(&"neighbour".into(), vec![merged]), [], "stored already");
    end(&mut dealer, "neighbour");
    dealer.adopt(None).unwrap();
    dealer.retire();
    assert!(dealer.unretired.is_empty());
    assert_eq!(dealer.load, [1]);
}

#[test]
fn a_split_is_stored_once_whether_a_listing_or_an_end_names_it_first() {
    let hub = hub(1);
    let mut dealer = dealer(&hub);
    let split = |id: &str| Split::new(id, Vec::new(), Position::new("0"));
    assert_eq!(dealer.discovered(&[split("a"), split("b")]).len(), 2);
    assert_eq!(hub.announce(&"a".into(), vec![split("b"), split("c")]).len(), 1);
    assert_eq!(dealer.discovered(&[split("a"), split("b"), split("c"), split("d")]).len(), 1);
}
