//! What the program refuses: one clear line on stderr that names its subject, an exit code, and nothing changed on disk.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::{Duration, Instant};

use flate2::write::GzEncoder;
use rustix::process::Signal;
use shardflow_examples::metering::output::visible_files;
use shardflow_examples::metering::reference::Reference;

use crate::books::{Books, tree};
use crate::process::{Ended, Launch, PATIENCE, Place, SEMANTICS, pause};

/// The process ended with one line that says all of this.
pub(crate) fn refused(ended: &Ended, code: i32, says: &[&str]) {
    assert_eq!(ended.status.code(), Some(code), "{says:?}: {ended:?}");
    assert_eq!(ended.stderr.len(), 1, "{says:?}: {ended:?}");
    let line = &ended.stderr[0];
    assert!(line.starts_with("metering: "), "{line}");
    for text in says {
        assert!(line.contains(text), "not {text:?} in: {line}");
    }
}

/// Runs it in the place, where it must be refused and change nothing.
fn refuse(place: &Place, launch: Launch, code: i32, says: &[&str]) {
    let before = tree(place.root());
    let ended = launch.within(place).end_within(PATIENCE);
    refused(&ended, code, says);
    let after = tree(place.root());
    let changed: Vec<_> =
        before.keys().chain(after.keys()).filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.is_empty(), "{says:?} changed {changed:?}");
}

/// `metering run` on `in`, `out` and `state` of the place, with these flags besides.
fn run(place: &Place, flags: &[&str]) -> Launch {
    Launch::new(&["run", "--source", "file:in", "--out", "out", "--state", "state"]).within(place).flags(flags)
}

fn small() -> Place {
    let place = Place::with_input(2_000, 31);
    fs::write(place.path("note"), "not a folder\n").unwrap();
    place
}

/// A place whose job has run to its end.
fn finished() -> Place {
    let place = small();
    run(&place, &["--workers", "2"]).succeed();
    place
}

#[test]
fn wrong_flags() {
    let place = small();
    for (flags, says) in [
        (&["--colour"][..], &["--colour"][..]),
        (&["--workers", "two"], &["--workers", "'two'"]),
        (&["--workers", "-1"], &["'-1'"]),
        (&["--workers=-1"], &["--workers", "'-1'"]),
        (&["--workers", "0"], &["--workers \"0\"", "1 to 256"]),
        (&["--workers", "257"], &["--workers \"257\"", "1 to 256"]),
        (&["--workers", "5", "--key-groups", "4"], &["--workers \"5\"", "1 to 4"]),
        (&["--key-groups", "0"], &["--key-groups \"0\""]),
        (&["--epoch-ms", "9"], &["--epoch \"9ms\"", "10ms to 10m"]),
        (&["--epoch-ms", "18446744073709551615"], &["--epoch", "10ms to 10m"]),
        (&["--epoch", "1"], &["--epoch", "'1'"]),
        (&["--window-ms", "0"], &["--window-ms", "'0'"]),
        (&["--lag-ms", "18446744073709551616"], &["--lag-ms"]),
        (&["--grace-ms", "1e3"], &["--grace-ms"]),
        (&["--max-open-epochs", "1"], &["--max-open-epochs \"1\""]),
        (&["--in-flight-bytes", "1"], &["--in-flight-bytes \"1\""]),
        (&["--stop-timeout", "0s"], &["--stop-timeout \"0s\""]),
        (&["--restart", "always"], &["--restart", "always"]),
        (&["--metrics", "localhost"], &["--metrics", "localhost"]),
        (&["--metrics", "203.0.113.1:9000"], &["--metrics \"203.0.113.1:9000\""]),
        (&["--job-name", ""], &["--job-name \"\""]),
        (&["--job-name", "../x"], &["--job-name \"../x\""]),
        (&["--start", "latest"], &["--start goes with --source kinesis:STREAM only"]),
        (&["--endpoint", "http://127.0.0.1:1"], &["--endpoint goes with --source kinesis:STREAM only"]),
        (&["--endpoint", "127.0.0.1:1"], &["--endpoint", "http://HOST"]),
        (&["--workers", "2", "--workers", "3"], &["--workers", "multiple times"]),
        (&["extra"], &["'extra'"]),
    ] {
        refuse(&place, run(&place, flags), 2, says);
    }
}

