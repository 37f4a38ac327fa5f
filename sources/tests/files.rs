//! The files source from outside: every format, every resume position, every way a file can be damaged.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs::{self, File};
use std::future::poll_fn;
use std::io::Write;
use std::path::Path;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use proptest::prelude::*;
use shardflow::source::{Enumerator, KnownSplits, Position, Reader, Source, SourceContext, SplitRecord, SplitStatus};
use shardflow::testing::source::SourceSuite;
use shardflow::vocabulary::{Incarnation, SplitId, StepName};
use shardflow::{ErrorKind, Result};
use shardflow_sources::Files;
use tempfile::TempDir;

const ENDINGS: [&str; 3] = ["ndjson", "ndjson.gz", "ndjson.zst"];

fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// The content as a file of this ending holds it; compressed in two parts (members, frames), cut at an odd place.
fn encode(content: &[u8], ending: &str) -> Vec<u8> {
    let (front, back) = content.split_at(content.len() / 3);
    match Path::new(ending).extension().and_then(|ending| ending.to_str()) {
        Some("gz") => [gzip(front), gzip(back)].concat(),
        Some("zst") => [zstd::encode_all(front, 1).unwrap(), zstd::encode_all(back, 1).unwrap()].concat(),
        _ => content.to_vec(),
    }
}

fn context(first_start: bool) -> SourceContext {
    SourceContext {
        job: "test".to_owned(),
        step: StepName::new("usage"),
        runtime: tokio::runtime::Handle::current(),
        known: KnownSplits::new(),
        first_start,
        incarnation: Incarnation::new(1),
        state_id: "test".to_owned(),
    }
}

async fn open(files: Files) -> Result<Box<dyn Enumerator>> {
    files.open(context(true)).await
}

async fn reader_at(path: &Path, position: &str) -> Result<Box<dyn Reader>> {
    let name = SplitId::new(path.file_name().unwrap().to_str().unwrap());
    open(Files::new(path)).await?.open(&name, &Position::new(position))
}

/// All records of a split, as text, with their positions.
async fn drain(reader: &mut dyn Reader) -> Result<Vec<(String, String)>> {
    let mut records = Vec::new();
    while let Some(batch) = poll_fn(|cx| reader.poll_read(cx)).await? {
        for (index, record) in batch.records().enumerate() {
            records.push((String::from_utf8_lossy(record).into_owned(), batch.position(index)));
        }
    }
    Ok(records)
}

async fn read(path: &Path) -> Result<Vec<String>> {
    Ok(drain(&mut *reader_at(path, "0").await?).await?.into_iter().map(|(record, _)| record).collect())
}

fn write(folder: &TempDir, name: &str, content: &[u8]) -> std::path::PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

fn numbered(records: usize) -> Vec<u8> {
    (0..records).flat_map(|n| format!("{{\"id\":\"record-{n}\",\"qty\":{n}}}\n").into_bytes()).collect()
}

#[tokio::test]
async fn a_folder_of_every_format_conforms() {
    let folder = tempfile::tempdir().unwrap();
    // Several chunks of content in each, so that batch borders fall everywhere.
    let content = numbered(40_000);
    fs::create_dir(folder.path().join("deep")).unwrap();
    for ending in ENDINGS {
        write(&folder, &format!("deep/usage.{ending}"), &encode(&content, ending));
    }
    write(&folder, "empty.ndjson", b"");
    write(&folder, ".hidden.ndjson", b"x\n");
    let checked = SourceSuite::new().resumptions(8).check(&Files::new(folder.path())).await.unwrap();
    assert_eq!((checked.splits, checked.records), (4, 120_000));
    assert!(checked.resumptions > 15, "{checked:?}");
}

#[tokio::test]
async fn every_format_gives_the_same_records_whatever_ends_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ENDINGS {
        let content = b"a\r\n\n\xff\xfe\n\r\nlast";
        let path = write(&folder, &format!("x.{ending}"), &encode(content, ending));
        assert_eq!(read(&path).await.unwrap(), ["a", "\u{fffd}\u{fffd}", "last"], "{ending}");
        let marked = write(&folder, &format!("marked.{ending}"), &encode(b"\xef\xbb\xbf{}\n{}\n", ending));
        assert_eq!(read(&marked).await.unwrap(), ["{}", "{}"], "{ending}");
        let blank = write(&folder, &format!("blank.{ending}"), &encode(b"\n\n\n", ending));
        assert!(read(&blank).await.unwrap().is_empty(), "{ending}");
        let none = write(&folder, &format!("none.{ending}"), &encode(b"", ending));
        assert!(read(&none).await.unwrap().is_empty(), "{ending}");
    }
}

