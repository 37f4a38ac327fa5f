//! One thing varied, all else equal: rows to be read side by side, and lines to be drawn.

use anyhow::Result;

use super::made::Scene;
use super::{Bench, Heading, OURS_2, metering, point, rates, row};
use crate::input::Input;
use crate::limits::names::{PLAIN_2, TIMELY_2};
use crate::made::run::{By, Work};
use crate::results::{Axis, Entry, Group, Measured};
use crate::throughput::{Contest, Timed};

/// Epochs: how they are called, as a flag, and in milliseconds. The longest that there can be ends with the input.
const EPOCHS: [(&str, &str, f64); 5] = [
    ("off", "10m", 600_000.0),
    ("1s", "1s", 1_000.0),
    ("200ms", "200ms", 200.0),
    ("50ms", "50ms", 50.0),
    ("20ms", "20ms", 20.0),
];
const EPOCHS_METERING: &str = "The metering job on two workers, ids not deduplicated, with epochs of different lengths. *Off* \
                               is one epoch over all records.";
const EPOCHS_RUNNING: &str = "A running count over 100,000 keys made in memory, two workers: nearly all of the state changes in \
                              every epoch.";
const WORKERS: &str = "Count and sum by string key over tumbling minutes, 10,000 accounts, made in memory. More workers than \
                       cores take turns.";
const KEYS: &str = "Count and sum by integer key over tumbling minutes of a million records, made in memory. With ten million \
                    keys nearly every record makes a row.";
const SKEW: &str = "Count and sum by integer key over tumbling minutes, 100,000 keys met as Zipf says, made in memory. At 1.5 \
                    more than a third of all records have one key.";

/// A worker, its name in one word less.
fn workers_of(count: usize, program: &str) -> String {
    format!("{program}, {count} worker{}", if count == 1 { "" } else { "s" })
}

/// How much a shorter epoch costs.
pub(super) fn epochs(bench: &Bench) -> Result<Vec<Entry>> {
    let records = bench.effort.records(metering::TEN_MILLION);
    let input = Input::prepare(&bench.cache, records)?;
    let flags = |epoch| ["--workers", "2", "--dedupe-ms", "0", "--epoch", epoch];
    let entrants = EPOCHS.map(|(name, epoch, _)| metering::ours(bench, &input, name, &flags(epoch)));
    let (title, runs) = ("epochs, metering".to_owned(), bench.effort.runs);
    let contest = Contest { title, records, runs, timed: Timed::FromOutside, entrants: entrants.into() };
    let metering = contest.run(&bench.scratch)?;

    let scene = Scene::new(bench, Work::Running, 20_000_000, 100_000);
    let entrants = EPOCHS.map(|(name, epoch, _)| scene.entrant(bench, name, By::Engine, 2, &["--epoch", epoch]));
    let running = scene.contest("epochs, running count", runs, entrants.into()).run(&bench.scratch)?;

    let mut entries = Vec::new();
    let mut lines = Vec::new();
    for (job, ran, records, measured) in
        [("metering", EPOCHS_METERING, records, metering), ("running", EPOCHS_RUNNING, scene.spec.records, running)]
    {
        let mut points = Vec::new();
        for ((name, _, millis), mut measured) in EPOCHS.into_iter().zip(measured) {
            points.push(point(millis, &measured));
            measured.name = OURS_2.to_owned();
            let title = if name == "off" { "epochs off".to_owned() } else { format!("epochs of {name}") };
            let heading = Heading { id: format!("epochs-{job}-{name}"), group: Group::Epochs, title, ran, records };
            entries.extend(row(heading, OURS_2, &[], &[measured]));
        }
        lines.push((job.to_owned(), points));
    }
    let x = Axis { label: "length of an epoch, ms (600,000: off)".to_owned(), log: true };
    entries.push(rates("epochs", Group::Epochs, "Rate against the length of an epoch", x, lines));
    Ok(entries)
}

