//! Many records of one key: in one batch, in several at a time, and among others.

use serde::{Deserialize, Serialize};
use shardflow::sink::{SinkWriter, at_least_once};

use crate::stand::{Stand, flush, number, text, writer};
use shardflow_stand_ins::fault_proxy::Fault;

#[derive(Clone, Serialize, Deserialize)]
struct State {
    id: String,
    at: u64,
    gone: bool,
}

fn state(id: &str, at: u64) -> State {
    State { id: id.to_owned(), at, gone: false }
}

fn stage(writer: &mut dyn SinkWriter<State>, states: impl IntoIterator<Item = State>) {
    states.into_iter().for_each(|state| writer.stage(&state).unwrap());
}

#[test]
fn of_a_hot_key_the_latest_state_is_written_and_far_from_every_one() {
    Stand::each(|stand| {
        let (table, proxy) = (stand.table(), stand.proxy());
        let to = stand.to(&table, Some(&proxy)).newest_by("version", |state: &State| state.at);
        let sink = at_least_once(to).concurrency(8);
        let mut writer = writer(&sink, &stand.runtime, 1);
        // Forwards and backwards: batches of it are on their way together.
        stage(&mut *writer, (0..2_000).map(|at| state("hot", if at % 2 == 0 { at } else { 1_999 - at })));
        stage(&mut *writer, (0..50).map(|at| state(&format!("cold-{at}"), at)));
        stage(&mut *writer, [state("hot", 2_000), state("hot", 7)]);
        flush(&mut *writer).unwrap();
        let items = stand.scan(&table);
        assert_eq!(items.len(), 51);
        let hot = items.iter().find(|item| text(item, "id") == "hot").unwrap();
        assert_eq!(number(hot, "at"), 2_000);
        // One call a batch of a hundred, and one each of the others.
        let calls = proxy.seen().calls("PutItem");
        assert!(calls <= 21 + 50, "{calls} calls");
    });
}

#[test]
fn of_a_key_that_a_batch_has_twice_the_last_record_counts() {
    Stand::each(|stand| {
        let (table, proxy) = (stand.table(), stand.proxy());
        let sink = at_least_once(stand.to(&table, Some(&proxy)).put());
        let mut writer = writer(&sink, &stand.runtime, 1);
        stage(&mut *writer, [state("a", 1), state("b", 2), state("a", 3), state("a", 2)]);
        flush(&mut *writer).unwrap();
        let mut items: Vec<_> =
            stand.scan(&table).iter().map(|item| (text(item, "id").to_owned(), number(item, "at"))).collect();
        items.sort();
        assert_eq!(items, [("a".to_owned(), 2), ("b".to_owned(), 2)]);
        assert_eq!(proxy.seen().of("BatchWriteItem", Fault::Pass), 1);
    });
}

#[test]
fn with_one_batch_at_a_time_puts_and_deletes_of_a_key_keep_their_order() {
    Stand::each(|stand| {
        let (table, proxy) = (stand.table(), stand.proxy());
        proxy.inject(|request| match request.nth % 3 {
            1 => Fault::Unprocessed { every: 2 },
            _ => Fault::Pass,
        });
        let sink = at_least_once(stand.to(&table, Some(&proxy)).put_or_delete(|state: &State| state.gone));
        let sink = sink.concurrency(1).batch_records(3);
        let mut writer = writer(&sink, &stand.runtime, 1);
        // Each of twenty keys is put, and the even ones are taken away, at once or later; some come back.
        let of = |n: u64, at, gone| State { id: format!("key-{n}"), at, gone };
        for n in 0..20 {
            stage(&mut *writer, [of(n, 1, false), of(n, 2, n % 2 == 0)]);
        }
        stage(&mut *writer, (0..20).map(|n| of(n, 3, n % 4 != 0 && n % 2 == 0)));
        flush(&mut *writer).unwrap();
        let mut left: Vec<u64> = stand.scan(&table).iter().map(|item| text(item, "id")[4..].parse().unwrap()).collect();
        left.sort_unstable();
        assert_eq!(left, (0..20).filter(|n| n % 2 == 1 || n % 4 == 0).collect::<Vec<_>>());
    });
}
