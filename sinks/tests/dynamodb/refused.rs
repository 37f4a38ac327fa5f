//! What DynamoDB never takes goes to the rejected output, alone and with its reason, and the rest is written.

use aws_sdk_dynamodb::types::ScalarAttributeType;
use serde_json::{Map, Value, json};
use shardflow::ErrorKind;
use shardflow::sink::{AtLeastOnce, Refused, Sink, at_least_once};
use shardflow::testing::Collected;
use shardflow::testing::sink::permit;
use shardflow::{Epoch, sink::Prepared, sink::StagedHandle};

use crate::stand::{Stand, context, flush, item, n, number, s, text, writer};
use shardflow_stand_ins::fault_proxy::FaultProxy;

/// Writes records, commits, and gives what was refused: id, or whatever it is, and reason.
fn write(
    stand: &Stand,
    sink: &dyn Sink<Value>,
    rejected: &Collected<Refused>,
    records: &[Value],
) -> Vec<(String, String)> {
    let context = context(&stand.runtime, 1);
    let mut committer = sink.committer(&context).unwrap();
    committer.recover(None, &[]).unwrap();
    let mut writer = sink.writer(&context, 0).unwrap();
    records.iter().for_each(|record| writer.stage(record).unwrap());
    let Some(Prepared::Flush(flush)) = writer.prepare(Epoch::new(1)).unwrap() else { panic!("it is not staged") };
    let handle = flush().unwrap();
    let handles: Vec<_> =
        handle.map(|handle| StagedHandle { epoch: Epoch::new(1), worker: 0, handle }).into_iter().collect();
    committer.commit(&permit(Epoch::new(1)), &handles).unwrap();
    let mut refused: Vec<_> = rejected
        .values()
        .into_iter()
        .map(|refused| {
            let record: Value = serde_json::from_str(&refused.record).unwrap();
            (record["id"].as_str().unwrap_or("none").to_owned(), refused.error)
        })
        .collect();
    refused.sort();
    refused
}

fn put(
    stand: &Stand,
    table: &str,
    proxy: Option<&FaultProxy>,
    rejected: &Collected<Refused>,
) -> AtLeastOnce<shardflow_sinks::dynamodb::Put> {
    at_least_once(stand.to(table, proxy).put()).rejected_to(rejected.clone())
}

/// Written one by one: the version is the record's field `at`.
fn guarded(
    stand: &Stand,
    table: &str,
    proxy: Option<&FaultProxy>,
    rejected: &Collected<Refused>,
) -> AtLeastOnce<shardflow_sinks::dynamodb::Newest<Value>> {
    let at = |record: &Value| record["at"].as_u64().unwrap_or_default();
    at_least_once(stand.to(table, proxy).newest_by("version", at)).rejected_to(rejected.clone())
}

fn ids(stand: &Stand, table: &str) -> Vec<String> {
    let mut ids: Vec<_> = stand.scan(table).iter().map(|item| text(item, "id").to_owned()).collect();
    ids.sort();
    ids
}

fn good(count: usize) -> Vec<Value> {
    (0..count).map(|at| json!({"id": format!("good-{at:02}"), "at": at})).collect()
}

#[test]
fn what_is_known_to_be_refused_is_never_sent() {
    Stand::each(|stand| {
        for is_guarded in [false, true] {
            let (table, rejected, proxy) = (stand.table(), Collected::new(), stand.proxy());
            let mut records = good(10);
            records.extend([
                json!({"at": 1}),
                json!({"id": "", "at": 1}),
                json!({"id": 7, "at": 1}),
                json!({"id": null, "at": 1}),
                json!({"id": "too far", "at": 1, "float": 1e300}),
                json!({"id": "too large", "at": 1, "text": "x".repeat(410_000)}),
                json!({"id": "long key".repeat(300), "at": 1}),
                json!(7),
            ]);
            let sink: Box<dyn Sink<Value>> = match is_guarded {
                true => Box::new(guarded(stand, &table, Some(&proxy), &rejected)),
                false => Box::new(put(stand, &table, Some(&proxy), &rejected)),
            };
            let refused = write(stand, &*sink, &rejected, &records);
            assert_eq!(refused.len(), 8, "{refused:?}");
            for (id, why) in [
                ("too far", "exponent is 300"),
                ("too large", "bytes, and an item has 409600 at most"),
                ("", "it is empty"),
            ] {
                assert!(refused.iter().any(|(of, error)| of == id && error.contains(why)), "{id}: {refused:?}");
            }
            assert_eq!(ids(stand, &table), (0..10).map(|at| format!("good-{at:02}")).collect::<Vec<_>>());
            let calls = proxy.seen().calls("PutItem") + proxy.seen().calls("BatchWriteItem");
            assert_eq!(calls, if is_guarded { 10 } else { 1 });
        }
    });
}

