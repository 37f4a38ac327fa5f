//! What is said on stdout at the end: a line for each row and for each goal.

use super::goals::GOALS;
use super::peers::Peers;
use crate::results::{Entry, Results, Speed, Unit, short};
use crate::stats::ratio;

/// All figures and goals, aligned.
pub(crate) fn summary(results: &Results, peers: &Peers) -> String {
    let entries = results.by_group().into_values().flatten();
    let rows: Vec<Vec<String>> = entries.filter_map(|stamped| cells(&stamped.entry)).collect();
    let goals = GOALS.iter().map(|goal| {
        let (figure, verdict) = goal.judge(results, peers);
        [goal.work.to_owned(), goal.wanted(), figure, verdict.word().replace('*', "")].into()
    });
    format!("{}\n{}", aligned(&rows), aligned(&goals.collect::<Vec<_>>()))
}

fn cells(entry: &Entry) -> Option<Vec<String>> {
    match entry {
        Entry::Speed(Speed { id, ours, limits, .. }) => {
            let beside = limits
                .iter()
                .map(|limit| format!("{} of {}", short(ratio(ours.rate.median, limit.rate.median)), limit.name));
            let notes = [Unit::CpuPerMillion.write(ours.cpu_per_million.median), Unit::Bytes.write(ours.peak.greatest)];
            let notes: Vec<String> = notes.into_iter().chain(beside).collect();
            Some(vec![id.clone(), Unit::RecordsPerSecond.write(ours.rate.median), notes.join(", ")])
        }
        Entry::Figure(figure) => {
            Some(vec![figure.id.clone(), figure.unit.write(figure.value.median), figure.notes.clone()])
        }
        Entry::Series(_) => None,
    }
}

/// Columns as wide as their widest cell; numbers are not told from words.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn rows_and_goals_are_listed_in_columns() {
        let text = summary(&fixture::results(), &fixture::peers());
        let expected = "metering-10m             5.40 M/s  0.35 CPU-s/M, 208 MB, 0.72 of raw timely, 2 workers, 0.63 of plain \
                        Rust, 2 threads\n";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("\nlatency-running-50k-p50  0.28 ms   open loop\n"), "{text}");
        let missed = text.lines().find(|line| line.starts_with("peak memory of metering")).unwrap();
        assert!(missed.contains("≤ 150 MB") && missed.ends_with("MISSED"), "{missed}");
    }
}
