//! Reads the lines of files and of standard input, on a thread of its own: a terminal's next line may never come.
//!
//! Lines go over in groups, so that a million of them are not a million messages; a group does not wait for a line that is
//! not there yet. What has been read is bounded by the groups that may wait.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use shardflow_sources::stream::PutRecord;
use tokio::sync::mpsc;

use crate::lines::Form;

/// How many records, and about how many bytes of them, go over together.
const GROUP_RECORDS: usize = 500;
const GROUP_BYTES: usize = 1 << 20;

/// What is read, and how.
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// Empty: standard input, as is `-`.
    pub(crate) files: Vec<PathBuf>,
    pub(crate) form: Form,
    pub(crate) skip_bad: bool,
    /// What a record of the stream may weigh.
    pub(crate) record_bytes: usize,
}

/// What the thread has found so far.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The names of what was opened, each with the number of lines before it.
    starts: Vec<(String, u64)>,
    /// Lines that cannot be put.
    pub(crate) bad: u64,
    /// Why the reading ended early.
    pub(crate) stopped: Option<String>,
}

impl Found {
    /// `line 7 of "usage.ndjson"`, for the line of this number over all files, from 1.
    pub(crate) fn place(&self, line: u64) -> String {
        let start = self.starts.iter().rev().find(|(_, before)| *before < line);
        start.map_or_else(|| format!("line {line}"), |(name, before)| format!("line {} of {name}", line - before))
    }
}

/// A reading under way.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reading {
    found: Arc<Mutex<Found>>,
    bytes: Arc<AtomicU64>,
}

impl Reading {
    /// Starts it. The groups end when all is read, or with a line or a file that cannot be.
    pub(crate) fn start(input: Input) -> (Self, mpsc::Receiver<Vec<PutRecord>>) {
        let (groups, receiver) = mpsc::channel(2);
        let reading = Self::default();
        let thread = Reader { reading: reading.clone(), groups, lines: 0, group: Vec::new(), group_bytes: 0, input };
        std::thread::spawn(move || thread.run());
        (reading, receiver)
    }

