use proptest::prelude::*;

use super::*;

#[test]
fn sources_wait_for_what_can_be_folded_and_not_for_the_newest_epoch() {
    let tuning = Tuning { backlog_most: 100, ..Tuning::default() };
    let behind = |epochs: &[u64]| is_behind(&tuning, epochs.iter().copied());
    assert!(!behind(&[]) && !behind(&[500]) && !behind(&[60, 40, 500]));
    assert!(behind(&[60, 41, 0]));
}
use crate::snapshot::records::LogEntry;
use crate::vocabulary::Incarnation;

fn says(epoch: Option<u64>) -> Witness {
    Witness::Says(Marker { epoch: epoch.map(Epoch::new), incarnation: Incarnation::new(1) })
}

fn resume(stored: Option<u64>, witness: &Witness, accepted: &[u64]) -> Result<(), String> {
    let accepted = accepted.iter().copied().map(Epoch::new).collect();
    may_resume(stored.map(Epoch::new), witness, &accepted).map_err(|error| error.to_string())
}

#[test]
fn a_marker_behind_or_level_is_fine() {
    assert_eq!(resume(Some(5), &says(Some(5)), &[]), Ok(()));
    assert_eq!(resume(Some(5), &says(Some(3)), &[]), Ok(()));
    assert_eq!(resume(Some(5), &says(None), &[]), Ok(()));
    assert_eq!(resume(None, &says(None), &[]), Ok(()));
    assert_eq!(resume(None, &Witness::Missing, &[]), Ok(()));
}

#[test]
fn lost_epochs_are_named_and_must_be_accepted_by_number() {
    let error = resume(Some(40), &says(Some(43)), &[39]).unwrap_err();
    assert!(error.starts_with("it lost epochs 41 to 43"), "{error}");
    assert!(error.ends_with("create the empty file \"accept-epoch-40\" in it"), "{error}");
    assert_eq!(resume(Some(40), &says(Some(43)), &[40]), Ok(()));
    assert!(resume(None, &says(Some(43)), &[0]).unwrap_err().contains("lost all epochs up to 43"));
}

#[test]
fn without_the_second_witness_an_epoch_must_be_accepted() {
    for witness in [Witness::Missing, Witness::Damaged(Error::state("cut short"))] {
        assert!(resume(Some(4), &witness, &[]).unwrap_err().contains("accept-epoch-4"));
        assert_eq!(resume(Some(4), &witness, &[4]), Ok(()));
    }
}

fn info(name: &str, kind: &str, version: u32) -> StepInfo {
    StepInfo { name: name.into(), kind: kind.into(), version }
}

fn step(id: u32, name: &str, dropped: bool) -> StepRecord {
    StepRecord { id, info: info(name, "window", 2), dropped }
}

#[test]
fn steps_keep_their_numbers_and_new_ones_get_fresh_ones() {
    let stored = [step(0, "a", false), step(7, "gone", true)];
    let (plan, dropped) = plan_steps(&stored, &[info("b", "dedupe", 1), info("a", "window", 2)], false).unwrap();
    assert_eq!(plan.iter().map(|step| step.id).collect::<Vec<_>>(), [0, 7, 8]);
    assert_eq!(dropped, [0; 0]);
    // A name that comes back after its state was dropped starts from nothing.
    let (plan, _) = plan_steps(&stored, &[info("a", "window", 2), info("gone", "window", 1)], false).unwrap();
    assert_eq!(plan.last().map(|step| (step.id, step.dropped)), Some((8, false)));
}

#[test]
fn a_step_of_another_kind_or_version_is_refused() {
    let plan = |wanted| plan_steps(&[step(0, "a", false)], &[wanted], false).unwrap_err().to_string();
    assert!(plan(info("a", "dedupe", 2)).contains("of kind \"window\""));
    let newer = plan(info("a", "window", 1));
    assert_eq!(newer, "could not restore step \"a\": state version 2 is newer than this program's 1");
    assert!(plan(info("a", "window", 3)).contains("older than this program's 3"));
    assert!(plan_steps(&[], &[info("a", "x", 1), info("a", "x", 1)], true).unwrap_err().to_string().contains("twice"));
}