#[test]
fn wrong_commands() {
    let place = small();
    for (args, says) in [
        (&[][..], &["run, generate, demo"][..]),
        (&["walk"], &["'walk'"]),
        (&["run"], &["--source", "--out"]),
        (&["run", "--source", "file:in", "--out", "out"], &["--state DIR is missing"]),
        (&["run", "--source", "in", "--out", "out", "--state", "state"], &["--source", "file:PATH or kinesis:STREAM"]),
        (&["run", "--source", "file:", "--out", "out", "--state", "state"], &["--source", "nothing after the colon"]),
        (
            &["run", "--source", "kinesis:", "--out", "out", "--state", "state"],
            &["--source", "nothing after the colon"],
        ),
        (&["run", "--source", "file:in", "--out", "", "--state", "state"], &["--out"]),
        (&["run", "--source", "file:in", "--out", "out", "--state", ""], &["--state"]),
        (&["generate", "--records", "x", "--seed", "1", "--files", "1", "--out", "new"], &["--records", "'x'"]),
        (&["generate", "--records", "9", "--seed", "1", "--files", "0", "--out", "new"], &["--files", "'0'"]),
        (
            &["generate", "--records", "9", "--seed", "1", "--files", "1", "--out", "new", "--late", "2"],
            &["--late", "'2'"],
        ),
        (&["demo", "--seconds", "0"], &["--seconds", "'0'"]),
    ] {
        refuse(&place, Launch::new(args), 2, says);
    }
    for (args, says) in [
        (
            &["generate", "--records", "9", "--seed", "1", "--files", "1", "--out", "in"][..],
            &["\"in\" is not empty"][..],
        ),
        (&["generate", "--records", "9", "--seed", "1", "--files", "1", "--out", "note"], &["\"note\""]),
        (&["generate", "--records", "9", "--seed", "1", "--files", "1", "--out", "note/x"], &["\"note/x\""]),
        (
            &["generate", "--records", "9", "--seed", "1", "--files", "1", "--out", "new", "--late", "1", "--bad", "1"],
            &["late and bad"],
        ),
        (&["demo", "--dir", "in"], &["\"in\" is not empty"]),
    ] {
        refuse(&place, Launch::new(args), 1, says);
    }
}

#[test]
fn folders_that_would_get_in_each_others_way() {
    let place = small();
    for (out, state, says) in [
        ("same", "same", "--out and --state"),
        ("a/../same", "./same", "--out and --state"),
        ("state/out", "state", "--out must not be inside --state"),
        ("out", "out/charges", "--state must not be inside"),
        ("out", "out/late/x", "--state must not be inside"),
        ("in/out", "state", "--out must not be inside the source"),
        ("in", "state", "--out must not be inside the source"),
        ("out", "in/state", "--state must not be inside the source"),
    ] {
        refuse(&place, Launch::new(&["run", "--source", "file:in", "--out", out, "--state", state]), 2, &[says]);
    }
    // Beside the three folders of the output there is room.
    Launch::new(&["run", "--source", "file:in", "--out", "out", "--state", "out/state"]).within(&place).succeed();
    Books::new(Reference::compute(&place.path("in"), &SEMANTICS).unwrap(), place.path("out")).hold();
}

#[test]
fn wrong_settings_in_the_environment() {
    let place = small();
    for (name, value) in [
        ("SHARDFLOW_WORKERS", "many"),
        ("SHARDFLOW_WORKERS", "0"),
        ("SHARDFLOW_EPOCH", "soon"),
        ("SHARDFLOW_RESTART", "maybe"),
        ("SHARDFLOW_ALLOW_DROPPED_STATE", "maybe"),
        ("SHARDFLOW_LOG", "shardflow=loud"),
    ] {
        refuse(&place, run(&place, &[]).env(name, value), 2, &[value]);
    }
}

#[test]
fn names_that_are_no_text() {
    let place = small();
    let strange = std::ffi::OsString::from_vec(b"x\xff".to_vec());
    refuse(
        &place,
        Launch::new(&["run", "--out", "out", "--state", "state", "--source"]).arg(&strange),
        2,
        &["invalid UTF-8"],
    );
    refuse(&place, Launch::new(&["run"]).arg(&strange), 2, &["x"]);
}

#[test]
fn input_that_is_missing_or_is_no_file() {
    let place = small();
    std::os::unix::fs::symlink("nowhere", place.path("dangling")).unwrap();
    std::os::unix::fs::symlink("round", place.path("round")).unwrap();
    let source =
        |path: &str| Launch::new(&["run", "--source", &format!("file:{path}"), "--out", "out", "--state", "state"]);
    for path in ["none", "dangling", "round", "note/x", "in/none.ndjson"] {
        refuse(&place, source(path), 2, &["could not read source", path]);
    }
    refuse(&place, source("/dev/null"), 2, &["/dev/null", "neither a file nor a folder"]);
}

#[test]
fn input_that_is_empty_is_a_job_that_ends() {
    let place = small();
    fs::create_dir(place.path("void")).unwrap();
    fs::write(place.path("empty.ndjson"), "").unwrap();
    for source in ["void", "empty.ndjson"] {
        let state = format!("state-{source}");
        Launch::new(&["run", "--source", &format!("file:{source}"), "--out", "out", "--state", &state])
            .args(["--job-name", source])
            .within(&place)
            .succeed();
    }
    assert!(visible_files(&place.path("out")).unwrap().is_empty());
}