#[tokio::test]
async fn a_bounded_folder_is_complete_at_its_first_listing() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "b", b"1\n");
    write(&folder, "a", b"1\n");
    let found = open(Files::new(folder.path())).await.unwrap().discover().await.unwrap();
    assert!(found.complete);
    let ids: Vec<_> = found.splits.iter().map(|split| split.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"]);
    assert!(found.splits.iter().all(|split| split.start.as_str() == "0" && split.parents.is_empty()));
}

#[tokio::test]
async fn following_finds_files_that_are_renamed_into_sight() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = open(Files::new(folder.path()).following(Duration::from_millis(5))).await.unwrap();
    assert_eq!(files.interval(), Duration::from_millis(5));
    let hidden = write(&folder, ".new", b"1\n2\n");
    let found = files.discover().await.unwrap();
    assert!(found.splits.is_empty() && !found.complete);
    fs::rename(hidden, folder.path().join("new")).unwrap();
    let found = files.discover().await.unwrap();
    assert_eq!(found.splits[0].id.as_str(), "new");
    let mut reader = files.open(&found.splits[0].id, &found.splits[0].start).unwrap();
    assert_eq!(drain(&mut *reader).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_line_above_the_maximum_is_marked_and_nothing_else_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut content = b"before\n".to_vec();
    content.extend(vec![b'x'; 3 << 20]);
    content.extend(b"\nafter\n");
    for ending in ENDINGS {
        let path = write(&folder, &format!("x.{ending}"), &encode(&content, ending));
        let files = Files::new(&path).max_record_bytes(1 << 20);
        let mut files = open(files).await.unwrap();
        let split = files.discover().await.unwrap().splits.remove(0);
        let mut reader = files.open(&split.id, &split.start).unwrap();
        let mut seen = Vec::new();
        while let Some(batch) = poll_fn(|cx| reader.poll_read(cx)).await.unwrap() {
            for (index, record) in batch.records().enumerate() {
                seen.push((record.len(), batch.position(index), batch.fault(index).map(str::to_owned)));
            }
        }
        let fault = Some("record is longer than 1048576 bytes".to_owned());
        let expected = [(6, "0", None), (64 << 10, "7", fault), (5, "3145736", None)];
        assert_eq!(seen, expected.map(|(len, at, fault)| (len, at.to_owned(), fault)), "{ending}");
    }
}

#[tokio::test]
async fn a_long_line_below_the_maximum_is_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "x", &[vec![b'x'; 3 << 20], b"\nnext".to_vec()].concat());
    let lengths: Vec<_> = read(&path).await.unwrap().iter().map(String::len).collect();
    assert_eq!(lengths, [3 << 20, 4]);
}

#[tokio::test]
async fn missing_unreadable_and_vanished_files_are_named_in_one_clear_error() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(Files::new(folder.path().join("nowhere"))).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("nowhere"), "{error}");

    let path = write(&folder, "gone", b"1\n");
    let mut reader = reader_at(&path, "0").await.unwrap();
    fs::remove_file(&path).unwrap();
    let error = drain(&mut *reader).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.to_string().contains("gone"), "{error}");
    let again = drain(&mut *reader).await.unwrap_err().to_string();
    assert!(again.contains("failed before"), "a failed split must not look ended: {again}");
}

