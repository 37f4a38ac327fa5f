//! Copies of one job in random trouble: never may two of them commit.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use tokio::runtime::{Builder, Handle};

use super::keeper::{Keeper, Terms};
use super::testing::{FAILOVER, Link, Manual, Memory, read_to, settle, terms};

/// What happens to copies of a job, each with its own way to the table.
#[derive(Debug, Clone)]
enum Event {
    Start,
    /// A copy is gone without a word, and those that start later know.
    Crash(usize),
    Link(usize, u8),
    Pass(u16),
    /// Time passes for everybody and no task runs: a machine that hangs.
    Hang(u16),
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::Start),
        1 => any::<usize>().prop_map(Event::Crash),
        4 => any::<(usize, u8)>().prop_map(|(copy, link)| Event::Link(copy, link)),
        6 => (1u16..120).prop_map(Event::Pass),
        1 => (1u16..200).prop_map(Event::Hang),
    ]
}

struct Copy {
    owner: String,
    store: Memory,
    keeper: Keeper<Manual>,
}

/// A copy that knows who has crashed; none where it does not come to start.
async fn start(store: &Memory, clock: &Manual, owner: String, dead: &Arc<Mutex<BTreeSet<String>>>) -> Option<Copy> {
    let dead = Arc::clone(dead);
    let is_my_predecessor = Arc::new(move |owner: &str| dead.lock().unwrap().contains(owner));
    let terms = Terms { is_my_predecessor, ..terms(&owner) };
    let states = [("a", 5), ("b", 0)].map(|(shard, number)| (shard.to_owned(), read_to(number, &[])));
    let keeper = Keeper::start(store.clone(), clock.clone(), terms, states.into(), &Handle::current()).await.ok()?;
    Some(Copy { owner, store: store.clone(), keeper })
}

async fn run(events: Vec<Event>) {
    let (table, clock) = (Memory::new([]), Manual::new());
    let mut copies: Vec<Copy> = Vec::new();
    let (mut started, dead) = (0, Arc::<Mutex<BTreeSet<String>>>::default());
    for event in events {
        match event {
            Event::Start => {
                started += 1;
                copies.extend(start(&table.elsewhere(), &clock, format!("job/{started}"), &dead).await);
            }
            Event::Crash(copy) if !copies.is_empty() => {
                let copy = copies.remove(copy % copies.len());
                dead.lock().unwrap().insert(copy.owner);
            }
            Event::Link(copy, link) if !copies.is_empty() => {
                let links = [Link::Up, Link::Up, Link::Down, Link::Deaf];
                copies[copy % copies.len()].store.set_link(links[usize::from(link) % links.len()]);
            }
            Event::Pass(tenths) => {
                for _ in 0..tenths {
                    clock.pass(Duration::from_millis(100)).await;
                    only_one_may_commit(&copies);
                }
            }
            Event::Hang(tenths) => clock.jump(Duration::from_millis(100) * u32::from(tenths)),
            Event::Crash(_) | Event::Link(..) => {}
        }
        only_one_may_commit(&copies);
        settle().await;
        only_one_may_commit(&copies);
    }
    // Where the last one is left alone it may go on.
    let last = start(&table.elsewhere(), &clock, "job/last".to_owned(), &dead).await.unwrap();
    clock.pass(2 * FAILOVER).await;
    last.keeper.may_commit().unwrap();
}

fn only_one_may_commit(copies: &[Copy]) {
    let may = copies.iter().filter(|copy| copy.keeper.may_commit().is_ok()).count();
    assert!(may <= 1, "{may} copies may commit");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn never_two_copies_may_commit(events in proptest::collection::vec(any_event(), 0..30)) {
        Builder::new_current_thread().build().unwrap().block_on(run(events));
    }
}
