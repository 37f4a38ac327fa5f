use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use shardflow::Decoder;

use super::line::{push_decimal, push_hex};
use super::*;
use crate::metering::decode::UsageDecoder;
use crate::metering::types::Usage;

fn lines(spec: &Spec) -> Vec<(Draft, Vec<u8>)> {
    let mut workload = Workload::new(spec.clone()).unwrap();
    let mut lines = Vec::new();
    while let Some(draft) = workload.next() {
        let mut line = Vec::new();
        workload.write(&draft, &mut line);
        lines.push((draft, line));
    }
    lines
}

#[test]
fn same_seed_gives_the_same_bytes_and_another_gives_others() {
    let spec = Spec::new(5_000, 7);
    assert_eq!(lines(&spec), lines(&spec));
    assert_ne!(lines(&spec), lines(&Spec::new(5_000, 8)));
}

#[test]
fn a_seed_gives_these_records_for_ever() {
    let spec = Spec { lanes: 3, duplicates: 0.1, late: 0.1, bad: 0.1, ..Spec::new(2_000, 1) };
    let lines = lines(&spec);
    let first =
        r#"{"id":"u-5e41ab087439611e","account":"acct-0006","meter":"egress-mb","qty":2111,"at":1699999997614}"#;
    assert_eq!(String::from_utf8_lossy(&lines[0].1), first);
    // FNV-1a of all bytes: benchmarks and published numbers depend on them.
    let bytes = lines.iter().flat_map(|(_, line)| line);
    let hash = bytes
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3));
    assert_eq!(hash, 3_005_641_942_922_442_122);
}

#[test]
fn shares_come_out_as_asked() {
    let spec = Spec { lanes: 4, ..Spec::new(400_000, 3) };
    let mut counts = HashMap::new();
    for draft in Workload::new(spec).unwrap() {
        *counts.entry(std::mem::discriminant(&draft.kind)).or_insert(0_u64) += 1;
    }
    let count = |kind: Kind| counts.get(&std::mem::discriminant(&kind)).copied().unwrap_or(0);
    assert_eq!(counts.values().sum::<u64>(), 400_000);
    assert!((7_400..8_600).contains(&count(Kind::Copy)), "{} copies", count(Kind::Copy));
    assert!((320..480).contains(&count(Kind::Late)), "{} late", count(Kind::Late));
    assert!((140..260).contains(&count(Kind::Bad(Flaw::Junk))), "{} bad", count(Kind::Bad(Flaw::Junk)));
}

#[test]
fn good_records_decode_to_what_was_drafted() {
    let spec = Spec { bad: 0.0, ..Spec::new(5_000, 11) };
    let decoder = UsageDecoder::new();
    for (draft, line) in lines(&spec) {
        let received = decoder.decode(&line).unwrap();
        let expected = Usage {
            id: format!("u-{:016x}", draft.id).into(),
            account: draft.account_name().into(),
            meter: METERS[usize::from(draft.meter)].into(),
            qty: draft.qty,
            at: draft.at,
        };
        assert_eq!(received.usage, expected);
    }
}

#[test]
fn every_flaw_is_met_and_none_decodes_or_breaks_a_line() {
    let spec = Spec { bad: 1.0, late: 0.0, ..Spec::new(3_000, 5) };
    let decoder = UsageDecoder::new();
    let mut met = HashSet::new();
    for (draft, line) in lines(&spec) {
        assert!(decoder.decode(&line).is_err(), "{draft:?}");
        assert!(!line.is_empty() && !line.contains(&b'\n') && line.last() != Some(&b'\r'), "{draft:?}");
        met.insert(draft.kind);
    }
    assert_eq!(met.len(), FLAWS.len());
}

#[test]
fn nonsense_is_refused_with_the_reason() {
    let refused = |spec: Spec| Workload::new(spec).unwrap_err().to_string();
    assert!(refused(Spec { late: 1.5, ..Spec::new(1, 1) }).contains("late is 1.5"));
    assert!(refused(Spec { duplicates: f64::NAN, ..Spec::new(1, 1) }).contains("duplicates is NaN"));
    assert!(refused(Spec { late: 0.6, bad: 0.6, ..Spec::new(1, 1) }).contains("more than 1 together"));
    assert!(refused(Spec { start: LAST_MILLISECOND, ..Spec::new(1, 1) }).contains("9999"));
}

proptest! {
    #[test]
    fn copies_are_exact_ids_unique_and_times_as_promised(
        seed in any::<u64>(),
        records in 0_u64..4_000,
        lanes in 1_usize..6,
        span in 1_u64..7_200_000,
        disorder in 0_u64..8_000,
    ) {
        let spec = Spec { lanes, span, disorder, duplicates: 0.2, late: 0.1, bad: 0.05, ..Spec::new(records, seed) };
        let mut first: HashMap<u64, (Draft, Vec<u8>)> = HashMap::new();
        let mut latest = vec![0_u64; lanes];
        let lines = lines(&spec);
        prop_assert_eq!(lines.len() as u64, records);
        for (slot, (draft, line)) in lines.into_iter().enumerate() {
            let clock = spec.start + slot as u64 * span / records;
            prop_assert_eq!(draft.lane, usize::from(draft.account) % lanes);
            match draft.kind {
                Kind::Copy => {
                    let (original, bytes) = &first[&draft.id];
                    prop_assert_eq!(&line, bytes);
                    prop_assert_eq!(original.lane, draft.lane);
                    continue;
                }
                Kind::Late => {
                    prop_assert!(latest[draft.lane] - draft.at >= *spec.behind.start());
                    prop_assert!(latest[draft.lane] - draft.at <= *spec.behind.end());
                }
                Kind::Ordinary => {
                    prop_assert!(draft.at <= clock && clock - draft.at <= disorder);
                    latest[draft.lane] = latest[draft.lane].max(draft.at);
                }
                Kind::Bad(_) => {}
            }
            prop_assert!(first.insert(draft.id, (draft, line)).is_none());
        }
    }

    #[test]
    fn numbers_are_written_as_everyone_writes_them(number in any::<u64>()) {
        let mut out = Vec::new();
        push_decimal(number, &mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        let mut out = Vec::new();
        push_hex(number, &mut out);
        prop_assert_eq!(String::from_utf8(out).unwrap(), format!("{number:016x}"));
    }
}
