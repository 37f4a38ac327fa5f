//! State that version 1 wrote stays readable. The fixtures are written once a format version and never again.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

mod snapshot_support;

use std::fs;
use std::path::{Path, PathBuf};

use shardflow::snapshot::Store;
use shardflow::state::frame::{self, Kind};
use shardflow::state::{Change, ChangelogReader, ChangelogWriter, KeyedState, Seen, SeenIds, Table, WindowState};
use shardflow::vocabulary::{Incarnation, KeyGroup, StepName};
use shardflow::{Epoch, EventTime, Window, millis};
use snapshot_support::{Contents, GROUPS, Job, contents, copy, files, handle, identity, open, steps};
use tempfile::tempdir;

const EPOCHS: u64 = 12;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/state-v1")
}

fn changelog() -> Vec<u8> {
    let mut writer = ChangelogWriter::new();
    writer.put(KeyGroup::new(3), Table(1), b"key", b"value");
    writer.delete(KeyGroup::new(260), Table(0), &[7; 200]);
    writer.put(KeyGroup::new(0), Table(0), b"", b"");
    writer.finish().unwrap()
}

/// Contents as text: one line an entry, hexadecimal. It does not depend on any of our formats.
fn as_text(contents: &Contents) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let line = |((step, group, table, key), value): (&(String, u16, u8, Vec<u8>), &Vec<u8>)| {
        format!("{step} {group} {table} {} {}\n", hex(key), hex(value))
    };
    contents.iter().map(line).collect()
}

/// Run with `cargo test --release --workspace --test snapshot_fixtures write_the_fixtures -- --ignored`, after the format
/// version was raised and the folder's name with it.
#[test]
#[ignore = "writes the fixtures"]
fn write_the_fixtures() {
    let place = fixtures();
    fs::create_dir_all(&place).unwrap();
    let (folder, mut job) = (place.join("folder"), Job::new(1, 25));
    let _ = fs::remove_dir_all(&folder);
    for epochs in [1..=8, 9..=EPOCHS] {
        let (store, _) = open(&folder).unwrap();
        store.register_steps(&steps(), false).unwrap();
        for epoch in epochs {
            store.commit(job.epoch(epoch)).unwrap();
            if epoch == 6 {
                store.fold_all().unwrap();
            }
        }
        store.acknowledge(Epoch::new(EPOCHS - 2)).unwrap();
    }
    for name in files(&folder).keys().filter(|name| name.contains("LOG") || name.ends_with("LOCK")) {
        fs::remove_file(folder.join(name)).unwrap();
    }
    fs::write(place.join("expected.txt"), as_text(&job.states[&Epoch::new(EPOCHS)])).unwrap();
    fs::write(place.join("changelog.bin"), changelog()).unwrap();
}

#[test]
fn a_folder_of_version_1_is_read_and_goes_on() {
    let dir = tempdir().unwrap();
    copy(&fixtures().join("folder"), dir.path());
    let expected = fs::read_to_string(fixtures().join("expected.txt")).unwrap();
    for start in 3..6 {
        let (store, recovered) = Store::open(dir.path(), &identity()).unwrap();
        assert_eq!(recovered.committed, Some(Epoch::new(EPOCHS)));
        assert_eq!(recovered.incarnation, Incarnation::new(start));
        assert_eq!((recovered.key_groups, recovered.steps), (GROUPS, steps()));
        assert_eq!(recovered.handles[&StepName::new("charges")], [handle(EPOCHS - 1).1, handle(EPOCHS).1]);
        assert_eq!(as_text(&contents(&store, &steps()).unwrap()), expected);
        store.fold_all().unwrap();
        assert_eq!(as_text(&contents(&store, &steps()).unwrap()), expected);
    }
}

#[test]
fn entries_of_version_1_are_the_types_that_they_were() {
    let dir = tempdir().unwrap();
    copy(&fixtures().join("folder"), dir.path());
    let (store, _) = Store::open(dir.path(), &identity()).unwrap();
    let mut positions = KeyedState::<String, u64>::new();
    let mut totals = WindowState::<(String, String), (u64, u64)>::new();
    let mut seen = SeenIds::new(millis(900));
    let hash = |text: &String| text.bytes().map(u64::from).sum::<u64>();
    let mut restore = |name: &str| {
        store.restore(&name.into(), 0..GROUPS, &mut |group, table, key, value| match table {
            Table(3) => totals.restore(group, |(account, _)| hash(account), key, value),
            _ if key.len() == 20 => seen.restore(group, key, value),
            _ => positions.restore(group, hash, key, value),
        })
    };
    steps().iter().for_each(|step| restore(step.name.as_str()).unwrap());
    assert_eq!(positions.iter().map(|(_, records)| records).sum::<u64>(), EPOCHS * 25);
    assert!(totals.least_end() > Some(EventTime::from_millis(EPOCHS * 100 - 50)));
    let open: Vec<(Window, _)> = totals.fire_all();
    assert!(open.iter().flat_map(|(_, entries)| entries).all(|((account, _), _)| account.starts_with("account-")));
    // An id that the seeded job accepted in its last epoch.
    let mut job = Job::new(1, 25);
    let again = (1..=EPOCHS).map(|epoch| job.epoch(epoch)).last().unwrap();
    let chunk = again.changes.iter().find(|change| change.step.as_str() == "seen-ids").unwrap();
    let change = ChangelogReader::open(&chunk.changelog).unwrap().next().unwrap().unwrap();
    let (entry, _) = change.value.unwrap().split_first_chunk::<24>().unwrap();
    let number = |at: usize| u64::from_le_bytes(entry[at..at + 8].try_into().unwrap());
    let fingerprint = u128::from(number(0)) << 64 | u128::from(number(8));
    let at = EventTime::from_millis(number(16));
    assert_eq!(seen.check_and_insert(change.group, fingerprint, at, EventTime::MIN), Seen::Duplicate);
}

#[test]
fn a_changelog_of_version_1_is_read_and_still_written_the_same() {
    let stored = fs::read(fixtures().join("changelog.bin")).unwrap();
    let changes: Vec<_> = ChangelogReader::open(&stored).unwrap().map(|change| change.unwrap()).collect();
    let change = |group, table, key, value| Change { group: KeyGroup::new(group), table: Table(table), key, value };
    let expected =
        [change(3, 1, b"key", Some(&b"value"[..])), change(260, 0, &[7; 200], None), change(0, 0, b"", Some(&b""[..]))];
    assert_eq!(changes, expected);
    assert_eq!(changelog(), stored);
}

#[test]
fn the_small_files_of_version_1_are_frames() {
    let file = |name: &str| fs::read(fixtures().join("folder").join(name)).unwrap();
    assert_eq!(frame::unseal(Kind::Job, &file("job")).unwrap(), b"\x08metering");
    let marker = file("committed");
    assert_eq!(frame::unseal(Kind::Marker, &marker).unwrap()[..9], [1, EPOCHS as u8, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(marker.len(), 36);
}