/// A value that nests deeper than DynamoDB takes, which only the service checks.
pub(crate) fn nested(id: &str) -> Value {
    let mut value = json!(1);
    for _ in 0..40 {
        value = json!([value]);
    }
    json!({"id": id, "at": 1, "value": value})
}

#[test]
fn what_the_service_refuses_without_naming_it_is_found_and_the_rest_of_the_batch_is_written() {
    // ministack refuses what nests too deep; dynalite is told to refuse items of more than 1 KiB.
    let large = |id: &str| json!({"id": id, "at": 1, "text": "x".repeat(2_000)});
    let servers = [
        (Stand::ministack(), &nested as &dyn Fn(&str) -> Value),
        (Stand::dynalite(&["--maxItemSizeKb", "1", "--createTableMs", "0"]), &large),
    ];
    for (stand, bad) in servers.into_iter().filter_map(|(stand, bad)| Some((stand?, bad))) {
        for (is_guarded, culprits) in [(false, &[0, 7, 8, 24][..]), (false, &[]), (false, &[12]), (true, &[0, 7, 24])] {
            let (table, rejected, proxy) = (stand.table(), Collected::new(), stand.proxy());
            let mut records = good(25);
            for at in culprits {
                records[*at] = bad(&format!("bad-{at:02}"));
            }
            let sink: Box<dyn Sink<Value>> = match is_guarded {
                true => Box::new(guarded(&stand, &table, Some(&proxy), &rejected)),
                false => Box::new(put(&stand, &table, Some(&proxy), &rejected)),
            };
            let refused = write(&stand, &*sink, &rejected, &records);
            let expected: Vec<_> = culprits.iter().map(|at| format!("bad-{at:02}")).collect();
            assert_eq!(refused.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>(), expected);
            assert!(refused.iter().all(|(_, error)| error.starts_with("ValidationException: ")), "{refused:?}");
            let written: Vec<_> =
                (0..25).filter(|at| !culprits.contains(at)).map(|at| format!("good-{at:02}")).collect();
            assert_eq!(ids(&stand, &table), written);
            let calls = proxy.seen().calls("BatchWriteItem");
            assert!(is_guarded || calls <= 1 + 10 * culprits.len() as u64, "{calls} calls for {culprits:?}");
        }
    }
}

#[test]
fn where_the_last_of_a_key_is_refused_the_one_before_it_is_written() {
    let Some(stand) = Stand::ministack() else { return };
    for is_guarded in [false, true] {
        let (table, rejected) = (stand.table(), Collected::new());
        let records = [json!({"id": "a", "at": 0}), json!({"id": "b", "at": 0}), nested("a")];
        let sink: Box<dyn Sink<Value>> = match is_guarded {
            true => Box::new(guarded(&stand, &table, None, &rejected)),
            false => Box::new(put(&stand, &table, None, &rejected)),
        };
        let refused = write(&stand, &*sink, &rejected, &records);
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert_eq!(ids(&stand, &table), ["a", "b"]);
        assert!(stand.scan(&table).iter().all(|item| number(item, "at") == 0));
    }
}