#[test]
fn input_that_cannot_be_unpacked_names_its_file_and_what_came_before_stands() {
    let place = small();
    fs::write(place.path("in/part-00009.ndjson.gz"), "this is no gzip").unwrap();
    for _ in 0..2 {
        let ended = run(&place, &[]).env("SHARDFLOW_LOG", "off").end_within(PATIENCE);
        refused(&ended, 1, &["step \"usage\"", "part-00009.ndjson.gz"]);
    }
    let empty = GzEncoder::new(Vec::new(), flate2::Compression::fast()).finish().unwrap();
    fs::write(place.path("in/part-00009.ndjson.gz"), empty).unwrap();
    run(&place, &[]).succeed();
    Books::new(Reference::compute(&place.path("in"), &SEMANTICS).unwrap(), place.path("out")).hold();
}

#[test]
fn an_output_folder_that_cannot_be() {
    let place = small();
    for out in ["note", "note/out"] {
        let launch = Launch::new(&["run", "--source", "file:in", "--out", out, "--state", "new/state"]);
        refuse(&place, launch, 1, &["step \"", out]);
    }
}

#[test]
fn a_state_folder_that_cannot_be() {
    let place = small();
    for state in ["note", "note/state"] {
        let launch = Launch::new(&["run", "--source", "file:in", "--out", "out", "--state", state]);
        refuse(&place, launch, 1, &["state folder", state]);
    }
    fs::create_dir_all(place.path("state/LOCK")).unwrap();
    refuse(&place, run(&place, &[]), 1, &["state folder \"state\"", "lock"]);
}

/// An empty folder that was there before is empty again.
#[test]
fn a_first_start_that_comes_to_nothing_leaves_its_folder_as_it_was() {
    let place = small();
    fs::create_dir(place.path("state")).unwrap();
    let launch = Launch::new(&["run", "--source", "file:in", "--out", "note", "--state", "state"]);
    refuse(&place, launch, 1, &["note"]);
}

#[test]
fn a_state_folder_of_another_job() {
    let place = finished();
    refuse(
        &place,
        run(&place, &["--job-name", "billing"]),
        1,
        &["\"state\"", "belongs to the job \"metering\"", "\"billing\""],
    );
}

/// Gives a sealed file the format version of a program to come, with the checksum that belongs to it.
fn make_newer(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    assert!(bytes.starts_with(b"SFLW"));
    bytes[5..7].copy_from_slice(&2_u16.to_le_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(&bytes[4..15]);
    crc.update(&bytes[19..]);
    bytes[15..19].copy_from_slice(&crc.sum().to_le_bytes());
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_state_folder_of_a_newer_version() {
    for file in ["job", "committed"] {
        let place = finished();
        make_newer(&place.path("state").join(file));
        refuse(&place, run(&place, &[]), 1, &["\"state\"", "format version 2 is newer than this program's 1"]);
    }
}

#[test]
fn a_state_folder_that_is_damaged() {
    let flip = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x10;
        fs::write(path, bytes).unwrap();
    };
    let pristine = finished();
    let database: Vec<_> = tree(&pristine.path("state/db"))
        .into_iter()
        .filter(|(_, bytes)| bytes.as_ref().is_some_and(|b| !b.is_empty()))
        .collect();
    let names =
        database.iter().map(|(path, _)| path.strip_prefix(pristine.path("state")).unwrap().display().to_string());
    let vital = |name: &String| ["MANIFEST", "CURRENT", ".log", ".sst"].iter().any(|part| name.contains(part));
    let names: Vec<String> = names.filter(vital).chain(["job".to_owned(), "committed".to_owned()]).collect();
    assert!(names.len() >= 5, "{names:?}");
    for name in names {
        let place = finished_copy(&pristine);
        flip(&place.path("state").join(&name));
        println!("{name}");
        refuse(&place, run(&place, &[]), 1, &["could not open the state folder \"state\""]);
        let place = finished_copy(&pristine);
        fs::remove_file(place.path("state").join(&name)).unwrap();
        println!("{name} removed");
        refuse(&place, run(&place, &[]), 1, &["could not open the state folder \"state\""]);
    }
    fs::remove_dir_all(pristine.path("state/db")).unwrap();
    refuse(&pristine, run(&pristine, &[]), 1, &["could not open the state folder \"state\"", "lost all epochs"]);
}

fn finished_copy(place: &Place) -> Place {
    let copy = Place::empty();
    for (path, bytes) in tree(place.root()) {
        let to = copy.root().join(path.strip_prefix(place.root()).unwrap());
        match bytes {
            None => fs::create_dir_all(to).unwrap(),
            Some(bytes) => {
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, bytes).unwrap();
            }
        }
    }
    copy
}