/// What more workers bring.
pub(super) fn workers(bench: &Bench) -> Result<Vec<Entry>> {
    let counts = [1, 2, 4];
    let scene = Scene::new(bench, Work::Strings, 20_000_000, 10_000);
    let programs = [("shardflow", By::Engine), ("raw timely", By::Timely)];
    let entrants = programs.iter().flat_map(|(program, by)| {
        counts.map(|count| scene.entrant(bench, &workers_of(count, program), *by, count, &[]))
    });
    let contest = scene.contest("workers", bench.effort.runs, entrants.collect());
    let measured = contest.run(&bench.scratch)?;
    let mut entries = Vec::new();
    for count in counts {
        let title = workers_of(count, "engine only").replace("engine only, ", "");
        let (group, records) = (Group::Workers, scene.spec.records);
        let heading = Heading { id: format!("workers-{count}"), group, title, ran: WORKERS, records };
        let (ours, limit) = (workers_of(count, "shardflow"), workers_of(count, "raw timely"));
        entries.extend(row(heading, &ours, &[&limit], &measured));
    }
    let lines = programs.iter().zip(measured.chunks(counts.len())).map(|((program, _), measured)| {
        let points = counts.iter().zip(measured).map(|(count, measured)| point(*count as f64, measured));
        ((*program).to_owned(), points.collect())
    });
    let x = Axis { label: "workers".to_owned(), log: false };
    entries.push(rates("workers", Group::Workers, "Rate against the number of workers", x, lines.collect()));
    Ok(entries)
}

/// What more keys cost.
pub(super) fn keys(bench: &Bench) -> Result<Vec<Entry>> {
    let title = |power: u32| format!("10^{power} keys");
    let steps = [4, 5, 6, 7].map(|power| {
        let scene = Scene::new(bench, Work::Ints, 16_000_000, 10_u32.pow(power));
        Step { x: 10_f64.powi(power as i32), id: format!("keys-1e{power}"), title: title(power), scene }
    });
    let x = Axis { label: "keys".to_owned(), log: true };
    sweep(bench, Group::Keys, KEYS, "Rate against the number of keys", x, &steps, &[(TIMELY_2, By::Timely)])
}

/// What unevenly met keys cost.
pub(super) fn skew(bench: &Bench) -> Result<Vec<Entry>> {
    let steps = [0.0, 1.1, 1.5].map(|exponent| {
        let mut scene = Scene::new(bench, Work::Ints, 20_000_000, 100_000);
        scene.spec.skew = Some(exponent);
        Step { x: exponent, id: format!("skew-{exponent}"), title: format!("exponent {exponent}"), scene }
    });
    let x = Axis { label: "Zipf's exponent".to_owned(), log: false };
    let limits = [(TIMELY_2, By::Timely), (PLAIN_2, By::Plain)];
    sweep(bench, Group::Skew, SKEW, "Rate against the skew of keys", x, &steps, &limits)
}

/// A value of what is varied.
struct Step {
    x: f64,
    id: String,
    title: String,
    scene: Scene,
}

/// Ours and `limits` on two workers, step by step.
fn sweep(
    bench: &Bench,
    group: Group,
    ran: &str,
    title: &str,
    x: Axis,
    steps: &[Step],
    limits: &[(&str, By)],
) -> Result<Vec<Entry>> {
    let programs: Vec<(&str, By)> = [(OURS_2, By::Engine)].into_iter().chain(limits.iter().copied()).collect();
    let names: Vec<&str> = limits.iter().map(|(name, _)| *name).collect();
    let mut lines: Vec<(String, Vec<(f64, f64)>)> =
        programs.iter().map(|(name, _)| ((*name).to_owned(), Vec::new())).collect();
    let mut entries = Vec::new();
    for Step { x, id, title, scene } in steps {
        let entrants = programs.iter().map(|(name, by)| scene.entrant(bench, name, *by, 2, &[])).collect();
        let measured: Vec<Measured> = scene.contest(title, bench.effort.runs, entrants).run(&bench.scratch)?;
        for ((_, points), measured) in lines.iter_mut().zip(&measured) {
            points.push(point(*x, measured));
        }
        let (id, title, records) = (id.clone(), title.clone(), scene.spec.records);
        entries.extend(row(Heading { id, group, title, ran, records }, OURS_2, &names, &measured));
    }
    let id = steps.first().and_then(|step| step.id.split('-').next()).unwrap_or_default();
    entries.push(rates(id, group, title, x, lines));
    Ok(entries)
}
