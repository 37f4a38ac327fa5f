//! Children of a split that has ended.

use crate::scripted::{Scripted, job, start};

#[test]
fn a_listing_that_lags_behind_a_splits_end_makes_no_record_of_its_children_late() {
    let source = Scripted::new();
    source.push("parent", &[1]);
    source.push("other", &[2, 25]);
    source.split("other", |other| other.caught_up = false);
    source.split("parent", |parent| parent.children = vec!["child".into()]);
    source.end("parent");
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()), "records", &source);
    running.until("the first read", |_| source.opened().len() == 2);
    let listings = source.listings();
    // Looks for announced children come once a second at least.
    running.until("another listing", |_| source.listings() > listings + 2);
    running.go_on_for_long();
    assert_eq!(running.counts(), [], "the child may begin where its parent stopped");

    source.split("child", |child| child.parents = vec!["parent".into()]);
    source.push("child", &[5, 12, 30]);
    running.until("the child", |_| source.opened().len() == 3);
    source.close();
    assert_eq!(running.finish(), (vec![(0, 3), (10, 1), (20, 1), (30, 1)], vec![]));
}
