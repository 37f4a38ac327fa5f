//! Plans against a model of what a fleet of the library does with the table.

use proptest::prelude::*;

use super::*;
use crate::kinesis::position::{Sequence, ShardPosition};

fn state(read: Option<u64>, ended: bool, parents: &[&str]) -> ShardState {
    let position = match read {
        None => ShardPosition::TrimHorizon,
        Some(number) => ShardPosition::After(Sequence { number: number.to_string(), sub: None }),
    };
    let parents = parents.iter().map(ToString::to_string).collect();
    ShardState { position, ended, parents, ..ShardState::default() }
}

fn states<const N: usize>(shards: [(&str, ShardState); N]) -> States {
    shards.into_iter().map(|(shard, state)| (shard.to_owned(), state)).collect()
}

fn after(number: u64) -> Checkpoint {
    Checkpoint::After { number: number.to_string(), sub: 0 }
}

fn row(key: &str, checkpoint: Checkpoint) -> (String, Lease) {
    (key.to_owned(), Lease::new(key, checkpoint))
}

fn done(mut rows: Rows, stages: &[Stage]) -> Rows {
    for stage in stages {
        apply(Some(stage), &mut rows);
    }
    rows
}

fn said(stages: &[Stage]) -> Vec<Vec<String>> {
    let say = |write: &Write| match write {
        Write::Create(lease) => format!("create {} at {}", lease.key, lease.checkpoint),
        Write::Advance { key, to, children } if children.is_empty() => format!("{key} to {to}"),
        Write::Advance { key, to, children } => format!("{key} to {to} with {children:?}"),
        Write::Delete { key } => format!("delete {key}"),
    };
    stages.iter().map(|stage| stage.iter().map(say).collect()).collect()
}

#[test]
fn an_empty_table_gets_a_lease_for_each_shard_that_is_to_be_read_parents_first() {
    let job = states([
        ("b", state(None, false, &["a"])),
        ("a", state(Some(7), false, &[])),
        ("c", state(None, false, &["b"])),
    ]);
    let stages = plan(&job, &Rows::new());
    assert_eq!(said(&stages), [["create a at 7/0"], ["create b at TRIM_HORIZON"], ["create c at TRIM_HORIZON"]]);
    assert!(plan(&job, &done(Rows::new(), &stages)).is_empty(), "it is done then");
}

#[test]
fn a_shard_ends_after_its_children_have_leases_and_its_lease_goes_when_they_have_begun() {
    let rows = Rows::from([row("p", after(5))]);
    let mut job = states([
        ("p", state(Some(9), true, &[])),
        ("x", state(None, false, &["p"])),
        ("y", state(None, false, &["p"])),
    ]);
    let stages = plan(&job, &rows);
    let created = ["create x at TRIM_HORIZON", "create y at TRIM_HORIZON"].map(ToOwned::to_owned).to_vec();
    assert_eq!(said(&stages), [created, vec!["p to SHARD_END with {\"x\", \"y\"}".to_owned()]]);
    let rows = done(rows, &stages);
    job.insert("x".to_owned(), state(Some(20), false, &["p"]));
    let stages = plan(&job, &rows);
    assert_eq!(said(&stages), [["x to 20/0"]], "y has not begun");
    job.insert("y".to_owned(), state(Some(30), false, &["p"]));
    assert_eq!(said(&plan(&job, &done(rows, &stages))), [["y to 30/0"], ["delete p"]]);
}

#[test]
fn a_parents_lease_goes_before_its_childs() {
    let ended = |key: &str, parents: &[&str], children: &[&str]| {
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let lease = Lease { parents: set(parents), children: set(children), ..Lease::new(key, Checkpoint::ShardEnd) };
        (key.to_owned(), lease)
    };
    let rows = Rows::from([ended("a", &[], &["b"]), ended("b", &["a"], &["c"]), row("c", after(3))]);
    assert_eq!(said(&plan(&States::new(), &rows)), [["delete a"], ["delete b"]]);
}

