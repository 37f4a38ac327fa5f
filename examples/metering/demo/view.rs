//! What one sees while the demo runs: a bar that moves in a terminal, a line every two seconds elsewhere.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::metering::output::visible_files;

/// How often a line is printed where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// Where the demo stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records acknowledged.
    pub sent: u64,
    /// Records acknowledged a second, lately.
    pub rate: u64,
    /// Rows of charges that are visible.
    pub charged: u64,
    /// Open shards.
    pub shards: usize,
    /// Workers of the running job.
    pub workers: usize,
    /// How many times the job was started.
    pub incarnation: usize,
    /// Records that were acknowledged and, as far as the job has reported, not committed.
    pub backlog: u64,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} sent at {}/s · {} charges · backlog {} · {} shards · start {} with {} workers",
            HumanCount(self.sent),
            HumanCount(self.rate),
            HumanCount(self.charged),
            HumanCount(self.backlog),
            self.shards,
            self.incarnation,
            self.workers
        )
    }
}

/// Shows progress.
#[derive(Debug)]
pub struct View {
    bar: Option<ProgressBar>,
    started: Instant,
    printed: Option<Instant>,
    rate: Rate,
}

impl View {
    /// A view of a demo that puts records for `seconds`.
    ///
    /// # Errors
    /// Never in practice: the bar's template is fixed.
    pub fn new(seconds: u64) -> Result<Self> {
        let bar = if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{elapsed_precise} {wide_bar:.cyan/blue} {pos}/{len} s\n{msg}")?;
            Some(ProgressBar::new(seconds).with_style(style))
        } else {
            None
        };
        let now = Instant::now();
        Ok(Self { bar, started: now, printed: None, rate: Rate::from(now) })
    }

    /// Shows where the demo stands; the rate is worked out here.
    pub fn show(&mut self, mut progress: Progress) {
        progress.rate = self.rate.at(Instant::now(), progress.sent);
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.started.elapsed().as_secs().min(bar.length().unwrap_or(0)));
                bar.set_message(progress.to_string());
            }
            None if self.printed.is_none_or(|printed| printed.elapsed() >= LINE_EVERY) => {
                self.printed = Some(Instant::now());
                self.line(&progress.to_string());
            }
            None => {}
        }
    }

    /// Tells what has just happened.
    pub fn event(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(format!("{:>6.1} s  {text}", self.started.elapsed().as_secs_f64())),
            None => self.line(text),
        }
    }

    /// Clears the bar away: what follows is the result.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// A closed stdout must not stop the demo.
    fn line(&self, text: &str) {
        let _ = writeln!(std::io::stdout(), "{:>6.1} s  {text}", self.started.elapsed().as_secs_f64());
    }
}

/// Records a second, over the last two seconds or so.
#[derive(Debug, Clone, Copy)]
struct Rate {
    since: Instant,
    had: u64,
}

impl Rate {
    fn from(now: Instant) -> Self {
        Self { since: now, had: 0 }
    }

    fn at(&mut self, now: Instant, sent: u64) -> u64 {
        let millis = u64::try_from((now - self.since).as_millis()).unwrap_or(u64::MAX).max(1);
        let rate = sent.saturating_sub(self.had).saturating_mul(1000) / millis;
        if millis >= 2_000 {
            *self = Self { since: now, had: sent };
        }
        rate
    }
}

/// Counts the rows of files that have become visible. A visible file never changes, so each is read once.
#[derive(Debug)]
pub struct RowCounter {
    folder: PathBuf,
    seen: HashSet<PathBuf>,
    rows: u64,
}

impl RowCounter {
    /// Counts below `folder`.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_path_buf(), seen: HashSet::new(), rows: 0 }
    }

    /// Rows now visible. What cannot be read counts at the next look: the audit is the judge, not the view.
    pub fn count(&mut self) -> u64 {
        for path in visible_files(&self.folder).unwrap_or_default() {
            if self.seen.contains(&path) {
                continue;
            }
            if let Ok(bytes) = fs::read(&path) {
                self.rows += bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.seen.insert(path);
            }
        }
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_counted_once() {
        let dir = tempfile::tempdir().unwrap();
        let mut counter = RowCounter::new(dir.path());
        assert_eq!(counter.count(), 0);
        fs::write(dir.path().join("a.ndjson"), "1\n2\n").unwrap();
        fs::write(dir.path().join(".b.ndjson"), "3\n").unwrap();
        assert_eq!((counter.count(), counter.count()), (2, 2));
    }

    #[test]
    fn rate_is_what_was_sent_over_the_time_it_took() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut rate = Rate::from(start);
        assert_eq!(rate.at(after(1), 5_000), 5_000);
        assert_eq!(rate.at(after(2), 6_000), 3_000);
        assert_eq!(rate.at(after(3), 6_500), 500);
    }
}
