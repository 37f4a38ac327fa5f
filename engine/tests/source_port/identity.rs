//! Positions belong to one input.

use shardflow::ErrorKind;

use crate::scripted::{Scripted, job, start};

#[test]
fn positions_of_another_input_are_refused_before_anything_is_read_unless_that_is_allowed() {
    let (first, second) = (Scripted::new(), Scripted::new().called("other"));
    first.push("split", &[1]);
    first.close();
    // A split of the same name, with more in it: taken for the first, it would count as read.
    second.push("split", &[1, 2, 3]);
    second.close();
    let state = tempfile::tempdir().unwrap();
    start(job(state.path()), "records", &first).join().unwrap();

    let refused = start(job(state.path()), "records", &second).join().unwrap_err();
    assert_eq!((refused.kind(), refused.step()), (ErrorKind::State, Some("records")));
    let text = refused.to_string();
    for part in ["\"scripted\"", "\"other\"", "--allow-changed-source"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(second.starts().is_empty() && second.opened().is_empty(), "nothing was opened");

    // The same input again is nothing new, and a refusal has changed nothing.
    start(job(state.path()), "records", &first).join().unwrap();

    // Where it is the same input at another place, its positions count on, under the new name.
    let moved = first.called("moved");
    start(job(state.path()).allow_changed_source(true), "records", &moved).join().unwrap();
    assert_eq!(first.opened(), ["split"], "it had ended");
    start(job(state.path()), "records", &moved).join().unwrap();
    let back = start(job(state.path()), "records", &first).join().unwrap_err();
    assert!(back.to_string().contains("\"moved\""), "{back}");
}
