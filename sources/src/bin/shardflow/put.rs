//! `shardflow stream put`.

use std::cell::Cell;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use shardflow_sources::stream::{Finished, PutOptions, PutRecord, Stream, Tally};
use tokio::sync::mpsc;

use crate::args::Put;
use crate::lines::Form;
use crate::out::Stop;
use crate::reading::{Found, Input, Reading};

/// How many runs of lines a message names before it only counts.
const MOST_RUNS: usize = 20;

pub(crate) async fn run(stream: &Stream, args: &Put) -> Result<(), Stop> {
    let form = match &args.key_field {
        Some(path) => Form::key_field(path),
        None if args.envelope => Form::Envelope,
        None => Form::Line,
    };
    let record_bytes = stream.summary().await?.record_bytes;
    let input = Input { files: args.files.clone(), form, skip_bad: args.skip_bad, record_bytes };
    let bar = bar(&args.files);
    let (reading, groups) = Reading::start(input);
    let (to_put, records) = mpsc::channel(1);
    let options = PutOptions { ordered: args.ordered, rate: args.rate, ..PutOptions::default() };
    let told = |tally: &Tally| {
        bar.set_position(reading.bytes());
        bar.set_message(format!("{} records, {}", tally.put, HumanBytes(tally.bytes)));
    };
    let (finished, relayed) = tokio::join!(stream.put(records, &options, told), relay(groups, to_put));
    bar.finish_and_clear();
    reading.found(|found| settle(&finished, &relayed, found))
}

/// A bar over all bytes where they are known, hidden where standard error is no terminal.
fn bar(files: &[std::path::PathBuf]) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let size = |file: &std::path::PathBuf| {
        let file: &Path = file;
        std::fs::metadata(file).ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len())
    };
    let whole: Option<u64> = if files.is_empty() { None } else { files.iter().map(size).sum() };
    let bar = match whole {
        None => ProgressBar::new_spinner(),
        Some(bytes) => {
            let style = ProgressStyle::with_template("{bar:30} {percent}% {msg}, {eta} left");
            ProgressBar::new(bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        }
    };
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// How far the lines have come on their way to the stream.
#[derive(Debug, Default, PartialEq, Eq)]
struct Relayed {
    /// The number of the last line that was handed over to be put.
    last: u64,
    interrupted: bool,
}

/// Hands groups on until there are no more, nobody takes them, or Ctrl-C: then what was handed over is still put. A second
/// Ctrl-C ends the program.
async fn relay(mut groups: mpsc::Receiver<Vec<PutRecord>>, to_put: mpsc::Sender<Vec<PutRecord>>) -> Relayed {
    let last = Cell::new(0);
    let all = async {
        while let Ok(room) = to_put.reserve().await {
            let group = tokio::select! {
                group = groups.recv() => group,
                // Without this a put that failed would wait for a line that may never come.
                () = to_put.closed() => None,
            };
            let Some(group) = group else { return };
            last.set(group.last().map_or(last.get(), PutRecord::id));
            room.send(group);
        }
    };
    let interrupted = tokio::select! {
        () = all => false,
        _ = tokio::signal::ctrl_c() => true,
    };
    if interrupted {
        tokio::spawn(async {
            if tokio::signal::ctrl_c().await.is_ok() {
                eprintln!("shardflow: interrupted again; what was under way may have been put or not");
                std::process::exit(130);
            }
        });
    }
    Relayed { last: last.get(), interrupted }
}

/// Says what became of all lines. An error where any was not put that should have been.
fn settle(finished: &Finished, relayed: &Relayed, found: &Found) -> Result<(), Stop> {
    let skipped = if found.bad > 0 && found.stopped.is_none() {
        format!("; {} bad lines skipped", found.bad)
    } else {
        String::new()
    };
    eprintln!("{finished}{skipped}");
    for (what, lines) in [("NOT put", &finished.not_put), ("put or not, nobody knows", &finished.unknown)] {
        if !lines.is_empty() {
            eprintln!("{what}: {}", runs(lines, found));
        }
    }
    let why = match (&finished.failure, relayed.interrupted, &found.stopped) {
        (Some(error), ..) => error.to_string(),
        (None, true, _) => "interrupted".to_owned(),
        (None, false, Some(why)) => why.clone(),
        (None, false, None) => return Ok(()),
    };
    let after = if relayed.last == 0 {
        "nothing was put".to_owned()
    } else {
        format!("nothing after {} was put", found.place(relayed.last))
    };
    Err(Stop::Failed(format!("{why}; {after}")))
}

/// `line 3 of "a", line 7 of "a" to line 2 of "b"`, of ascending numbers.
fn runs(lines: &[u64], found: &Found) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for line in lines {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *line => *last = *line,
            _ => runs.push((*line, *line)),
        }
    }
    let name = |(first, last): &(u64, u64)| match first == last {
        true => found.place(*first),
        false => format!("{} to {}", found.place(*first), found.place(*last)),
    };
    let more = runs.len().saturating_sub(MOST_RUNS);
    let mut named = runs.iter().take(MOST_RUNS).map(name).collect::<Vec<_>>().join(", ");
    if more > 0 {
        named.push_str(&format!(" and {more} more runs of lines"));
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_follow_one_another_are_named_together() {
        let found = Found::default();
        assert_eq!(runs(&[3, 5, 6, 7, 9], &found), "line 3, line 5 to line 7, line 9");
        let odd: Vec<u64> = (0..25).map(|n| n * 2 + 1).collect();
        assert!(runs(&odd, &found).ends_with("line 39 and 5 more runs of lines"));
    }

    #[tokio::test]
    async fn a_put_that_failed_does_not_wait_for_lines_that_may_never_come() {
        let (_reader, groups) = mpsc::channel(1);
        let (to_put, records) = mpsc::channel(1);
        drop(records);
        assert_eq!(relay(groups, to_put).await, Relayed::default());
    }

    #[tokio::test]
    async fn the_last_line_handed_over_is_known() {
        let (reader, groups) = mpsc::channel(2);
        let (to_put, mut records) = mpsc::channel(2);
        let record = |id| PutRecord::new(id, "k".to_owned(), None, Vec::new(), 10).unwrap();
        reader.send(vec![record(1), record(4)]).await.unwrap();
        drop(reader);
        assert_eq!(relay(groups, to_put).await, Relayed { last: 4, interrupted: false });
        assert_eq!(records.recv().await.unwrap().len(), 2);
    }
}