#[tokio::test]
async fn positions_that_the_file_does_not_have_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    for ending in ENDINGS {
        let path = write(&folder, &format!("x.{ending}"), &encode(b"ab\ncd\n", ending));
        assert_eq!(drain(&mut *reader_at(&path, "3").await.unwrap()).await.unwrap(), [("cd".into(), "3".into())]);
        assert!(drain(&mut *reader_at(&path, "6").await.unwrap()).await.unwrap().is_empty());
        for (position, why) in [("7", "cut or changed"), ("700000", "cut or changed"), ("4", "cut or changed")] {
            let error = drain(&mut *reader_at(&path, position).await.unwrap()).await.unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(&format!("x.{ending}")), "{ending} at {position}: {error}");
            assert!(error.contains(&format!("at byte {position}")), "{error}");
        }
        let error = reader_at(&path, "trim-horizon").await.err().unwrap().to_string();
        assert!(error.contains("no byte offset"), "{error}");
        // Without a last line end the end of the file is the end of its last line.
        let open_end = write(&folder, &format!("y.{ending}"), &encode(b"ab\ncd", ending));
        assert!(drain(&mut *reader_at(&open_end, "5").await.unwrap()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_same_files_are_the_same_input_however_their_path_is_given() {
    let folder = tempfile::tempdir().unwrap();
    for day in ["day1", "day2"] {
        fs::create_dir(folder.path().join(day)).unwrap();
    }
    let identity = |path: &str| Files::new(folder.path().join(path)).identity();
    assert_eq!(identity("day1"), identity("day2/../day1"));
    assert_ne!(identity("day1"), identity("day2"));
    assert!(identity("day1").starts_with("file:/") && identity("nowhere").ends_with("/nowhere"));
}

/// What opening a folder says in which `x` was read to `position`.
async fn resumed(folder: &TempDir, name: &str, position: usize, status: SplitStatus) -> Option<String> {
    let record = SplitRecord { parents: Vec::new(), position: Position::new(position.to_string()), status };
    let known = KnownSplits::from([(SplitId::new(name), record)]);
    let context = SourceContext { known, ..context(false) };
    let error = Files::new(folder.path()).open(context).await.err()?;
    assert_eq!(error.kind(), ErrorKind::State);
    Some(error.to_string())
}

#[tokio::test]
async fn a_start_refuses_files_that_have_changed_since_they_were_read() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "x", b"ab\ncd\n");
    write(&folder, "x.gz", &gzip(b"ab\ncd\n"));
    for (position, status) in
        [(6, SplitStatus::Ended), (6, SplitStatus::Reading), (3, SplitStatus::Reading), (0, SplitStatus::Waiting)]
    {
        assert_eq!(resumed(&folder, "x", position, status).await, None, "{position} {status:?}");
    }
    for (position, status) in [(3, SplitStatus::Ended), (7, SplitStatus::Ended), (7, SplitStatus::Reading)] {
        let text = resumed(&folder, "x", position, status).await.expect("it has changed");
        assert!(text.contains(&format!("to byte {position} and now has 6 bytes; files must not change")), "{text}");
    }
    assert_eq!(resumed(&folder, "x.gz", 3, SplitStatus::Ended).await, None, "only reading it would tell");
    assert_eq!(resumed(&folder, "gone", 3, SplitStatus::Ended).await, None, "what was read may be removed");
}

#[tokio::test]
async fn a_file_is_never_silent_before_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let content = [vec![b'\n'; 3 << 20], b"last\n".to_vec()].concat();
    let path = write(&folder, "x.gz", &gzip(&content));
    let mut reader = reader_at(&path, &(3 << 20).to_string()).await.unwrap();
    let mut cx = Context::from_waker(Waker::noop());
    assert!(reader.poll_read(&mut cx).is_pending() && !reader.caught_up(), "on its way to the stored position");
    assert_eq!(drain(&mut *reader).await.unwrap().len(), 1);
    assert!(reader.caught_up());
}

#[tokio::test]
async fn a_file_that_is_cut_while_it_is_read_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(&folder, "x", &numbered(40_000));
    let mut reader = reader_at(&path, "0").await.unwrap();
    assert!(poll_fn(|cx| reader.poll_read(cx)).await.unwrap().is_some());
    File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    let error = drain(&mut *reader).await.unwrap_err().to_string();
    assert!(error.contains("cut or changed"), "{error}");
}

