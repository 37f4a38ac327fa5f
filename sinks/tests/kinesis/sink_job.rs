//! A whole job: from a source in memory into a stream.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use shardflow::sink::Refused;
use shardflow::testing::{Collected, Feed};
use shardflow::{EventTime, Job, Lag, json, seconds};
use shardflow_sinks::kinesis;
use shardflow_sinks::producer::Aggregation;
use tokio::runtime::Runtime;

use crate::sdk_config;
use crate::support::streams::{STREAM, Stream, by_key};

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Usage {
    account: String,
    n: u64,
}

/// What leaves: the number that each record of an account was counted as.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Counted {
    account: String,
    n: u64,
}

#[test]
fn a_job_writes_what_it_has_made_and_each_accounts_in_order() {
    let runtime = Runtime::new().unwrap();
    let stream = runtime.block_on(Stream::embedded(3));
    let feed = Feed::new();
    for n in 0..2_000_u64 {
        let usage = Usage { account: format!("account-{}", n % 20), n: n / 20 };
        feed.push("split-0", serde_json::to_vec(&usage).unwrap());
    }
    feed.close();
    let (source, endpoint) = (feed.clone(), stream.endpoint.clone());
    let refused = Collected::<Refused>::new();
    let rejected = refused.clone();
    let state = tempfile::tempdir().unwrap();
    Job::named("counts")
        .workers(2)
        .state(state.path())
        .run(move |flow| {
            let (usage, broken) = flow.source("usage", source.clone()).decode(json::<Usage>());
            broken.sink("broken", Collected::new());
            usage
                .event_time(|usage| EventTime::from_millis(usage.n), Lag::of(seconds(1)))
                .key_by(|usage: &Usage| usage.account.clone())
                .running()
                .fold("counted", Counted::default, |counted, usage| {
                    *counted = Counted { account: usage.account.clone(), n: usage.n };
                })
                .map(|result| result.value)
                .sink(
                    "counts",
                    kinesis(STREAM)
                        .partition_key(|counted: &Counted| counted.account.clone())
                        .encoded_by(|counted| Ok::<_, String>(counted.n.to_string()))
                        .sdk_config(sdk_config(&endpoint, None))
                        .linger(Duration::from_millis(10))
                        .ordered()
                        .aggregate(Aggregation::default())
                        .rejected_to(rejected.clone()),
                );
        })
        .unwrap();
    let by_account = by_key(&runtime.block_on(stream.read()));
    assert_eq!(by_account.len(), 20);
    for (account, numbers) in by_account {
        assert!(numbers.is_sorted() && numbers.last() == Some(&99), "{account}: {numbers:?}");
    }
    assert!(refused.values().is_empty());
}
