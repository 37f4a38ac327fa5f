//! Which start of a source is its first.

use shardflow::lines;
use shardflow::testing::Collected;

use crate::scripted::{Scripted, job, start};

#[test]
fn a_source_that_joins_a_job_later_has_its_first_start_then() {
    let (old, new) = (Scripted::new(), Scripted::new());
    old.push("a", &[1]);
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()), "records", &old);
    running.until("the first read", |_| !old.opened().is_empty());
    running.go_on_for_long();
    running.stop();

    // A listing without splits: the other source commits, and nothing of this one but its identity is stored.
    for _ in 0..2 {
        let both = job(state.path());
        let stopper = both.stopper();
        let both = both.on_commit(move |info| {
            if info.epoch.number() % 5 == 0 {
                stopper.request();
            }
        });
        let (old, new) = (old.clone(), new.clone());
        let summary = both.allow_dropped_state(true).run(move |flow| {
            for (step, source) in [("records", &old), ("more", &new)] {
                let (records, rejected) = flow.source(step, source.clone()).decode(lines());
                rejected.sink(&format!("{step} rejected"), Collected::new());
                records.sink(&format!("{step} seen"), Collected::new());
            }
        });
        assert!(!summary.unwrap().input_ended);
    }
    let firsts = |source: &Scripted| source.starts().iter().map(|(first, _)| *first).collect::<Vec<_>>();
    assert_eq!(firsts(&old), [true, false, false]);
    assert_eq!(firsts(&new), [true, true], "no split of it was ever committed");
}
