//! What the dealer decides, without a dataflow.

use std::task::{Context, Poll};

use super::*;
use crate::event_time::WatermarkBoard;
use crate::source::{BoxFuture, Discovery, Position, RawBatch, Reader};
use crate::vocabulary::StepName;

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
    SourceHub::new(StepName::new("source"), "input".into(), workers, WatermarkBoard::default(), None)
}

fn dealer(hub: &SourceHub) -> Dealer<'_> {
    let reports = lock(&hub.receiver).take().unwrap();
    let context = Box::leak(Box::new(JobContext::bare()));
    Dealer::new(hub, context, Box::new(Silent), KnownSplits::new(), reports)
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

/// How many splits each worker has that have not ended.
fn counts(dealer: &Dealer<'_>) -> Vec<usize> {
    let of = |worker| dealer.placed.values().filter(|placed| placed.worker == worker).count();
    (0..dealer.hub.workers()).map(of).collect()
}

fn end(dealer: &mut Dealer<'_>, split: &str) {
    dealer.note_end(SplitId::new(split), Epoch::new(1));
}

#[test]
fn a_new_split_goes_to_the_worker_with_the_fewest_that_have_not_ended() {
    let hub = hub(2);
    let mut dealer = dealer(&hub);
    list(&mut dealer, &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])]);
    assert_eq!(counts(&dealer), [2, 2]);
    end(&mut dealer, "b");
    end(&mut dealer, "d");
    end(&mut dealer, "d");
    assert_eq!(counts(&dealer), [2, 0], "an end that is told twice counts once");
    list(&mut dealer, &[("e", &[]), ("f", &[])]);
    assert_eq!(counts(&dealer), [2, 2]);
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
    assert_eq!(counts(&dealer), [1]);
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

#[test]
fn a_hot_split_is_released_and_goes_on_elsewhere_in_a_later_epoch() {
    let hub = hub(2);
    let mut dealer = dealer(&hub);
    list(&mut dealer, &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])]);
    (0..2).for_each(|worker| drop(hub.receive(worker)));
    // The first worker has a and c.
    for (split, bytes) in [("a", 9_000_000), ("b", 1_000), ("c", 8_000_000), ("d", 1_000)] {
        dealer.read[&SplitId::new(split)].store(bytes, Ordering::Relaxed);
    }
    dealer.measured_at -= dealer.context.rebalance;
    dealer.rebalance();
    let released: Vec<_> = hub.receive(0).into_iter().collect();
    let [HubMessage::Release(split)] = released.as_slice() else { panic!("{} messages", released.len()) };
    assert_eq!(split.as_str(), "c", "the one that leaves the two closest");
    let record = SplitRecord { parents: Vec::new(), position: Position::new("7"), status: SplitStatus::Reading };
    dealer.note(Report::Released { split: split.clone(), record: record.clone(), epoch: Epoch::new(5) }).unwrap();
    let opened: Vec<_> = hub.receive(1).into_iter().collect();
    let [HubMessage::Open(opened)] = opened.as_slice() else { panic!("{} messages", opened.len()) };
    assert_eq!((opened.split.as_str(), &opened.record, opened.after), ("c", &record, Some(Epoch::new(5))));
    assert_eq!(counts(&dealer), [1, 3]);
}

#[test]
fn a_split_that_ends_while_it_is_to_move_is_not_opened_again() {
    let hub = hub(2);
    let mut dealer = dealer(&hub);
    list(&mut dealer, &[("a", &[])]);
    dealer.moving.insert(SplitId::new("a"), 1);
    end(&mut dealer, "a");
    assert_eq!(counts(&dealer), [0, 0]);
    assert!(dealer.moving.is_empty() && hub.receive(1).is_empty());
}