/// Output of a state that is gone: going on would write everything twice.
#[test]
fn an_output_folder_that_is_ahead_of_the_state() {
    let place = finished();
    fs::remove_dir_all(place.path("state")).unwrap();
    refuse(&place, run(&place, &[]), 1, &["out/", "the state has committed nothing"]);
}

#[test]
fn a_step_that_the_program_no_longer_has_and_then_results_are_exact_all_the_same() {
    let place = finished();
    let ended = run(&place, &["--dedupe-ms", "0"]).end_within(PATIENCE);
    refused(&ended, 1, &["\"seen-ids\"", "--allow-dropped-state"]);
    let ended = run(&place, &["--window-ms", "90000"]).end_within(PATIENCE);
    refused(&ended, 1, &["\"minute-totals\"", "windows of 60000 ms", "windows of 90000 ms", "another name"]);
    let ended = run(&place, &["--workers", "257"]).end_within(PATIENCE);
    refused(&ended, 2, &["--workers"]);
    run(&place, &["--workers", "3"]).succeed();
    Books::new(Reference::compute(&place.path("in"), &SEMANTICS).unwrap(), place.path("out")).hold();
}

/// The first is stopped while the second one tries, so that whatever changes is the second one's doing.
#[test]
fn a_second_process_on_one_folder_is_refused_and_the_first_goes_on() {
    let place = Place::with_input(200_000, 32);
    let mut books = Books::new(Reference::compute(&place.path("in"), &SEMANTICS).unwrap(), place.path("out"));
    let first =
        place.job(&SEMANTICS, 2).args(["--in-flight-bytes", "1MiB"]).points("commit::before-durable=sleep(50)").start();
    books.witness.wait_for_more(&place.path("out"));
    first.signal(Signal::STOP);
    wait_until_stopped(&first);
    refuse(&place, run(&place, &[]), 1, &["state folder \"state\"", "another process uses it"]);
    let other_state = Launch::new(&["run", "--source", "file:in", "--out", "out", "--state", "other"]);
    refuse(&place, other_state, 2, &["folder \"out/", "in use"]);
    first.signal(Signal::CONT);
    let ended = first.end(PATIENCE);
    assert!(ended.status.success(), "{ended:?}");
    books.hold();
}

/// SIGSTOP takes a moment to reach every thread.
fn wait_until_stopped(process: &crate::process::Process) {
    let deadline = Instant::now() + Duration::from_secs(20);
    let threads = || fs::read_dir(format!("/proc/{}/task", process.id())).unwrap();
    let stopped = |task: fs::DirEntry| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
    };
    while !threads().all(|task| stopped(task.unwrap())) {
        assert!(Instant::now() < deadline, "it did not stop");
        pause();
    }
}

/// A first start that saw no folder, and then came second, must not clear away what is the other's.
#[test]
fn a_first_start_that_comes_second_leaves_the_folder_of_the_first() {
    let place = Place::with_input(20_000, 40);
    let mut books = Books::new(Reference::compute(&place.path("in"), &SEMANTICS).unwrap(), place.path("out"));
    let go = place.path("go");
    let mut second = run(&place, &[]).points(&format!("open::before-lock=wait({})", go.display())).start();
    second.says("waits at");
    let mut first = place.job(&SEMANTICS, 2).points("commit::before-durable=stall(1)").start();
    first.says("stalled at");
    let before = tree(&place.path("state"));
    fs::write(go, "").unwrap();
    let ended = second.end(PATIENCE);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(ended.stderr.last().unwrap().contains("another process uses it"), "{ended:?}");
    assert_eq!(tree(&place.path("state")), before);
    first.kill();
    place.job(&SEMANTICS, 3).succeed();
    books.hold();
}

/// Several first starts at once: one wins, and nobody takes its folder away.
#[test]
fn of_many_first_starts_at_once_one_gets_the_folder_and_keeps_it() {
    for seed in 0..2 {
        let place = Place::with_input(20_000, 33 + seed);
        let mut books = Books::new(Reference::compute(&place.path("in"), &SEMANTICS).unwrap(), place.path("out"));
        let jobs: Vec<_> = (0..6).map(|_| place.job(&SEMANTICS, 1).env("SHARDFLOW_LOG", "warn").start()).collect();
        let ends: Vec<_> = jobs.into_iter().map(|job| job.end(PATIENCE)).collect();
        assert!(ends.iter().any(|ended| ended.status.success()), "{ends:?}");
        for ended in ends.iter().filter(|ended| !ended.status.success()) {
            refused(ended, 1, &["another process uses it"]);
        }
        assert!(place.path("state/db").is_dir());
        books.hold();
    }
}