#[test]
fn an_end_whose_children_are_not_listed_yet_is_not_written() {
    let rows = Rows::from([row("p", after(5))]);
    let named = ShardState { children: vec!["x".to_owned(), "y".to_owned()], ..state(Some(9), true, &[]) };
    for ended in [state(Some(9), true, &[]), named] {
        let job = states([("p", ended)]);
        assert_eq!(said(&plan(&job, &rows)), [["p to 9/0"]]);
        assert_eq!(said(&plan(&job, &Rows::new())), [["create p at 9/0"]], "a fleet will find the children from it");
    }
}

#[test]
fn a_merged_shards_other_parent_keeps_or_gets_back_its_lease_until_both_have_ended() {
    let mut job = states([
        ("p", state(Some(9), true, &[])),
        ("q", state(Some(3), false, &[])),
        ("m", state(None, false, &["p", "q"])),
    ]);
    let stages = plan(&job, &Rows::from([row("q", after(3))]));
    assert_eq!(said(&stages), [["create m at TRIM_HORIZON"], ["create p at SHARD_END"]]);
    let rows = done(Rows::from([row("q", after(3))]), &stages);
    job.insert("q".to_owned(), state(Some(4), true, &[]));
    job.insert("m".to_owned(), state(Some(50), false, &["p", "q"]));
    let stages = plan(&job, &rows);
    assert_eq!(said(&stages)[1], ["delete p", "delete q"]);
    assert!(plan(&job, &done(rows, &stages)).is_empty());
}

#[test]
fn nothing_is_moved_backwards_and_wishes_become_places() {
    let rows = Rows::from([row("a", after(10)), row("b", Checkpoint::ShardEnd), row("c", Checkpoint::Latest)]);
    let job = states([
        ("a", state(Some(9), false, &[])),
        ("b", state(Some(9), false, &[])),
        ("c", ShardState { position: ShardPosition::Time(5), ..state(None, false, &[]) }),
    ]);
    assert_eq!(said(&plan(&job, &rows)), [["c to TRIM_HORIZON"]]);
}

#[test]
fn shards_in_a_circle_are_planned_all_the_same() {
    let job = states([("a", state(None, false, &["b"])), ("b", state(None, false, &["a", "b"]))]);
    assert_eq!(said(&plan(&job, &Rows::new())), [["create a at TRIM_HORIZON", "create b at TRIM_HORIZON"]]);
}

/// How many records each shard has.
const RECORDS: usize = 3;

#[derive(Debug, Clone)]
enum Event {
    Split(usize),
    Merge(usize, usize),
    /// The job hears of the shards that there are.
    List,
    /// A record of a shard is read.
    Read(usize),
    /// The end of a shard is read; whether it names the children.
    End(usize, bool),
    /// An ended shard whose children have ended is no longer remembered.
    Forget(usize),
    /// The mirror is written: of stage after stage everything, then of one stage those writes whose bits are set, then a crash.
    Mirror(usize, u16),
    /// Somebody drops the table. The job writes a new one, without a crash.
    Drop,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => any::<usize>().prop_map(Event::Split),
        2 => any::<(usize, usize)>().prop_map(|(a, b)| Event::Merge(a, b)),
        4 => Just(Event::List),
        9 => any::<usize>().prop_map(Event::Read),
        6 => any::<(usize, bool)>().prop_map(|(pick, named)| Event::End(pick, named)),
        1 => any::<usize>().prop_map(Event::Forget),
        6 => any::<(usize, u16)>().prop_map(|(stages, bits)| Event::Mirror(stages, bits)),
        1 => Just(Event::Drop),
    ]
}

struct Shard {
    id: String,
    parents: Vec<String>,
    closed: bool,
    /// How many records the job has committed.
    read: usize,
}

/// A stream, a job that reads it, and the table.
struct World {
    shards: Vec<Shard>,
    job: States,
    rows: Rows,
}

fn number(shard: usize, record: usize) -> u64 {
    (shard * 100 + record) as u64
}

impl World {
    fn new() -> Self {
        let shard = |id: usize| Shard { id: id.to_string(), parents: Vec::new(), closed: false, read: 0 };
        let mut world = Self { shards: (0..3).map(shard).collect(), job: States::new(), rows: Rows::new() };
        world.happen(&Event::List);
        world.happen(&Event::Drop);
        world
    }

