//! The page, as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::goals::{GOALS, Verdict};
use super::peers::Peers;
use crate::results::{Entry, Figure, Measured, Results, Speed, Stamped, Unit, counted, short};
use crate::stats::{Spread, ratio};

/// What is known before anything is measured, by hand.
const PREAMBLE: &str = include_str!("preamble.md");

/// The whole page.
pub(super) fn render(results: &Results, peers: &Peers) -> String {
    let mut page = PREAMBLE.to_owned();
    goals(&mut page, results, peers);
    for (group, entries) in results.by_group() {
        let _ = write!(page, "\n## {}\n", group.title());
        speeds(&mut page, &entries, peers);
        figures(&mut page, &entries);
        plots(&mut page, &entries);
    }
    machines(&mut page, results);
    page
}

fn goals(page: &mut String, results: &Results, peers: &Peers) {
    let judged: Vec<_> = GOALS.iter().map(|goal| (goal, goal.judge(results, peers))).collect();
    let of = |wanted: Verdict| judged.iter().filter(|(_, (_, verdict))| *verdict == wanted).count();
    let (met, missed, not) = (of(Verdict::Met), of(Verdict::Missed), of(Verdict::NotMeasured));
    let _ = write!(page, "\n## Goals\n\n{met} met, {missed} missed, {not} not measured.\n\n");
    page.push_str("| work | goal | figure | |\n|---|---|---|---|\n");
    for (goal, (figure, verdict)) in judged {
        let _ = writeln!(page, "| {} | {} | {figure} | {} |", goal.work, goal.wanted(), verdict.word());
    }
}

/// A table for each kind of work: rows of the same one stand in it together.
fn speeds(page: &mut String, entries: &[&Stamped], peers: &Peers) {
    let mut described = "";
    for stamped in entries {
        let Entry::Speed(speed) = &stamped.entry else { continue };
        if speed.ran != described {
            described = &speed.ran;
            let head = "| | | records/s (least to greatest) | CPU-s per M records | peak memory | ours / this |\n\
                        |---|---|---|---|---|---|\n";
            let _ = write!(page, "\n{described}\n\n{head}");
        }
        lines(page, speed, peers);
    }
}

/// A line for each program.
fn lines(page: &mut String, speed: &Speed, peers: &Peers) {
    let Speed { id, title, records, ours, limits, .. } = speed;
    // Where a title counts records, they need not be told again.
    let title = if title.contains("records") { title.clone() } else { format!("{title}; {}", counted(*records)) };
    line(page, &format!("**{title}**"), &format!("**{}**", ours.name), ours, "");
    for limit in limits {
        let part = short(ratio(ours.rate.median, limit.rate.median));
        line(page, "", &format!("limit: {}", limit.name), limit, &part);
    }
    for peer in peers.on(id) {
        let measured = Measured {
            name: format!("{}, {} of {}", peer.peer, peer.version, peer.date),
            rate: Spread::once(peer.rate),
            cpu_per_million: Spread::once(peer.cpu_s_per_m),
            peak: Spread::once(peer.peak_bytes),
        };
        line(page, "", &measured.name, &measured, &short(ratio(ours.rate.median, peer.rate)));
    }
}

fn line(page: &mut String, title: &str, name: &str, measured: &Measured, part: &str) {
    let Measured { rate, cpu_per_million, peak, .. } = measured;
    let _ = writeln!(
        page,
        "| {title} | {name} | {}{} | {} | {} | {part} |",
        Unit::RecordsPerSecond.write(rate.median),
        range(rate, Unit::RecordsPerSecond),
        short(cpu_per_million.median),
        Unit::Bytes.write(peak.greatest),
    );
}

fn figures(page: &mut String, entries: &[&Stamped]) {
    let mut head = "\n| | | |\n|---|---|---|\n";
    for stamped in entries {
        let Entry::Figure(Figure { title, value, unit, notes, .. }) = &stamped.entry else { continue };
        page.push_str(std::mem::take(&mut head));
        let _ = writeln!(page, "| {title} | {}{} | {notes} |", unit.write(value.median), range(value, *unit));
    }
}

fn plots(page: &mut String, entries: &[&Stamped]) {
    for stamped in entries {
        if let Entry::Series(series) = &stamped.entry {
            let _ = write!(page, "\n![{}](plots/{}.svg)\n", series.title, series.id);
        }
    }
}

/// Least to greatest, where there was more than one run.
fn range(spread: &Spread, unit: Unit) -> String {
    if spread.runs < 2 {
        return String::new();
    }
    format!(" ({} to {})", unit.number(spread.least), unit.number(spread.greatest))
}

/// Groups that were measured at once, on one line.
fn machines(page: &mut String, results: &Results) {
    let mut stamps: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (group, entries) in results.by_group() {
        for stamped in entries {
            let stamp = &stamped.stamp;
            let commit = if stamp.commit.is_empty() { String::new() } else { format!(", commit {}", stamp.commit) };
            let titles = stamps.entry(format!("{}{commit}. {}", stamp.date, stamp.machine())).or_default();
            if !titles.contains(&group.title()) {
                titles.push(group.title());
            }
        }
    }
    page.push_str("\n## When and on what\n\n");
    for (what, titles) in stamps {
        let _ = writeln!(page, "* {what}: {}.", titles.join("; "));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn page() -> String {
        render(&fixture::results(), &fixture::peers())
    }

    fn holds(page: &str, text: &str) {
        assert!(page.contains(text), "\"{text}\" is not in\n{page}");
    }

    #[test]
    fn goals_come_first_with_their_verdicts() {
        let page = page();
        holds(&page, "| metering from NDJSON, 10 M records | ≥ 5.00 M/s | 5.40 M/s | met |\n");
        holds(&page, "| … in parts of raw timely on 2 workers | ≥ 0.85× | 0.72× | **MISSED** |\n");
        holds(&page, "| sliding 60 s / 5 s | ≥ 6.60 M/s |  | not measured |\n");
        assert!(page.find("## Goals").unwrap() < page.find("## Metering").unwrap());
    }

    #[test]
    fn a_row_has_ours_then_limits_then_peers_with_ratios() {
        let page = page();
        holds(
            &page,
            "| **10 M records** | **shardflow, 2 workers** | 5.40 M/s (4.86 to 5.94) | 0.35 | 208 MB |  |\n\
             |  | limit: raw timely, 2 workers | 7.50 M/s (7.50 to 7.50) | 0.26 | 77 MB | 0.72 |\n\
             |  | limit: plain Rust, 2 threads | 8.60 M/s (8.60 to 8.60) | 0.22 | 198 MB | 0.63 |\n",
        );
        holds(&page, "| 0.50 M/s | 3.80 | 3300 MB | 10.8 |\n");
    }

    #[test]
    fn rows_of_one_work_share_a_table_and_figures_have_their_own() {
        let page = page();
        assert_eq!(page.matches("\nEpochs vary.\n").count(), 1);
        holds(&page, "| **off; 10 M records** |");
        holds(&page, "| running result, p50 | 0.28 ms | open loop |\n");
        holds(&page, "![Rate against epochs](plots/epochs.svg)");
    }

    #[test]
    fn each_run_says_when_and_on_what_it_was() {
        let page = page();
        holds(
            &page,
            "* 2026-11-25 10:00 UTC, commit abc1234+changes. A CPU, 2 cores, 16.0 GB; Debian, Linux 6.1: Metering from NDJSON, \
             ids not deduplicated; Length of an epoch.\n",
        );
        holds(&page, "* 2026-11-24 10:00 UTC");
    }
}
