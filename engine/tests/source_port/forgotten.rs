//! What is kept of splits that have ended.

use std::collections::BTreeMap;
use std::path::Path;

use shardflow::snapshot::{Identity, Store};
use shardflow::vocabulary::StepName;

use crate::scripted::{Scripted, job, start};

/// The keys that are stored of a step.
fn stored(state: &Path, step: &str) -> Vec<String> {
    let identity = Identity { job: "scripted".to_owned(), key_groups: 256 };
    let (store, _) = Store::open(state, &identity).unwrap();
    let mut keys = BTreeMap::new();
    let mut visit = |_, table, key: &[u8], _: &[u8]| {
        keys.insert((table, String::from_utf8_lossy(key).into_owned()), ());
        Ok(())
    };
    store.restore(&StepName::new(step), 0..256, &mut visit).unwrap();
    keys.into_keys().map(|(_, key)| key).filter(|key| !key.is_empty()).collect()
}

#[test]
fn a_split_that_is_gone_for_long_leaves_nothing_in_the_snapshot_once_its_children_have_ended() {
    let source = Scripted::new();
    source.push("parent", &[1, 12]);
    source.push("other", &[2]);
    source.split("child", |child| child.parents = vec!["parent".into()]);
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()), "records", &source);
    source.end("parent");
    running.until("the child", |_| source.opened().len() == 3);
    source.split("parent", |parent| parent.listed = false);
    let listings = source.listings();
    running.until("many listings", |_| source.listings() > listings + 30);
    running.go_on_for_long();
    running.stop();
    // The child has no watermark of its own yet: it begins at its parent's.
    assert_eq!(stored(state.path(), "records"), ["child", "other", "parent"]);
    assert!(stored(state.path(), "records::event-time").contains(&"parent".to_owned()));

    let running = start(job(state.path()), "records", &source);
    source.push("child", &[15]);
    source.end("child");
    let listings = source.listings();
    running.until("many listings", |_| source.listings() > listings + 30);
    running.go_on_for_long();
    running.stop();
    assert_eq!(stored(state.path(), "records"), ["child", "other"]);
    assert_eq!(stored(state.path(), "records::event-time"), ["child", "other"]);
}

#[test]
fn a_listing_that_omits_an_ended_split_once_does_not_have_it_read_again() {
    let source = Scripted::new();
    source.push("ended", &[1, 2]);
    source.end("ended");
    source.push("other", &[1]);
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()), "records", &source);
    running.until("both", |_| source.opened().len() == 2);
    running.go_on_for_long();
    source.split("ended", |split| split.omitted = 3);
    let listings = source.listings();
    running.until("more listings", |_| source.listings() > listings + 10);
    source.close();
    let (counts, _) = running.finish();
    assert_eq!(source.opened(), ["ended", "other"]);
    assert_eq!(counts, [(0, 3)]);
}
