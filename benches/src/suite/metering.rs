//! The metering job from NDJSON, with its own command line, beside the same work done by hand.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Bench, Heading, OURS_1, OURS_2, row};
use crate::input::Input;
use crate::limits::names::{PLAIN_1, PLAIN_2, TIMELY_1, TIMELY_2};
use crate::results::{Entry, Group, counted};
use crate::throughput::{Contest, Entrant, Timed};

/// Records of the row that has a goal.
pub(super) const TEN_MILLION: u64 = 10_000_000;

const COUNTED: &str = "`metering run --dedupe-ms 0` from four files of NDJSON to files of charges by account, meter and minute; \
                       the limits write the same rows.";
const ONCE: &str = "`metering run`: an id counts once for account and meter within 24 hours. The limits keep \
                    fingerprints of 128 bits in memory and nothing else.";

/// 2, 10 and 50 M records, ids not deduplicated.
pub(super) fn all(bench: &Bench) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for millions in [2, 10, 50] {
        let records = bench.effort.records(millions * 1_000_000);
        let input = Input::prepare(&bench.cache, records)?;
        let runs = if millions > 10 { bench.effort.few_runs() } else { bench.effort.runs };
        let title = format!("{}, {:.0} MB", counted(records), input.bytes as f64 / 1e6);
        let mut entrants = vec![ours(bench, &input, OURS_2, &["--workers", "2", "--dedupe-ms", "0"])];
        let one = millions == 10;
        if one {
            entrants.push(ours(bench, &input, OURS_1, &["--workers", "1", "--dedupe-ms", "0"]));
        }
        entrants.extend(limits(bench, &input, false));
        let contest =
            Contest { title: format!("metering, {title}"), records, runs, timed: Timed::FromOutside, entrants };
        let measured = contest.run(&bench.scratch)?;
        let heading = |id: String, title: String| Heading { id, group: Group::Metering, title, ran: COUNTED, records };
        let id = format!("metering-{millions}m");
        if one {
            let heading = heading(format!("{id}-1"), format!("{title}, one worker"));
            entries.extend(row(heading, OURS_1, &[TIMELY_1, PLAIN_1], &measured));
        }
        entries.extend(row(heading(id, title), OURS_2, &[TIMELY_1, TIMELY_2, PLAIN_1, PLAIN_2], &measured));
    }
    Ok(entries)
}

/// 10 M records, ids count once.
pub(super) fn once(bench: &Bench) -> Result<Vec<Entry>> {
    let records = bench.effort.records(TEN_MILLION);
    let input = Input::prepare(&bench.cache, records)?;
    let mut entrants = vec![ours(bench, &input, OURS_2, &["--workers", "2"])];
    entrants.extend(limits(bench, &input, true));
    let (title, runs) = ("metering with dedupe".to_owned(), bench.effort.runs);
    let measured = Contest { title, records, runs, timed: Timed::FromOutside, entrants }.run(&bench.scratch)?;
    let title = format!("{}, {:.0} MB", counted(records), input.bytes as f64 / 1e6);
    let heading = Heading { id: "dedupe-10m".to_owned(), group: Group::Dedupe, title, ran: ONCE, records };
    Ok(row(heading, OURS_2, &[TIMELY_1, TIMELY_2, PLAIN_1, PLAIN_2], &measured).into_iter().collect())
}

/// `metering run` with these flags.
pub(super) fn ours(bench: &Bench, input: &Input, name: &str, flags: &[&str]) -> Entrant {
    let (program, input) = (bench.programs.metering.clone(), format!("file:{}", input.dir.display()));
    let flags: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let command = move |dir: &Path| {
        let mut command = Command::new(&program);
        command.args(["run", "--source", &input]).args(&flags);
        command.arg("--out").arg(dir.join("out")).arg("--state").arg(dir.join("state"));
        command
    };
    Entrant { name: name.to_owned(), command: Box::new(command) }
}

fn limits(bench: &Bench, input: &Input, dedupe: bool) -> Vec<Entrant> {
    let kinds =
        [(TIMELY_1, "timely", "1"), (TIMELY_2, "timely", "2"), (PLAIN_1, "plain", "1"), (PLAIN_2, "plain", "2")];
    let entrant = |(name, kind, threads): (&str, &'static str, &'static str)| {
        let (program, input) = (bench.programs.bench.clone(), input.dir.clone());
        let command = move |dir: &Path| {
            let mut command = Command::new(&program);
            command.args(["limit", kind, "--threads", threads]).arg("--input").arg(&input);
            command.arg("--out").arg(dir.join("out"));
            if dedupe {
                command.arg("--dedupe");
            }
            command
        };
        Entrant { name: name.to_owned(), command: Box::new(command) }
    };
    kinds.map(entrant).into()
}
