//! A whole job: usage in, a charge for each account and minute out, with late uses, over two starts.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::types::ScalarAttributeType;
use serde::{Deserialize, Serialize};
use shardflow::sink::{Refused, at_least_once};
use shardflow::testing::{Collected, Feed};
use shardflow::{EventTime, Job, Lag, hours, json, minutes, seconds, tumbling};
use shardflow_sinks::DynamoDb;
use shardflow_sinks::dynamodb::Newest;

use crate::stand::{Stand, number, text};
use shardflow_stand_ins::fault_proxy::{Fault, FaultProxy, Plan};

#[derive(Clone, Serialize, Deserialize)]
struct Usage {
    account: String,
    qty: u64,
    at: u64,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct Total {
    total: u64,
    records: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Charge {
    account: String,
    window: u64,
    total: u64,
    records: u64,
}

fn charges(to: &DynamoDb) -> Newest<Charge> {
    to.clone().newest_by("records", |charge: &Charge| charge.records)
}

fn run(stand: &Stand, table: &str, proxy: &FaultProxy, feed: &Feed, state: &std::path::Path) {
    let to = stand.to(table, Some(proxy)).key("account").sort_key("window");
    let (feed, refused) = (feed.clone(), Collected::<Refused>::new());
    let seen = refused.clone();
    Job::named("metering")
        .workers(2)
        .state(state)
        .epoch(std::time::Duration::from_millis(20))
        .run(move |flow| {
            let (usage, rejected) = flow.source("usage", feed.clone()).decode(json::<Usage>());
            rejected.sink("rejected", Collected::new());
            usage
                .event_time(|usage| EventTime::from_millis(usage.at), Lag::of(seconds(1)))
                .key_by(|usage| usage.account.clone())
                .window(tumbling(minutes(1)).grace(hours(1)))
                .late_to("late", Collected::new())
                .fold("totals", Total::default, |total, usage| {
                    (total.total, total.records) = (total.total + usage.qty, total.records + 1);
                })
                .map(|result| Charge {
                    account: result.key,
                    window: result.window.start().as_millis(),
                    total: result.value.total,
                    records: result.value.records,
                })
                .sink("charges", at_least_once(charges(&to)).rejected_to(refused.clone()));
        })
        .unwrap();
    assert!(seen.values().is_empty(), "{:?}", seen.values());
}

#[test]
fn a_metering_job_leaves_exact_charges() {
    Stand::each(|stand| {
        let table = stand.table_of(&[("account", ScalarAttributeType::S), ("window", ScalarAttributeType::N)]);
        let (proxy, feed, state) = (stand.proxy(), Feed::new(), tempfile::tempdir().unwrap());
        let faults = [(Fault::ResetAfter, 0.02), (Fault::Throttle, 0.02), (Fault::Error500, 0.02)];
        proxy.inject(Plan::random(Plan::seed(), &faults).only(&["PutItem"]).rule());
        let mut reference: BTreeMap<(String, u64), (u64, u64)> = BTreeMap::new();
        for n in 0..3_000_u64 {
            // Two minutes back now and then: late, and within the grace.
            let at = 10_000_000 + n * 200 - if n % 11 == 0 { 120_000 } else { 0 };
            let usage = Usage { account: format!("account-{}", n % 7), qty: n, at };
            feed.push(&format!("split-{}", n % 3), serde_json::to_vec(&usage).unwrap());
            let (total, records) = reference.entry((usage.account, at - at % 60_000)).or_default();
            (*total, *records) = (*total + n, *records + 1);
        }
        feed.close();
        run(stand, &table, &proxy, &feed, state.path());
        let found = || -> BTreeMap<(String, u64), (u64, u64)> {
            let of = |item: &crate::stand::Item| {
                (
                    (text(item, "account").to_owned(), number(item, "window")),
                    (number(item, "total"), number(item, "records")),
                )
            };
            stand.scan(&table).iter().map(of).collect()
        };
        assert_eq!(found(), reference);
        // The same again from the beginning, without its state: nothing changes.
        let fresh = tempfile::tempdir().unwrap();
        run(stand, &table, &proxy, &feed, fresh.path());
        assert_eq!(found(), reference);
    });
}
