//! State larger than its memory budget: the same work with less and less memory.

use anyhow::Result;

use super::made::Scene;
use super::{Bench, Heading, OURS_2, point, rates, row};
use crate::made::flows::PADDED_BYTES;
use crate::made::run::{By, Work, engine_takes};
use crate::results::{Axis, Entry, Group};

/// The budget at which state is ten times as large, in bytes.
const BUDGET_AT_10X: u64 = 64 << 20;
/// What a job with that budget may take in all, in bytes.
pub(crate) const ALLOWED_AT_10X: f64 = BUDGET_AT_10X as f64 * 1.2 + 150e6;
/// Bytes of state.
const STATE: u64 = 10 * BUDGET_AT_10X;
/// Each key is met four times.
const RECORDS: u64 = 4 * STATE / PADDED_BYTES;

const RAN: &str = "A running count with 200 bytes of state for each of 3.2 M keys, met uniformly: 671 MB, counted without what \
                   maps and indexes add. The same work each time, with another budget.";

/// Sizes of the state in parts of the budget; `None`: a budget that holds all of it.
const TIMES: [(&str, Option<f64>); 4] = [("all", None), ("0.5x", Some(0.5)), ("2x", Some(2.0)), ("10x", Some(10.0))];

/// Measures all budgets, on an engine that has them.
pub(super) fn measure(bench: &Bench) -> Result<Vec<Entry>> {
    if !engine_takes("state-memory") {
        eprintln!("state beyond its memory budget: not measured, the engine has no --state-memory");
        return Ok(Vec::new());
    }
    let keys = u32::try_from(bench.effort.records(STATE / PADDED_BYTES)).unwrap_or(u32::MAX);
    let scene = Scene::new(bench, Work::Padded, RECORDS, keys);
    let entrants = TIMES.map(|(name, times)| {
        let budget = times.map_or(1 << 40, |times| (bench.effort.records(STATE) as f64 / times) as u64);
        scene.entrant(bench, name, By::Engine, 2, &[&format!("--state-memory={budget}")])
    });
    let contest = scene.contest("state beyond its memory budget", bench.effort.few_runs(), entrants.into());
    let mut measured = contest.run(&bench.scratch)?;
    let mut entries = Vec::new();
    let mut points = Vec::new();
    for ((name, times), measured) in TIMES.into_iter().zip(&mut measured) {
        measured.name = OURS_2.to_owned();
        points.extend(times.map(|times| point(times, measured)));
        let title = times.map_or("all in memory".to_owned(), |times| format!("state {times}× its budget"));
        let heading =
            Heading { id: format!("memory-{name}"), group: Group::Memory, title, ran: RAN, records: contest.records };
        entries.extend(row(heading, OURS_2, &[], std::slice::from_ref(measured)));
    }
    let whole = measured.first().map(|whole| points.iter().map(|(x, _)| point(*x, whole)).collect());
    let lines = vec![("with the budget".to_owned(), points), ("all in memory".to_owned(), whole.unwrap_or_default())];
    let x = Axis { label: "state in parts of its memory budget".to_owned(), log: true };
    entries.push(rates("memory", Group::Memory, "Rate against state in parts of its memory budget", x, lines));
    Ok(entries)
}