#[test]
fn a_step_that_is_gone_is_dropped_only_when_allowed() {
    let stored = [step(0, "a", false), step(1, "b", false)];
    assert!(plan_steps(&stored, &[info("a", "window", 2)], false).unwrap_err().to_string().contains("\"b\""));
    let (plan, dropped) = plan_steps(&stored, &[info("a", "window", 2)], true).unwrap();
    assert_eq!((plan[1].dropped, dropped), (true, vec![1]));
}

fn record(epoch: u64, previous: Option<u64>) -> EpochRecord {
    let logs = vec![LogEntry { step: 0, worker: 0, bytes: 1, checksum: 0 }];
    EpochRecord { epoch: Epoch::new(epoch), previous: previous.map(Epoch::new), logs, handles: Vec::new() }
}

fn chain(folded: Option<u64>, chain: &[EpochRecord]) -> Result<(), String> {
    let identity = IdentityRecord { job: "job".into(), key_groups: 4, secret: [0; 16] };
    let folded = Folded { through: folded.map(Epoch::new) };
    check_chain(&identity, "job", &[step(0, "a", true)], folded, chain).map_err(|error| error.to_string())
}

#[test]
fn a_gap_anywhere_in_the_chain_is_found() {
    let whole = [record(3, Some(2)), record(4, Some(3)), record(9, Some(4))];
    assert_eq!(chain(Some(2), &whole), Ok(()));
    assert_eq!(chain(None, &[]), Ok(()));
    assert_eq!(chain(None, &[record(1, None)]), Ok(()));
    assert!(chain(Some(2), &whole[1..]).unwrap_err().contains("epoch 4 follows epoch 3 and epoch 2 was found"));
    assert!(chain(Some(2), &[whole[0].clone(), whole[2].clone()]).is_err());
    assert!(chain(None, &whole).is_err());
    assert!(chain(Some(9), &[]).unwrap_err().contains("after 9 are lost"));
    assert!(chain(Some(5), &[record(5, Some(5))]).is_err());
}

#[test]
fn an_epoch_of_an_unknown_step_is_damage() {
    let mut odd = record(3, None);
    odd.logs[0].step = 5;
    assert!(chain(None, &[odd]).unwrap_err().contains("unknown step 5"));
}

#[test]
fn handles_are_committed_again_until_they_are_acknowledged() {
    let handle = |epoch, worker| StagedHandle { epoch: Epoch::new(epoch), worker, handle: vec![] };
    let pending = [("a".into(), handle(1, 0)), ("b".into(), handle(1, 1)), ("a".into(), handle(2, 0))];
    let again = to_commit_again(&pending);
    assert_eq!(again[&StepName::new("a")], [handle(1, 0), handle(2, 0)]);
    assert_eq!(still_pending(&pending, Epoch::new(0)), pending);
    assert_eq!(still_pending(&pending, Epoch::new(1)), pending[2..]);
    assert_eq!(still_pending(&pending, Epoch::new(2)), []);
}

proptest! {
    #[test]
    fn a_fold_leaves_the_newest_epoch_and_bounds_what_stays(
        epochs in proptest::collection::vec(0..200_u64, 0..40), base in 0..1000_u64,
    ) {
        let tuning = Tuning { write_buffer: 0, fold_least: 100, fold_most: 400, fold_epochs: 30, fold_slice: 150, ..Tuning::default() };
        let count = fold_now(&tuning, base, epochs.iter().copied());
        prop_assert!(count == 0 || count == epochs.len() - 1);
        if count == 0 {
            // Either it is little, or it is one single epoch.
            prop_assert!(epochs.len() < 2 || epochs.iter().sum::<u64>() <= 400);
            prop_assert!(epochs.len() <= 30);
        }
    }

    #[test]
    fn slices_go_on_and_are_bounded(epochs in proptest::collection::vec(0..200_u64, 1..40)) {
        let tuning = Tuning { fold_slice: 150, ..Tuning::default() };
        let count = slice(&tuning, epochs.iter().copied());
        prop_assert!(count >= 1 && count <= epochs.len());
        prop_assert!(count == 1 || epochs[..count].iter().sum::<u64>() <= 150);
    }
}
