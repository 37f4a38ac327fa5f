//! What a start finds: a table that fits, one that does not, one that comes late, or none.

use std::time::{Duration, Instant};

use aws_sdk_dynamodb::types::ScalarAttributeType;
use serde_json::Value;
use shardflow::sink::{Sink, at_least_once};
use shardflow::{Error, ErrorKind, Result};
use shardflow_sinks::{DynamoDb, dynamodb};
use tokio::runtime::Runtime;

use crate::stand::{Stand, config, context};
use shardflow_stand_ins::fault_proxy::Fault;
use shardflow_stand_ins::servers::free_ports;

fn try_start(runtime: &Runtime, table: DynamoDb) -> Result<()> {
    let sink = at_least_once(table.put());
    Sink::<Value>::committer(&sink, &context(runtime, 1)).map(drop)
}

fn start(runtime: &Runtime, table: DynamoDb) -> Error {
    try_start(runtime, table).expect_err("it starts")
}

#[test]
fn a_table_that_does_not_fit_is_refused_and_told_how() {
    Stand::each(|stand| {
        let table = stand.table_of(&[("id", ScalarAttributeType::S), ("at", ScalarAttributeType::N)]);
        try_start(&stand.runtime, stand.to(&table, None).sort_key("at")).unwrap();
        for (to, why) in [
            (
                stand.to(&table, None),
                "it has the partition key \"id\" and sort key \"at\", and the sink the partition key \"id\" and no sort key",
            ),
            (stand.to(&table, None).key("at").sort_key("id"), "and the sink the partition key \"at\""),
            (stand.to("absent", None), "could not open table \"absent\" at http://127.0.0.1:"),
            (stand.to("absent", None), "there is no such table"),
        ] {
            let error = start(&stand.runtime, to);
            assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("charges")));
            assert!(error.to_string().contains(why), "{error}");
        }
    });
}

#[test]
fn a_table_that_is_being_made_is_waited_for() {
    let Some(stand) = Stand::dynalite(&["--createTableMs", "1500"]) else { return };
    let table = stand.new_table(&[("id", ScalarAttributeType::S)]);
    let begun = Instant::now();
    let error = start(&stand.runtime, stand.to(&table, None).connect_timeout(Duration::from_millis(300)));
    assert_eq!(error.kind(), ErrorKind::Sink);
    assert!(error.to_string().contains("it is being created"), "{error}");
    try_start(&stand.runtime, stand.to(&table, None)).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(1_000), "it was there at once");
}

#[test]
fn settings_that_cannot_work_are_refused_before_any_call() {
    let runtime = Runtime::new().unwrap();
    let to = |table: &str| dynamodb(table).key("id").sdk_config(config("http://127.0.0.1:1"));
    for (table, why) in [
        (to("a/b"), "no name of a DynamoDB table"),
        (to("charges").key(""), "a key attribute has no name"),
        (dynamodb("charges").sdk_config(config("http://127.0.0.1:1")), "a key attribute has no name"),
        (to("charges").sort_key(""), "a key attribute has no name"),
        (to("charges").endpoint("localhost"), "must begin with http://"),
        (to("charges").endpoint("http://user:SECRET-KEY@localhost"), "it holds a user name"),
        (to("charges").sdk_config(config("http://user:SECRET-KEY@localhost")), "it holds a user name"),
    ] {
        let error = start(&runtime, table);
        assert_eq!((error.kind(), error.step()), (ErrorKind::Config, Some("charges")));
        assert!(error.to_string().contains(why) && !error.to_string().contains("SECRET"), "{error}");
    }
    for attribute in ["", "id", "at"] {
        let sink = at_least_once(to("charges").sort_key("at").newest_by(attribute, |_: &Value| 1_u64));
        let error = sink.committer(&context(&runtime, 1)).err().expect("it starts");
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("none of the key's"), "{error}");
    }
}

#[test]
fn a_service_that_is_not_there_is_waited_for_as_long_as_is_set_and_one_that_refuses_is_not() {
    let runtime = Runtime::new().unwrap();
    let [port] = free_ports();
    let table = dynamodb("charges").key("id").sdk_config(config(&format!("http://127.0.0.1:{port}")));
    let error = start(&runtime, table.connect_timeout(Duration::from_millis(700)));
    assert_eq!(error.kind(), ErrorKind::Sink);
    assert!(error.to_string().contains("could not reach table \"charges\" at http://127.0.0.1:"), "{error}");
    Stand::each(|stand| {
        let (table, proxy) = (stand.table(), stand.proxy());
        for fault in [Fault::Error500, Fault::Throttle, Fault::ResetAfter] {
            let before = proxy.seen().calls("DescribeTable");
            proxy.inject(move |request| if request.nth == before + 1 { fault } else { Fault::Pass });
            try_start(&stand.runtime, stand.to(&table, Some(&proxy))).unwrap();
            assert_eq!(proxy.seen().of("DescribeTable", fault), 1);
        }
        proxy.inject(|_| Fault::Refused("AccessDeniedException"));
        let begun = Instant::now();
        let error = start(&stand.runtime, stand.to(&table, Some(&proxy)));
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("AccessDeniedException"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    });
}