    /// What has been found so far.
    pub(crate) fn found<T>(&self, look: impl FnOnce(&mut Found) -> T) -> T {
        look(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many bytes were read.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// Why the thread stops before the end.
enum Stop {
    /// Said already, or nobody wants more.
    Quietly,
    /// With a reason.
    Because(String),
}

struct Reader {
    reading: Reading,
    groups: mpsc::Sender<Vec<PutRecord>>,
    input: Input,
    /// Lines read over all files.
    lines: u64,
    group: Vec<PutRecord>,
    group_bytes: usize,
}

impl Reader {
    fn run(mut self) {
        let outcome = self.read_all();
        // What was good before it stopped is put.
        let handed_over = self.hand_over();
        if let Err(Stop::Because(why)) = outcome.and(handed_over) {
            self.reading.found(|found| found.stopped = Some(why));
        }
    }

    fn read_all(&mut self) -> Result<(), Stop> {
        let mut files = self.input.files.clone();
        if files.is_empty() {
            files.push(PathBuf::from("-"));
        }
        for file in files {
            let (name, reader) = open(&file)?;
            self.reading.found(|found| found.starts.push((name.clone(), self.lines)));
            self.read(&name, reader)?;
        }
        Ok(())
    }

    fn read(&mut self, name: &str, mut reader: Box<dyn BufRead>) -> Result<(), Stop> {
        // An escaped character takes up to six; more than that, and some for the other fields, no good line can have.
        let longest = self.input.record_bytes.saturating_mul(6).saturating_add(64 << 10);
        let mut line = Vec::new();
        loop {
            line.clear();
            let next = next_line(&mut reader, &mut line, longest);
            let next = next.map_err(|error| Stop::Because(format!("could not read {name}: {error}")))?;
            let Some(Line { bytes, cut, more_is_there }) = next else { return Ok(()) };
            self.lines += 1;
            self.reading.bytes.fetch_add(bytes, Ordering::Relaxed);
            if cut {
                self.bad(&format!("it is longer than {longest} bytes"))?;
            } else {
                self.take(&line)?;
            }
            if !more_is_there {
                self.hand_over()?;
            }
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), Stop> {
        match self.input.form.record(self.lines, line, self.input.record_bytes) {
            Ok(record) => {
                self.group_bytes += record.bytes();
                self.group.push(record);
                let is_full = self.group.len() >= GROUP_RECORDS || self.group_bytes >= GROUP_BYTES;
                if is_full { self.hand_over() } else { Ok(()) }
            }
            Err(why) => self.bad(&why),
        }
    }

    fn bad(&mut self, why: &str) -> Result<(), Stop> {
        let place = self.reading.found(|found| {
            found.bad += 1;
            found.place(self.lines)
        });
        if !self.input.skip_bad {
            return Err(Stop::Because(format!("could not put {place}: {why}")));
        }
        eprintln!("shardflow: skipped {place}: {why}");
        Ok(())
    }

    fn hand_over(&mut self) -> Result<(), Stop> {
        self.group_bytes = 0;
        let group = std::mem::take(&mut self.group);
        if group.is_empty() { Ok(()) } else { self.groups.blocking_send(group).map_err(|_| Stop::Quietly) }
    }
}

fn open(file: &Path) -> Result<(String, Box<dyn BufRead>), Stop> {
    if file == Path::new("-") {
        return Ok(("standard input".to_owned(), Box::new(BufReader::new(io::stdin()))));
    }
    let name = format!("\"{}\"", file.display());
    match File::open(file) {
        Ok(open) => Ok((name, Box::new(BufReader::with_capacity(1 << 16, open)))),
        Err(error) => Err(Stop::Because(format!("could not open {name}: {error}"))),
    }
}

/// A line that was read.
struct Line {
    /// With its end.
    bytes: u64,
    /// It was too long, and its rest was skipped.
    cut: bool,
    /// Whether another one can be had without waiting.
    more_is_there: bool,
}

/// Reads a line without its end (`\n` or `\r\n`) into `line`, no more than `longest` bytes of it. `None`: there is none.
fn next_line(reader: &mut dyn BufRead, line: &mut Vec<u8>, longest: usize) -> io::Result<Option<Line>> {
    let (mut bytes, mut cut) = (0u64, false);
    loop {
        let ready = match reader.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            ready => ready?,
        };
        let at_end = ready.is_empty();
        let end = ready.iter().position(|byte| *byte == b'\n');
        let (content, rest) = ready.split_at(end.unwrap_or(ready.len()));
        let fits = content.len().min(longest.saturating_sub(line.len()));
        cut |= fits < content.len();
        // As much as fits is there: it was measured.
        line.extend(content.iter().take(fits));
        let used = content.len() + usize::from(end.is_some());
        let more_is_there = rest.iter().skip(1).any(|byte| *byte == b'\n');
        reader.consume(used);
        bytes += used as u64;
        if at_end && bytes == 0 {
            return Ok(None);
        }
        if at_end || end.is_some() {
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return Ok(Some(Line { bytes, cut, more_is_there }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, capacity: usize) -> Vec<(String, bool)> {
        let mut reader = BufReader::with_capacity(capacity, text.as_bytes());
        let mut found = Vec::new();
        let mut line = Vec::new();
        while let Some(next) = next_line(&mut reader, &mut line, 5).unwrap() {
            found.push((String::from_utf8(std::mem::take(&mut line)).unwrap(), next.cut));
        }
        found
    }

    #[test]
    fn lines_are_read_whole_however_they_come_and_long_ones_are_cut() {
        for capacity in [1, 2, 3, 64] {
            let expected = [("one", false), ("", false), ("long ", true), ("", false), ("last", false)];
            let expected = expected.map(|(line, cut)| (line.to_owned(), cut));
            assert_eq!(lines("one\r\n\nlong line\n\nlast", capacity), expected, "{capacity}");
            assert!(lines("", capacity).is_empty());
        }
    }

    fn read(input: Input) -> (Vec<u64>, Reading) {
        let (reading, mut groups) = Reading::start(input);
        let mut ids = Vec::new();
        while let Some(group) = groups.blocking_recv() {
            ids.extend(group.iter().map(PutRecord::id));
        }
        (ids, reading)
    }

    #[test]
    fn files_are_read_one_after_another_and_lines_are_named_by_them() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = vec![file("a", "1\n2\n"), file("empty", ""), file("b", "3\n \n5")];
        let input = Input { files, form: Form::Line, skip_bad: true, record_bytes: 100 };
        let (ids, reading) = read(input.clone());
        assert_eq!((ids, reading.bytes()), (vec![1, 2, 3, 5], 9));
        reading.found(|found| {
            assert_eq!((found.bad, &found.stopped), (1, &None));
            let b = folder.path().join("b");
            assert_eq!(found.place(4), format!("line 2 of \"{}\"", b.display()));
        });
        let (ids, reading) = read(Input { skip_bad: false, ..input });
        assert_eq!(ids, [1, 2, 3]);
        let stopped = reading.found(|found| found.stopped.clone()).unwrap();
        assert!(stopped.starts_with("could not put line 2 of ") && stopped.ends_with(": it is blank"), "{stopped}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let input = Input { files: vec!["/no/such/file".into()], form: Form::Line, skip_bad: true, record_bytes: 100 };
        let (ids, reading) = read(input);
        assert!(ids.is_empty());
        let stopped = reading.found(|found| found.stopped.clone()).unwrap();
        assert!(stopped.starts_with("could not open \"/no/such/file\": "), "{stopped}");
    }
}
