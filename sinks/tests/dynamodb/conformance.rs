//! The engine's own conformance suite, on both servers, with and without faults.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shardflow::sink::{Sink, at_least_once};
use shardflow::testing::sink::{Promise, conforms};

use crate::stand::{Stand, item, n, number, s};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy, Plan};

#[derive(Clone, Serialize, Deserialize)]
struct Numbered {
    id: String,
    number: u64,
}

fn record(number: u64) -> Numbered {
    Numbered { id: format!("record-{number}"), number }
}

/// A table of its own, and perhaps a proxy before it.
struct Place<'a> {
    stand: &'a Stand,
    table: String,
    proxy: Option<FaultProxy>,
}

impl Place<'_> {
    fn visible(&self) -> Vec<u64> {
        self.stand.scan(&self.table).iter().map(|item| number(item, "number")).collect()
    }

    /// What is deleted is visible where it is gone.
    fn visible_with_deleted(&self) -> Vec<u64> {
        let there: BTreeSet<u64> = self.visible().into_iter().collect();
        let gone = (0..MOST).filter(|number| is_deleted(*number) && !there.contains(number));
        gone.chain(there.iter().copied().filter(|number| !is_deleted(*number))).collect()
    }
}

/// More records than a course has.
const MOST: u64 = 600;

/// Records that delete what stands in the table from the beginning.
fn is_deleted(number: u64) -> bool {
    number % 3 == 1
}

fn check(stand: &Stand, faults: &[(Fault, f64)], sink: impl Fn(&Place<'_>) -> Box<dyn Sink<Numbered>>) {
    check_with(stand, faults, sink, |_| {}, Place::visible);
}

fn check_deleting(stand: &Stand, faults: &[(Fault, f64)]) {
    let fill = |place: &Place<'_>| {
        let deleted = (0..MOST).filter(|number| is_deleted(*number));
        let items = deleted.map(|number| item([("id", s(record(number).id)), ("number", n(number))]));
        place.stand.fill(&place.table, items);
    };
    check_with(stand, faults, deleting, fill, Place::visible_with_deleted);
}

fn check_with<'a>(
    stand: &'a Stand,
    faults: &[(Fault, f64)],
    sink: impl Fn(&Place<'a>) -> Box<dyn Sink<Numbered>>,
    prepare: impl Fn(&Place<'a>),
    visible: impl Fn(&Place<'a>) -> Vec<u64>,
) {
    let (seed, met) = (Plan::seed(), std::cell::Cell::new(0));
    let place = || {
        let proxy = (!faults.is_empty()).then(|| stand.proxy());
        if let Some(proxy) = &proxy {
            let plan = Plan::random(seed, faults).only(&["PutItem", "BatchWriteItem", "GetItem", "DescribeTable"]);
            proxy.inject(plan.rule());
        }
        let place = Place { stand, table: stand.table(), proxy };
        prepare(&place);
        place
    };
    let visible = |place: &Place<'a>| {
        met.set(met.get() + place.proxy.as_ref().map_or(0, |proxy| proxy.seen().faults()));
        visible(place)
    };
    conforms(Promise::AtLeastOnce, place, sink, record, visible);
    assert!(faults.is_empty() || met.get() > 10, "the faults did not happen");
}

fn guarded(place: &Place<'_>) -> Box<dyn Sink<Numbered>> {
    let to = place.stand.to(&place.table, place.proxy.as_ref());
    Box::new(at_least_once(to.newest_by("version", |record: &Numbered| record.number)))
}

fn by_start(place: &Place<'_>) -> Box<dyn Sink<Numbered>> {
    Box::new(at_least_once(place.stand.to(&place.table, place.proxy.as_ref()).newest::<Numbered>("version")))
}

fn batches(place: &Place<'_>) -> Box<dyn Sink<Numbered>> {
    Box::new(at_least_once(place.stand.to(&place.table, place.proxy.as_ref()).put()).batch_records(7))
}

fn deleting(place: &Place<'_>) -> Box<dyn Sink<Numbered>> {
    let to = place.stand.to(&place.table, place.proxy.as_ref());
    Box::new(at_least_once(to.put_or_delete(|record: &Numbered| is_deleted(record.number))).batch_records(7))
}

/// Every kind, each now and then.
const FAULTS: [(Fault, f64); 8] = [
    (Fault::Throttle, 0.015),
    (Fault::Refused("ThrottlingException"), 0.015),
    (Fault::Error500, 0.015),
    (Fault::Error503, 0.015),
    (Fault::ResetBefore, 0.015),
    (Fault::ResetAfter, 0.015),
    (Fault::ResetMidBody, 0.015),
    (Fault::Truncated, 0.015),
];

#[test]
fn guarded_writes_conform() {
    Stand::each(|stand| check(stand, &[], guarded));
    Stand::each(|stand| check(stand, &[], by_start));
}

#[test]
fn batches_conform() {
    Stand::each(|stand| check(stand, &[], batches));
    Stand::each(|stand| check_deleting(stand, &[]));
}

#[test]
fn guarded_writes_conform_while_calls_fail_in_every_way() {
    Stand::each(|stand| check(stand, &FAULTS, guarded));
    Stand::each(|stand| check(stand, &FAULTS, by_start));
}

#[test]
fn batches_conform_while_calls_fail_in_every_way_and_items_are_put_off() {
    let faults =
        [&FAULTS[..], &[(Fault::Unprocessed { every: 2 }, 0.08), (Fault::Unprocessed { every: 1 }, 0.02)]].concat();
    Stand::each(|stand| check(stand, &faults, batches));
    Stand::each(|stand| check_deleting(stand, &faults));
}
