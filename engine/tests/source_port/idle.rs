//! Only a split that has nothing to read stops holding time back.

use crate::scripted::{FOREIGN, Scripted, job, start};

#[test]
fn a_split_that_cannot_be_read_holds_time_until_it_can_say_that_there_is_nothing() {
    let source = Scripted::new();
    source.push("steady", &[1, 12, 23]);
    ["steady", "stuck"].iter().for_each(|split| source.split(split, |split| split.caught_up = false));
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()), "records", &source);
    running.until("the first read", |_| source.opened().len() == 2);
    running.go_on_for_long();
    source.push("steady", &[24]);
    running.go_on_for_long();
    assert_eq!(running.counts(), [], "a split whose source cannot say that it has read everything is not idle");

    // What was stuck arrives, and is not late.
    source.push("stuck", &[5, 14]);
    running.until("the first window", |job| !job.counts().is_empty());
    running.go_on_for_long();
    assert_eq!(running.counts(), [(0, 2)], "it still holds time, at its last record");

    // Once it says that it has read everything, time goes on without it.
    source.split("stuck", |split| split.caught_up = true);
    running.until("the second window", |job| job.counts().len() == 2);
    assert_eq!(running.counts(), [(0, 2), (10, 2)]);
    source.close();
    assert!(running.finish().1.is_empty(), "nothing was late");
}

#[test]
fn a_split_whose_records_are_all_filtered_out_holds_time_only_until_it_is_read_to_its_end() {
    let source = Scripted::new();
    source.push("steady", &[1, 12, 23]);
    ["steady", "foreign"].iter().for_each(|split| source.split(split, |split| split.caught_up = false));
    let state = tempfile::tempdir().unwrap();
    let running = start(job(state.path()), "records", &source);
    let begun = source.listings();
    running.until("foreign records for long", |_| {
        source.push("foreign", &[FOREIGN]);
        source.listings() > begun + 40
    });
    assert_eq!(running.counts(), [], "what it is waited for may lie in what is still to be read");

    source.split("foreign", |split| split.caught_up = true);
    running.until("both windows", |job| {
        source.push("foreign", &[FOREIGN]);
        job.counts().len() == 2
    });
    source.close();
    let (counts, late) = running.finish();
    assert_eq!((counts.as_slice(), late.len()), ([(0, 1), (10, 1), (20, 1)].as_slice(), 0));
}
