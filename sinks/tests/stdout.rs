//! The stdout sink through its port.
#![allow(clippy::unwrap_used, reason = "a test may stop at what must not happen")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use shardflow::Epoch;
use shardflow::sink::{CommitPermit, Sink, SinkContext, SinkWriter, StagedHandle};
use shardflow::testing::sink::{Driver, Promise, conforms, permit};
use shardflow_sinks::{Stdout, stdout};

/// What a terminal would show.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn numbers(&self) -> Vec<u64> {
        self.text().lines().map(|line| line.parse().unwrap()).collect()
    }

    fn sink(&self) -> Stdout {
        let screen = self.clone();
        stdout().redirected("the screen", move || Box::new(screen.clone()))
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A pipe whose reader has left.
struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn context() -> SinkContext {
    shardflow::testing::sink::context("job", "shown")
}

fn handle(sink: &Stdout, epoch: u64, worker: u32, record: &str) -> StagedHandle {
    let mut writer: Box<dyn SinkWriter<String>> = sink.writer(&context(), worker as usize).unwrap();
    writer.stage(&record.to_owned()).unwrap();
    assert_eq!(writer.in_flight(), record.len() as u64 + 3);
    let epoch = Epoch::new(epoch);
    StagedHandle { epoch, worker, handle: writer.prepare(epoch).unwrap().unwrap().finish().unwrap().unwrap() }
}

#[test]
fn it_conforms_at_least_once() {
    let sink = |screen: &Screen| Box::new(screen.sink()) as Box<dyn Sink<u64>>;
    conforms(Promise::OnceUntilACrash, Screen::default, sink, |number| number, Screen::numbers);
}

#[test]
fn without_a_crash_each_record_is_printed_once() {
    let screen = Screen::default();
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(screen.sink()), |number| number, || screen.numbers());
    job.start(2);
    for _ in 0..5 {
        job.stage(0, 3);
        job.stage(1, 3);
        job.prepare();
        job.persist();
        job.commit();
        job.commit();
    }
    job.finish();
}

#[test]
fn lines_come_by_epoch_then_worker_and_only_as_far_as_permitted() {
    let screen = Screen::default();
    let sink = screen.sink();
    let mut committer = Sink::<String>::committer(&sink, &context()).unwrap();
    let handles =
        [handle(&sink, 2, 0, "c"), handle(&sink, 1, 1, "b"), handle(&sink, 1, 0, "a"), handle(&sink, 3, 0, "d")];
    committer.recover(None, &[]).unwrap();
    committer.commit(&permit(Epoch::new(2)), &handles).unwrap();
    assert_eq!(screen.text(), "\"a\"\n\"b\"\n\"c\"\n");
    committer.commit(&permit(Epoch::new(3)), &handles).unwrap();
    assert_eq!(screen.text(), "\"a\"\n\"b\"\n\"c\"\n\"d\"\n");
}

#[test]
fn a_closed_pipe_is_an_error_that_names_the_step() {
    let sink = stdout().redirected("standard output", || Box::new(ClosedPipe));
    let mut committer = Sink::<String>::committer(&sink, &context()).unwrap();
    let permit: CommitPermit = permit(Epoch::new(1));
    let error = committer.commit(&permit, &[handle(&sink, 1, 0, "a")]).unwrap_err();
    assert_eq!(error.to_string(), "step \"shown\": could not print to standard output: broken pipe");
}

#[test]
fn a_damaged_handle_prints_nothing() {
    let screen = Screen::default();
    let sink = screen.sink();
    let mut committer = Sink::<String>::committer(&sink, &context()).unwrap();
    let mut damaged = handle(&sink, 1, 0, "a");
    damaged.handle[7] ^= 1;
    let error = committer.commit(&permit(Epoch::new(1)), &[damaged]).unwrap_err().to_string();
    assert!(error.contains("checksum"), "{error}");
    assert_eq!(screen.text(), "");
}