#[test]
fn a_version_of_another_kind_in_the_table_is_never_taken_for_a_later_one() {
    Stand::each(|stand| {
        let (table, rejected) = (stand.table(), Collected::new());
        stand.put(&table, item([("id", s("by-start")), ("version", s("00000000000000000009-00000000000000000009"))]));
        stand.put(&table, item([("id", s("by-another")), ("version", s("v7"))]));
        stand.put(&table, item([("id", s("broken")), ("version", n("7.5"))]));
        stand.put(&table, item([("id", s("without")), ("colour", s("red"))]));
        stand.put(&table, item([("id", s("earlier")), ("version", n(1)), ("colour", s("red"))]));
        stand.put(&table, item([("id", s("later")), ("version", n(3)), ("colour", s("red"))]));
        let records =
            ["by-start", "by-another", "broken", "without", "earlier", "later"].map(|id| json!({"id": id, "at": 2}));
        let refused = write(stand, &guarded(stand, &table, None, &rejected), &rejected, &records);
        assert_eq!(refused.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["broken", "by-another", "by-start"]);
        assert!(refused.iter().all(|(_, error)| error.contains("version of another kind")), "{refused:?}");
        let expected = |id: &str| item([("id", s(id)), ("at", n(2)), ("version", n(2))]);
        for item in stand.scan(&table) {
            match text(&item, "id") {
                // Replaced as a whole.
                id @ ("without" | "earlier") => assert_eq!(item, expected(id)),
                "later" => assert_eq!(number(&item, "version"), 3),
                id => assert_ne!(item, expected(id)),
            }
        }
    });
}

#[test]
fn a_field_with_the_versions_name_must_be_the_version() {
    Stand::each(|stand| {
        let (table, rejected) = (stand.table(), Collected::new());
        let at = |record: &Value| record["of"].as_u64().unwrap_or_default();
        let sink = at_least_once(stand.to(&table, None).newest_by("at", at)).rejected_to(rejected.clone());
        let records = [json!({"id": "same", "at": 7.0, "of": 7}), json!({"id": "other", "at": 8, "of": 7})];
        let refused = write(stand, &sink, &rejected, &records);
        assert_eq!(refused.len(), 1);
        assert!(
            refused[0].0 == "other" && refused[0].1.starts_with("attribute \"at\": the record has it"),
            "{refused:?}"
        );
        assert_eq!(ids(stand, &table), ["same"]);
    });
}

#[test]
fn keys_of_two_attributes_and_numbers_are_written_and_checked() {
    Stand::each(|stand| {
        let table = stand.table_of(&[("id", ScalarAttributeType::S), ("at", ScalarAttributeType::N)]);
        let rejected = Collected::new();
        let sink = at_least_once(stand.to(&table, None).sort_key("at").put()).rejected_to(rejected.clone());
        // 1.0 and 1 are one key: a batch that named both would be refused as a whole.
        let records = [
            json!({"id": "a", "at": 1, "n": 1}),
            json!({"id": "a", "at": 1.0, "n": 2}),
            json!({"id": "a", "at": 2}),
            json!({"id": "a", "at": "2"}),
        ];
        let refused = write(stand, &sink, &rejected, &records);
        assert_eq!(refused.len(), 1);
        assert!(
            refused[0].1.contains("attribute \"at\": its type is S, and the table has it as a key of type N"),
            "{refused:?}"
        );
        let mut items: Vec<_> =
            stand.scan(&table).iter().map(|item| (number(item, "at"), item.contains_key("n"))).collect();
        items.sort_unstable();
        assert_eq!(items, [(1, true), (2, false)]);
    });
}

#[test]
fn without_a_rejected_output_a_refused_record_stops_the_job_with_its_reason() {
    let Some(stand) = Stand::ministack() else { return };
    let table = stand.table();
    let sink = at_least_once(stand.to(&table, None).put());
    let mut writer = writer(&sink as &dyn Sink<Map<String, Value>>, &stand.runtime, 1);
    let bad = nested("bad").as_object().cloned().unwrap();
    writer.stage(&bad).unwrap();
    let error = flush(&mut *writer).unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::Sink, Some("charges")));
    assert!(error.to_string().contains("ValidationException") && error.to_string().contains("bad"), "{error}");
}