    fn reshard(&mut self, parents: &[usize], children: usize) {
        let ids: Vec<String> = parents.iter().map(|parent| self.shards[*parent].id.clone()).collect();
        for parent in parents {
            self.shards[*parent].closed = true;
        }
        for _ in 0..children {
            let id = self.shards.len().to_string();
            self.shards.push(Shard { id, parents: ids.clone(), closed: false, read: 0 });
        }
    }

    fn pick(&self, pick: usize, is_meant: impl Fn(&Shard) -> bool) -> Option<usize> {
        let meant: Vec<usize> = (0..self.shards.len()).filter(|shard| is_meant(&self.shards[*shard])).collect();
        (!meant.is_empty()).then(|| meant[pick % meant.len()])
    }

    /// Whether the job reads the shard: known, not at its end, and no known parent that is not.
    fn is_reading(&self, shard: &Shard) -> bool {
        let has_ended = |id: &String| self.job.get(id).is_none_or(|state| state.ended);
        self.job.contains_key(&shard.id) && !has_ended(&shard.id) && shard.parents.iter().all(has_ended)
    }

    /// Whether the job has to read on in it, now or later.
    fn is_unended(&self, id: &str) -> bool {
        self.job
            .get(id)
            .map_or_else(|| self.shards.iter().any(|shard| shard.id == id && shard.read == 0), |state| !state.ended)
    }

    fn children(&self, id: &str) -> Vec<&Shard> {
        self.shards.iter().filter(|shard| shard.parents.iter().any(|parent| parent == id)).collect()
    }

    fn happen(&mut self, event: &Event) {
        match event {
            Event::Split(pick) => {
                let parent = self.pick(*pick, |shard| !shard.closed).unwrap();
                self.reshard(&[parent], 2);
            }
            Event::Merge(a, b) => {
                let one = self.pick(*a, |shard| !shard.closed).unwrap();
                let other = self.pick(*b, |shard| !shard.closed).unwrap();
                if one != other {
                    self.reshard(&[one, other], 1);
                }
            }
            Event::List => {
                for shard in self.shards.iter().filter(|shard| shard.read < RECORDS || !shard.closed) {
                    let parents = shard.parents.iter().map(String::as_str).collect::<Vec<_>>();
                    self.job.entry(shard.id.clone()).or_insert_with(|| state(None, false, &parents));
                }
            }
            Event::Read(pick) => {
                let pick = self.pick(*pick, |shard| self.is_reading(shard) && shard.read < RECORDS);
                if let Some(shard) = pick {
                    self.shards[shard].read += 1;
                    let number = number(shard, self.shards[shard].read).to_string();
                    let position = ShardPosition::After(Sequence { number, sub: None });
                    self.job.get_mut(&self.shards[shard].id).unwrap().position = position;
                }
            }
            Event::End(pick, named) => {
                let is_meant = |shard: &Shard| self.is_reading(shard) && shard.closed && shard.read == RECORDS;
                if let Some(shard) = self.pick(*pick, is_meant) {
                    let id = self.shards[shard].id.clone();
                    let children = self.children(&id).iter().map(|child| child.id.clone()).collect();
                    let state = self.job.get_mut(&id).unwrap();
                    state.ended = true;
                    state.children = if *named { children } else { Vec::new() };
                }
            }
            Event::Forget(pick) => {
                let has_ended = |id: &str| self.job.get(id).is_some_and(|state| state.ended);
                let is_over =
                    |id: &str| has_ended(id) && self.children(id).iter().all(|child| !self.is_unended(&child.id));
                // The older ones first.
                let is_meant =
                    |shard: &Shard| is_over(&shard.id) && !shard.parents.iter().any(|parent| is_over(parent));
                if let Some(shard) = self.pick(*pick, is_meant) {
                    // It takes minutes until a shard is forgotten; the mirror has written its end by then.
                    self.mirror(usize::MAX, u16::MAX);
                    self.job.remove(&self.shards[shard].id.clone());
                }
            }
            Event::Mirror(stages, bits) => self.mirror(*stages, *bits),
            Event::Drop => {
                self.rows = done(Rows::new(), &plan(&self.job, &Rows::new()));
                self.check();
            }
        }
    }

