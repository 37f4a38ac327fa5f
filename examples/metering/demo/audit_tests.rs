use std::fs;

use super::*;
use crate::metering::workload::{Draft, Flaw, Kind, METERS, account_name};

const SEMANTICS: Semantics = Semantics { window: 10, lag: 5, grace: 0, dedupe: 1000 };

fn draft(kind: Kind, id: u64, qty: u64, at: u64) -> Draft {
    Draft { kind, id, account: 7, meter: 2, qty, at, lane: 0 }
}

fn put(ledger: &mut Ledger, draft: Draft, raw: &[u8]) {
    ledger.trying(&[draft]);
    ledger.acknowledged(&draft, raw);
}

/// Two windows, a copy, a late record and two equal bad ones.
fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    for (kind, id, qty, at) in [
        (Kind::Ordinary, 1, 5, 12),
        (Kind::Ordinary, 2, 9, 15),
        (Kind::Copy, 1, 5, 12),
        (Kind::Ordinary, 3, 4, 61),
        (Kind::Late, 4, 1, 3),
    ] {
        put(&mut ledger, draft(kind, id, qty, at), b"");
    }
    for _ in 0..2 {
        put(&mut ledger, draft(Kind::Bad(Flaw::EmptyObject), 5, 1, 1), b"{}");
    }
    ledger
}

fn charge(start: u64, qty: u128, count: u64, max: u64) -> String {
    let row = Charge {
        account: account_name(7).into(),
        meter: METERS[2].into(),
        window_start: start,
        window_end: start + 10,
        qty,
        count,
        max,
    };
    serde_json::to_string(&row).unwrap() + "\n"
}

fn late(id: u64, qty: u64, at: u64) -> String {
    let row =
        Usage { id: format!("u-{id:016x}").into(), account: account_name(7).into(), meter: METERS[2].into(), qty, at };
    serde_json::to_string(&row).unwrap() + "\n"
}

const REJECTED: &str = "{\"error\":\"e\",\"raw\":\"{}\",\"split\":\"s\",\"position\":\"1\"}\n";

fn audit(charges: &[String], lates: &[String], rejected: usize) -> Audit {
    let out = tempfile::tempdir().unwrap();
    for (name, text) in
        [("charges", charges.concat()), ("late", lates.concat()), ("rejected", REJECTED.repeat(rejected))]
    {
        fs::create_dir(out.path().join(name)).unwrap();
        fs::write(out.path().join(name).join("1.ndjson"), text).unwrap();
    }
    Audit::of(&ledger(), out.path(), &SEMANTICS).unwrap()
}

fn findings(audit: &Audit) -> (u64, u64, u64) {
    (audit.lost, audit.twice, audit.wrong)
}

#[test]
fn correct_output_holds_and_is_counted() {
    let audit = audit(&[charge(10, 14, 2, 9), charge(60, 4, 1, 4)], &[late(4, 1, 3)], 2);
    assert!(audit.holds(), "{audit}");
    assert_eq!((audit.sent, audit.unique, audit.copies), (7, 4, 1));
    assert_eq!((audit.charged, audit.windows, audit.late, audit.rejected), (3, 2, 1, 2));
    assert!(audit.to_string().contains("lost                   0\n"), "{audit}");
}

#[test]
fn missing_window_late_record_and_rejected_record_are_lost() {
    let audit = audit(&[charge(10, 14, 2, 9)], &[], 1);
    // The window of 60, the late record's window, and one bad record.
    assert_eq!(findings(&audit), (3, 0, 0));
    assert!(!audit.holds() && audit.first.len() == 3, "{audit}");
}

#[test]
fn nothing_written_loses_everything() {
    let out = tempfile::tempdir().unwrap();
    let audit = Audit::of(&ledger(), out.path(), &SEMANTICS).unwrap();
    assert_eq!(findings(&audit), (6, 0, 0));
}

#[test]
fn doubled_rows_are_twice() {
    let charges = [charge(10, 14, 2, 9), charge(10, 14, 2, 9), charge(60, 4, 1, 4)];
    let audit = audit(&charges, &[late(4, 1, 3), late(4, 1, 3)], 3);
    assert_eq!(findings(&audit), (0, 4, 0));
}

#[test]
fn copy_that_was_charged_is_twice() {
    let audit = audit(&[charge(10, 19, 3, 9), charge(60, 4, 1, 4)], &[late(4, 1, 3)], 2);
    assert_eq!(findings(&audit), (0, 1, 0));
}

#[test]
fn late_record_that_was_charged_too_is_twice() {
    let audit = audit(&[charge(0, 1, 1, 1), charge(10, 14, 2, 9), charge(60, 4, 1, 4)], &[late(4, 1, 3)], 2);
    assert_eq!(findings(&audit), (0, 1, 0));
}

#[test]
fn changed_sum_and_window_in_two_rows_are_wrong() {
    let audit_of = |first: &[String]| audit(&[first, &[charge(60, 4, 1, 4)]].concat(), &[late(4, 1, 3)], 2);
    assert_eq!(findings(&audit_of(&[charge(10, 15, 2, 9)])), (0, 0, 2));
    assert_eq!(findings(&audit_of(&[charge(10, 5, 1, 5), charge(10, 9, 1, 9)])), (0, 0, 2));
}

#[test]
fn late_without_a_cause_is_wrong() {
    // Id 3 is the latest of all when it is put: nothing can have made it late.
    let audit = audit(&[charge(10, 14, 2, 9)], &[late(3, 4, 61), late(4, 1, 3)], 2);
    assert_eq!(findings(&audit), (0, 0, 1));
    assert!(audit.to_string().contains("late without a cause"), "{audit}");
}

#[test]
fn rows_that_nobody_sent_are_wrong() {
    let good = [charge(10, 14, 2, 9), charge(60, 4, 1, 4)];
    assert_eq!(findings(&audit(&good, &[late(4, 1, 3), late(99, 1, 3)], 2)), (0, 0, 1));
    assert_eq!(findings(&audit(&good, &[late(4, 2, 3)], 2)), (0, 0, 1));
    let stranger = charge(10, 1, 1, 1).replace("acct-0007", "nobody");
    assert_eq!(findings(&audit(&[&good[..], &[stranger]].concat(), &[late(4, 1, 3)], 2)), (0, 0, 1));
    let marker = charge(90_000, 1, 1, 1).replace("acct-0007", MARKER);
    assert!(audit(&[&good[..], &[marker]].concat(), &[late(4, 1, 3)], 2).holds());
}
