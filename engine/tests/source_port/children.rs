//! Children of a split that has ended.

use shardflow::source::SplitStatus;
use shardflow::vocabulary::SplitId;

use crate::scripted::{Scripted, job, start};

/// A split that no listing has, and that the end of `parent` names.
fn unlisted_child(source: &Scripted, parents: &[&str]) {
    source.split("child", |child| {
        child.parents = parents.iter().map(SplitId::new).collect();
        child.listed = false;
        child.caught_up = false;
    });
    source.split("parent", |parent| parent.children = vec!["child".into()]);
}

#[test]
fn a_child_that_its_parents_end_names_is_read_in_time_although_no_listing_has_it() {
    let source = Scripted::new();
    source.push("parent", &[1]);
    source.push("other", &[2, 25]);
    source.split("other", |other| other.caught_up = false);
    unlisted_child(&source, &["parent"]);
    source.end("parent");
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()), "records", &source);
    running.until("the child", |_| source.opened().len() == 3);
    running.go_on_for_long();
    assert_eq!(running.counts(), [], "the child begins where its parent stopped");
    source.push("child", &[5, 12, 30]);
    source.close();
    assert_eq!(running.finish(), (vec![(0, 3), (10, 1), (20, 1), (30, 1)], vec![]));
}

#[test]
fn a_stop_between_a_parents_end_and_the_listing_of_its_child_makes_no_record_late() {
    let source = Scripted::new();
    source.push("parent", &[1]);
    source.push("neighbour", &[3]);
    source.push("other", &[2, 25]);
    source.split("other", |other| other.caught_up = false);
    source.split("neighbour", |neighbour| neighbour.caught_up = false);
    unlisted_child(&source, &["parent", "neighbour"]);
    source.end("parent");
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()), "records", &source);
    running.until("the first read", |_| source.opened().len() == 3);
    running.go_on_for_long();
    running.stop();

    let running = start(job(state.path()), "records", &source);
    running.until("the second read", |_| source.opened().len() == 5);
    let (_, known) = source.starts().pop().unwrap();
    assert_eq!(known[&SplitId::new("parent")].status, SplitStatus::Ended);
    assert_eq!(known[&SplitId::new("child")].status, SplitStatus::Waiting, "stored with its parent's end");
    source.end("neighbour");
    running.until("the child", |_| source.opened().len() == 6);
    running.go_on_for_long();
    assert_eq!(running.counts(), [], "the child begins where the slower of its parents stopped");
    source.push("child", &[4, 12, 30]);
    source.close();
    assert_eq!(running.finish(), (vec![(0, 4), (10, 1), (20, 1), (30, 1)], vec![]));
}
