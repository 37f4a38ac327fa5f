//! What the billing job must give, computed with loops over all records and none of the engine's code.

use std::collections::BTreeMap;

use super::Reading;
use super::billing::{Inputs, Row, Shape};
use super::sorted;

/// What leaves the job, each kind sorted.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Expected {
    pub(crate) rows: Vec<Row>,
    pub(crate) late: Vec<Reading>,
    /// Split and position.
    pub(crate) rejected: Vec<(String, String)>,
}

/// Works the splits off one after the other. That is right in any order: lateness is a matter of a record's own split, and
/// an id is in one split only.
pub(crate) fn expected(inputs: &Inputs, shape: &Shape) -> Expected {
    let mut all = Expected::default();
    let mut totals: BTreeMap<(String, u64), (u64, u64)> = BTreeMap::new();
    for (split, records) in inputs {
        let mut greatest = 0;
        let mut accepted: BTreeMap<(String, u64), Vec<u64>> = BTreeMap::new();
        for (position, bytes) in records.iter().enumerate() {
            let Ok(record) = serde_json::from_slice::<Reading>(bytes) else {
                all.rejected.push((split.clone(), position.to_string()));
                continue;
            };
            // The watermark that the record meets: that of the records before it.
            let watermark = u64::saturating_sub(greatest, shape.lag);
            greatest = greatest.max(record.at);
            let before = accepted.entry((record.key.clone(), record.id)).or_default();
            let holds = |at: &u64| at.abs_diff(record.at) < shape.horizon && at + shape.horizon > watermark;
            if before.iter().any(holds) {
                continue;
            }
            before.push(record.at);
            let starts = (0..=record.at / shape.slide).map(|number| number * shape.slide);
            let open: Vec<u64> = starts
                .filter(|start| record.at < start + shape.size && start + shape.size + shape.grace > watermark)
                .collect();
            if open.is_empty() {
                all.late.push(record);
                continue;
            }
            for start in open {
                let total = totals.entry((record.key.clone(), start)).or_default();
                *total = (total.0 + 1, total.1 + record.value);
            }
        }
    }
    let row = |((key, start), (count, sum))| (key, start, start + shape.size, count, sum);
    Expected {
        rows: sorted(totals.into_iter().map(row).collect()),
        late: sorted(all.late),
        rejected: sorted(all.rejected),
    }
}