    fn mirror(&mut self, whole: usize, bits: u16) {
        let stages = plan(&self.job, &self.rows);
        let whole = if whole == usize::MAX { stages.len() } else { whole % (stages.len() + 1) };
        for (index, stage) in stages.iter().take(whole + 1).enumerate() {
            let is_done = |write: usize| index < whole || bits >> (write % 16) & 1 == 1;
            let some: Stage = (0..stage.len()).filter(|at| is_done(*at)).map(|at| stage[at].clone()).collect();
            for write in &some {
                if let Write::Advance { key, to, .. } = write {
                    assert!(to.is_progress_from(&self.rows[key].checkpoint), "{key} back to {to}");
                }
            }
            apply(Some(&some), &mut self.rows);
            self.check();
        }
        let rest = done(self.rows.clone(), &plan(&self.job, &self.rows));
        assert_eq!(plan(&self.job, &rest), Vec::<Stage>::new(), "the next run finishes the job");
        let at = |(shard, state): (&String, &ShardState)| {
            let checkpoint = &rest[shard].checkpoint;
            assert!(!Checkpoint::of(&state.position).is_progress_from(checkpoint), "{shard} is behind: {checkpoint}");
        };
        self.job.iter().filter(|(_, state)| !state.ended).for_each(at);
    }

    /// A fleet that takes over here, with "latest" as its start, reads all that the job has not.
    fn check(&self) {
        let reads = self.fleet();
        for shard in &self.shards {
            let from = reads.get(&shard.id).copied().unwrap_or(RECORDS);
            assert!(from <= shard.read, "records of {} are lost: {:#?} {:#?}", shard.id, self.job, self.rows);
        }
    }

    /// From which record on a fleet reads each shard.
    fn fleet(&self) -> BTreeMap<String, usize> {
        let mut rows = self.rows.clone();
        for shard in self.shards.iter().filter(|shard| !shard.closed && !self.rows.contains_key(&shard.id)) {
            // Those that descend from a leased shard are left to its end.
            if !self.descends(shard) {
                rows.insert(shard.id.clone(), Lease::new(&shard.id, Checkpoint::Latest));
            }
        }
        let mut reads = BTreeMap::new();
        // A shard whose end cannot be written yet is tried again when others have ended: as often as there are shards.
        for _ in &self.shards {
            for key in rows.keys().cloned().collect::<Vec<_>>() {
                self.process(&key, &mut rows, &mut reads);
            }
        }
        reads
    }

    /// What a worker does with a lease, if it does not wait for the shard's parents.
    fn process(&self, key: &str, rows: &mut Rows, reads: &mut BTreeMap<String, usize>) {
        let row = &rows[key];
        let mut parents = row.parents.iter().filter_map(|parent| rows.get(parent));
        if row.checkpoint == Checkpoint::ShardEnd || parents.any(|parent| parent.checkpoint != Checkpoint::ShardEnd) {
            return;
        }
        let from = match &row.checkpoint {
            Checkpoint::After { number, .. } => (number.parse::<u64>().unwrap() % 100) as usize,
            Checkpoint::Latest => RECORDS,
            _ => 0,
        };
        reads.insert(key.to_owned(), from);
        let shard = self.shards.iter().find(|shard| shard.id == key).unwrap();
        if shard.closed && self.ends(key, rows) {
            rows.get_mut(key).unwrap().checkpoint = Checkpoint::ShardEnd;
        }
    }

    fn descends(&self, shard: &Shard) -> bool {
        shard.parents.iter().any(|parent| {
            self.rows.contains_key(parent)
                || self.descends(self.shards.iter().find(|shard| shard.id == *parent).unwrap())
        })
    }

    /// Makes the children's leases at the end of a shard. Whether the library does not refuse to.
    fn ends(&self, id: &str, rows: &mut Rows) -> bool {
        let children = self.children(id);
        if let [only] = children.as_slice() {
            let leased = only.parents.iter().filter(|parent| rows.contains_key(*parent)).count();
            if leased != only.parents.len() {
                return false;
            }
        }
        for child in children {
            let parents = child.parents.iter().cloned().collect();
            let lease = Lease { parents, ..Lease::new(&child.id, Checkpoint::TrimHorizon) };
            rows.entry(child.id.clone()).or_insert(lease);
        }
        true
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, ..ProptestConfig::default() })]

    #[test]
    fn a_fleet_that_takes_over_after_any_write_loses_nothing(events in proptest::collection::vec(any_event(), 0..120)) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
    }
}
