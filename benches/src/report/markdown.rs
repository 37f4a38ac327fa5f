//! The page, as text.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::goals::GOALS;
use super::peers::Peers;
use crate::results::{Entry, Figure, Group, Measured, Results, Speed, Stamped, Unit, short};
use crate::stats::{Spread, ratio};

const PREAMBLE: &str = include_str!("preamble.md");

/// The whole page.
pub(super) fn render(results: &Results, peers: &Peers) -> String {
    let mut page = PREAMBLE.to_owned();
    goals(&mut page, results, peers);
    let mut groups: BTreeMap<Group, Vec<&Stamped>> = BTreeMap::new();
    for stamped in results.all() {
        groups.entry(stamped.entry.group()).or_default().push(stamped);
    }
    for (group, entries) in groups {
        let _ = write!(page, "\n## {}\n", group.title());
        section(&mut page, &entries, peers);
    }
    machines(&mut page, results);
    page
}

fn goals(page: &mut String, results: &Results, peers: &Peers) {
    page.push_str("## Goals\n\n| work | goal | figure | |\n|---|---|---|---|\n");
    for goal in GOALS {
        let (figure, verdict) = goal.judge(results, peers);
        let _ = writeln!(page, "| {} | {} | {figure} | {} |", goal.work, goal.wanted(), verdict.word());
    }
}

fn section(page: &mut String, entries: &[&Stamped], peers: &Peers) {
    for stamped in entries {
        if let Entry::Speed(speed) = &stamped.entry {
            table(page, speed, peers);
        }
    }
    let figures = entries.iter().filter_map(|stamped| match &stamped.entry {
        Entry::Figure(figure) => Some(figure),
        _ => None,
    });
    for (index, figure) in figures.enumerate() {
        if index == 0 {
            page.push_str("\n| | | |\n|---|---|---|\n");
        }
        let Figure { title, value, unit, notes, .. } = figure;
        let _ = writeln!(page, "| {title} | {}{} | {notes} |", unit.write(value.median), range(value, *unit));
    }
    for stamped in entries {
        if let Entry::Series(series) = &stamped.entry {
            let _ = write!(page, "\n![{}](plots/{}.svg)\n", series.title, series.id);
        }
    }
}

/// One row of the suite: a table with a line for each program.
fn table(page: &mut String, speed: &Speed, peers: &Peers) {
    let Speed { title, ran, records, ours, limits, .. } = speed;
    let _ = write!(page, "\n### {title}\n\n{ran} {} records", millions(*records));
    let _ = write!(page, ", median of {}.\n\n", ours.rate.runs);
    page.push_str("| | records/s | CPU-s per M records | peak memory | ours / this |\n|---|---|---|---|---|\n");
    line(page, &format!("**{}**", ours.name), ours, "");
    for limit in limits {
        line(page, &format!("limit: {}", limit.name), limit, &short(ratio(ours.rate.median, limit.rate.median)));
    }
    for peer in peers.on(&speed.id) {
        let once = |figure| Spread::once(figure);
        let measured = Measured {
            name: peer.peer.clone(),
            rate: once(peer.rate),
            cpu_per_million: once(peer.cpu_s_per_m),
            peak: once(peer.peak_bytes),
        };
        line(page, &peer.peer, &measured, &short(ratio(ours.rate.median, peer.rate)));
    }
}

fn line(page: &mut String, name: &str, measured: &Measured, ratio: &str) {
    let Measured { rate, cpu_per_million, peak, .. } = measured;
    let _ = writeln!(
        page,
        "| {name} | {}{} | {} | {} | {ratio} |",
        Unit::RecordsPerSecond.write(rate.median),
        range(rate, Unit::RecordsPerSecond),
        short(cpu_per_million.median),
        Unit::Bytes.write(peak.greatest),
    );
}

/// Least to greatest, where there was more than one run.
fn range(spread: &Spread, unit: Unit) -> String {
    if spread.runs < 2 {
        return String::new();
    }
    format!(" ({} to {})", unit.number(spread.least), unit.number(spread.greatest))
}

fn millions(records: u64) -> String {
    if records >= 1_000_000 { format!("{} M", short_whole(records as f64 / 1e6)) } else { records.to_string() }
}

fn short_whole(figure: f64) -> String {
    if figure.fract() == 0.0 { format!("{figure:.0}") } else { format!("{figure:.1}") }
}

fn machines(page: &mut String, results: &Results) {
    let mut stamps: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for stamped in results.all() {
        let stamp = &stamped.stamp;
        let what = format!("{}, commit {}: {}", stamp.date, stamp.commit, stamp.machine());
        stamps.entry(what).or_default().push(stamped.entry.id());
    }
    page.push_str("\n## Measured when and on what\n\n");
    for (what, ids) in stamps {
        let _ = writeln!(page, "* {what}. Rows: {}", ids.join(", "));
    }
}

/// All figures, aligned.
pub(super) fn summary(results: &Results, peers: &Peers) -> String {
    let mut text = String::new();
    for stamped in results.all() {
        let _ = match &stamped.entry {
            Entry::Speed(speed) => {
                writeln!(text, "{:<28} {}", speed.id, Unit::RecordsPerSecond.write(speed.ours.rate.median))
            }
            Entry::Figure(figure) => writeln!(text, "{:<28} {}", figure.id, figure.unit.write(figure.value.median)),
            Entry::Series(_) => Ok(()),
        };
    }
    for goal in GOALS {
        let (figure, verdict) = goal.judge(results, peers);
        let _ = writeln!(text, "{:<64} {:>14} {:>12} {}", goal.work, goal.wanted(), figure, verdict.word());
    }
    text
}