#[tokio::test]
async fn compressed_files_cut_or_damaged_anywhere_fail_or_give_the_same_and_never_panic() {
    let folder = tempfile::tempdir().unwrap();
    let content = numbered(40);
    for ending in ["gz", "zst"] {
        let whole = encode(&content, &format!("x.{ending}"));
        let expected = read(&write(&folder, &format!("whole.{ending}"), &whole)).await.unwrap();
        assert_eq!(expected.len(), 40);
        let first_part = match ending {
            "gz" => gzip(&content[..content.len() / 3]).len(),
            _ => zstd::encode_all(&content[..content.len() / 3], 1).unwrap().len(),
        };
        for cut in 0..whole.len() {
            let path = write(&folder, &format!("cut.{ending}"), &whole[..cut]);
            let result = read(&path).await;
            // A cut between two parts leaves a file that is whole in itself: no reader can tell.
            if cut != first_part {
                let error = result.expect_err(&format!("{ending} cut at {cut}")).to_string();
                assert!(error.contains(&format!("cut.{ending}")), "{error}");
            }
        }
        for flip in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[flip] ^= 0x55;
            // Headers hold bytes that mean nothing (a time stamp): then the content must be unharmed. zstd's encoder
            // here writes no checksum, so that only gzip can promise to notice every change of the content.
            if let Ok(records) = read(&write(&folder, &format!("flip.{ending}"), &damaged)).await
                && ending == "gz"
            {
                assert_eq!(records, expected, "byte {flip}");
            }
        }
    }
}

#[tokio::test]
async fn a_long_way_to_the_stored_position_never_holds_the_worker() {
    let folder = tempfile::tempdir().unwrap();
    let mut content = vec![b'\n'; 5 << 20];
    content.extend(b"last\n");
    let path = write(&folder, "x.gz", &gzip(&content));
    let mut reader = reader_at(&path, &(5 << 20).to_string()).await.unwrap();
    let mut pauses = 0;
    let batch = loop {
        match reader.poll_read(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(batch) => break batch.unwrap().unwrap(),
            Poll::Pending => pauses += 1,
        }
    };
    assert_eq!(batch.record(0), b"last");
    assert!(pauses >= 5, "{pauses}");
}

#[tokio::test]
async fn more_files_than_may_be_open_are_all_read_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let content = numbered(20_000);
    for n in 0..300 {
        let small = if n % 100 == 0 { &content } else { &content[..0] };
        write(&folder, &format!("{n:03}"), small);
    }
    for n in 0..260 {
        write(&folder, &format!("{n:03}.many"), &content[..content.len() / 2]);
    }
    let mut files = open(Files::new(folder.path())).await.unwrap();
    let splits = files.discover().await.unwrap().splits;
    let mut readers: Vec<_> = splits.iter().map(|split| files.open(&split.id, &split.start).unwrap()).collect();
    let mut records = 0;
    let mut most_open = 0;
    // As an engine does: a batch of each in turn.
    while !readers.is_empty() {
        let mut going = Vec::new();
        for mut reader in readers {
            if let Some(batch) = poll_fn(|cx| reader.poll_read(cx)).await.unwrap() {
                records += batch.len();
                going.push(reader);
            }
        }
        readers = going;
        most_open = most_open.max(open_below(folder.path()));
    }
    let half = content[..content.len() / 2].split(|byte| *byte == b'\n').count();
    assert_eq!(records, 3 * 20_000 + 260 * half);
    assert!(most_open <= 256, "{most_open} files were open");
}

/// How many files below `folder` this process has open.
fn open_below(folder: &Path) -> usize {
    let Ok(open) = fs::read_dir("/proc/self/fd") else { return 0 };
    open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok()).filter(|path| path.starts_with(folder)).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn resuming_at_every_record_gives_the_records_that_remain(
        lines in proptest::collection::vec("[a-z\\r]{0,12}", 0..40),
        last_is_open: bool,
    ) {
        let mut content = lines.join("\n").into_bytes();
        if !last_is_open && !content.is_empty() {
            content.push(b'\n');
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let folder = tempfile::tempdir().unwrap();
            for ending in ENDINGS {
                let path = write(&folder, &format!("x.{ending}"), &encode(&content, ending));
                let all = drain(&mut *reader_at(&path, "0").await.unwrap()).await.unwrap();
                let expected = lines.iter().filter(|line| !line.strip_suffix('\r').unwrap_or(line).is_empty()).count();
                assert_eq!(all.len(), expected);
                for (index, (_, position)) in all.iter().enumerate() {
                    let rest = drain(&mut *reader_at(&path, position).await.unwrap()).await.unwrap();
                    assert_eq!(&rest, &all[index..], "{ending} at {position}");
                }
            }
        });
    }
}
