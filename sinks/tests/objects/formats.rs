//! Each format through the sink's whole protocol, read back by readers of the formats' own crates; and what groups records:
//! windows, archives, the memory of encoders.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::common::usage::{SCHEMA, Usage, read, read_all, usage};
use crate::common::{assert_told, everything, lines, numbers, visible};
use object_store::ObjectStore;
use object_store::memory::InMemory;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::{Deserialize, Serialize};
use shardflow::sink::Sink;
use shardflow::testing::sink::{Driver, Promise, conforms};
use shardflow::{EventTime, seconds};
use shardflow_sinks::{
    Avro, Compression, FileEncoder, FileFormat, Manifest, ObjectSink, Origin, Parquet, csv, objects_in,
};

fn memory() -> Arc<dyn ObjectStore> {
    Arc::new(InMemory::new())
}

/// Days of a few records each.
fn sink(store: &Arc<dyn ObjectStore>) -> ObjectSink<Usage> {
    objects_in(Arc::clone(store), "out")
        .roll_after(Duration::ZERO)
        .partitioned_by("dt={yyyy-MM-dd}/account={account}")
        .event_time(|usage: &Usage| usage.at)
}

fn format_conforms<F: FileFormat<Usage>>(format: F) {
    let sink = |store: &Arc<dyn ObjectStore>| {
        Box::new(sink(store).format(format.clone()).part_bytes(300).roll_records(40)) as Box<dyn Sink<Usage>>
    };
    conforms(Promise::ExactlyOnce, memory, sink, usage, |store| read_all(store.as_ref()));
}

#[test]
fn parquet_conforms_in_partitions() {
    format_conforms(Parquet::of::<Usage>().row_group_rows(7));
}

#[test]
fn avro_conforms_in_partitions() {
    format_conforms(Avro::schema(SCHEMA));
}

#[test]
fn csv_conforms_in_partitions() {
    format_conforms(csv().zstd());
}

#[test]
fn snappy_ndjson_conforms_in_partitions() {
    format_conforms(shardflow_sinks::Ndjson.compression(Compression::Snappy));
}

fn whole_epoch<T>(job: &mut Driver<'_, T>) {
    job.prepare();
    job.persist();
    job.commit();
    job.acknowledge();
}

#[test]
fn manifests_tell_objects_and_the_values_of_their_partitions() {
    let store = memory();
    let mut job =
        Driver::new(Promise::ExactlyOnce, Box::new(sink(&store).format(Parquet::of::<Usage>())), usage, || {
            read_all(store.as_ref())
        });
    job.start(2);
    job.stage(0, 9);
    job.stage(1, 3);
    whole_epoch(&mut job);
    let all = everything(store.as_ref());
    let manifests: Vec<_> = all.iter().filter(|(name, _)| name.contains("_manifests/")).collect();
    assert_eq!(manifests.len(), 2, "one for each worker");
    let mut told = BTreeSet::new();
    for (_, json) in manifests {
        let manifest = Manifest::from_json(json).unwrap();
        assert_eq!((manifest.job.as_str(), manifest.step.as_str()), ("conformance", "results"));
        assert_eq!(manifest.records, manifest.objects.iter().map(|object| object.records).sum::<u64>());
        for object in manifest.objects {
            assert_eq!(read(&object.name, &all[&object.name]).len() as u64, object.records);
            let account = object.partition["account"].clone().unwrap();
            assert!(object.name.contains(&format!("/account={}/", account.replace('/', "%2F"))), "{object:?}");
            assert!(object.name.contains(&format!("/dt={}/", object.partition["dt"].clone().unwrap())), "{object:?}");
            told.insert(object.name);
        }
    }
    assert_eq!(told, visible(store.as_ref()).into_keys().collect());
}

#[test]
fn records_that_do_not_fit_a_format_are_kept_apart_and_the_file_is_whole() {
    // A column of 32 bits for numbers of 64.
    let field = |name: &str, of| shardflow_sinks::encode::arrow_schema::Field::new(name, of, false);
    let narrow = shardflow_sinks::encode::arrow_schema::Schema::new(vec![field(
        "n",
        shardflow_sinks::encode::arrow_schema::DataType::UInt32,
    )]);
    let store = memory();
    let format = Parquet::with_schema(Arc::new(narrow));
    let sink = objects_in::<Usage>(Arc::clone(&store), "out").roll_after(Duration::ZERO).format(format);
    let record = |n| Usage { n: if n % 4 == 1 { n + (1 << 40) } else { n }, ..usage(n) };
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink.keep_rejected()), record, Vec::new);
    job.try_start(1).unwrap();
    job.try_stage(0, 10).unwrap();
    job.try_prepare().unwrap();
    job.try_persist().unwrap();
    job.try_commit().unwrap();
    let all = everything(store.as_ref());
    let (name, bytes) = all.iter().find(|(name, _)| name.contains("_rejected/")).unwrap();
    let refused: Vec<serde_json::Value> =
        lines(name, bytes).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|line| line["record"].as_str().unwrap().contains("10995116277")), "{refused:?}");
    let (name, bytes) = visible(store.as_ref()).into_iter().next().unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().build().unwrap();
    assert_eq!(reader.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 7, "{name}");
    assert_told(store.as_ref());
}

#[test]
fn a_window_that_is_over_is_shipped_and_has_objects_of_its_own() {
    let store = memory();
    let sink = objects_in::<u64>(Arc::clone(&store), "out")
        .event_time(|number| EventTime::from_millis(*number))
        .roll_window(Duration::from_millis(100), Duration::from_millis(10))
        .roll_after(seconds(3600))
        .unshipped_bytes(1);
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, || numbers(store.as_ref()));
    job.start(1);
    job.stage(0, 90);
    whole_epoch(&mut job);
    job.stage(0, 20);
    whole_epoch(&mut job);
    assert!(job.visible().is_empty(), "109 is the latest, and lateness is 10");
    job.stage(0, 1);
    whole_epoch(&mut job);
    assert_eq!(job.visible().len(), 111);
    let objects: Vec<Vec<u64>> = visible(store.as_ref())
        .values()
        .map(|bytes| lines("", bytes).iter().map(|n| n.parse().unwrap()).collect())
        .collect();
    assert_eq!(objects, [(0..100).collect::<Vec<_>>(), (100..111).collect()]);
    job.stage(0, 89);
    whole_epoch(&mut job);
    assert_eq!(job.visible().len(), 111);
    job.stage(0, 11);
    whole_epoch(&mut job);
    job.assert_all_visible();
    job.finish();
}

#[test]
fn a_window_without_a_time_is_refused() {
    let store = memory();
    let sink = objects_in::<u64>(store, "out").roll_window(seconds(1), seconds(0));
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, Vec::new);
    let error = job.try_start(1).unwrap_err();
    assert!(error.to_string().contains("event_time"), "{error}");
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Seen {
    shard: String,
    sequence: String,
    n: u64,
}

const FIRST: &str = "49590338271490256608559692538361571095921575989136588";

fn seen(n: u64) -> Seen {
    // Two records share each number, as those of an aggregate do.
    Seen { shard: format!("shardId-00000000000{}", n % 2), sequence: format!("{FIRST}{:03}", 100 + n / 4), n }
}

fn seen_numbers(store: &dyn ObjectStore) -> Vec<u64> {
    let lines = visible(store).into_iter().flat_map(|(name, bytes)| lines(&name, &bytes));
    lines.map(|line| serde_json::from_str::<Seen>(&line).unwrap().n).collect()
}

fn archive(store: &Arc<dyn ObjectStore>) -> ObjectSink<Seen> {
    objects_in(Arc::clone(store), "archive")
        .archive("usage", |seen: &Seen| Origin { shard: &seen.shard, sequence: &seen.sequence })
        .roll_after(Duration::ZERO)
}

#[test]
fn an_archive_is_named_by_stream_shard_and_sequence_numbers() {
    let store = memory();
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(archive(&store)), seen, || seen_numbers(store.as_ref()));
    job.start(1);
    job.stage(0, 8);
    whole_epoch(&mut job);
    let names: Vec<_> = visible(store.as_ref()).into_keys().collect();
    let name = |shard: u8, part: u8| {
        format!("archive/usage.shardId-00000000000{shard}-{FIRST}100-{FIRST}101-i00001-w00-s000000-p00{part}.ndjson")
    };
    assert_eq!(names, [name(0, 0), name(1, 1)]);
    // The same numbers once more, in another epoch: names stay apart.
    job.stage(0, 2);
    whole_epoch(&mut job);
    job.stage(0, 2);
    whole_epoch(&mut job);
    job.assert_all_visible();
    job.finish();
    assert_told(store.as_ref());
}

#[test]
fn an_archive_conforms_and_a_record_without_a_number_is_rejected() {
    let sink = |store: &Arc<dyn ObjectStore>| Box::new(archive(store)) as Box<dyn Sink<Seen>>;
    conforms(Promise::ExactlyOnce, memory, sink, seen, |store| seen_numbers(store.as_ref()));
    let store = memory();
    let bad = |n| Seen { sequence: "trim-horizon".to_owned(), ..seen(n) };
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(archive(&store).keep_rejected()), bad, Vec::new);
    job.try_start(1).unwrap();
    job.try_stage(0, 2).unwrap();
    job.try_prepare().unwrap();
    job.try_persist().unwrap();
    job.try_commit().unwrap();
    let all = everything(store.as_ref());
    let (name, bytes) = all.iter().find(|(name, _)| name.contains("_rejected/")).unwrap();
    assert!(lines(name, bytes)[0].contains("is no number"), "{:?}", lines(name, bytes));
}

/// A format that holds everything until it is told to give it away, and counts what all of its encoders hold together.
#[derive(Clone, Default)]
struct Hoarding {
    held: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Hoard {
    lines: Vec<u8>,
    ready: Vec<u8>,
    counts: Hoarding,
}

impl FileFormat<u64> for Hoarding {
    type Encoder = Hoard;

    fn ending(&self) -> String {
        "ndjson".to_owned()
    }

    fn encoder(&self) -> shardflow::Result<Hoard> {
        Ok(Hoard { lines: Vec::new(), ready: Vec::new(), counts: self.clone() })
    }
}

impl FileEncoder<u64> for Hoard {
    fn write(&mut self, record: &u64) -> Result<(), String> {
        let before = self.lines.len();
        self.lines.extend(format!("{record}\n").bytes());
        let held = self.counts.held.fetch_add(self.lines.len() - before, Ordering::Relaxed) + self.lines.len() - before;
        self.counts.most.fetch_max(held, Ordering::Relaxed);
        Ok(())
    }

    fn take(&mut self) -> Vec<u8> {
        self.counts.held.fetch_sub(self.ready.len(), Ordering::Relaxed);
        std::mem::take(&mut self.ready)
    }

    fn ready(&self) -> usize {
        self.ready.len()
    }

    fn buffered(&self) -> usize {
        self.lines.len() + self.ready.len()
    }

    fn flush(&mut self) {
        self.ready.append(&mut self.lines);
    }

    fn finish(mut self) -> shardflow::Result<Vec<u8>> {
        self.counts.held.fetch_sub(self.lines.len() + self.ready.len(), Ordering::Relaxed);
        let mut all = std::mem::take(&mut self.ready);
        all.append(&mut self.lines);
        Ok(all)
    }
}

#[test]
fn what_encoders_hold_together_is_bounded() {
    let (store, format) = (memory(), Hoarding::default());
    let sink = objects_in::<u64>(Arc::clone(&store), "out")
        .format(format.clone())
        .roll_after(Duration::ZERO)
        .partitioned_by("p={p}")
        .partition_field("p", |number| (number % 100).into())
        .encoding_bytes(2000);
    let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, || numbers(store.as_ref()));
    job.start(1);
    job.stage(0, 20_000);
    whole_epoch(&mut job);
    job.assert_all_visible();
    let most = format.most.load(Ordering::Relaxed);
    // One record may be above it.
    assert!((1900..=2000 + 6).contains(&most), "{most} bytes were held, where 2000 were allowed");
    assert_eq!(format.held.load(Ordering::Relaxed), 0);
    assert_eq!(visible(store.as_ref()).len(), 100, "what is given away early makes no more objects");
}

#[test]
fn parquet_in_little_memory_has_more_row_groups_and_all_rows() {
    let groups = |encoding_bytes: usize| {
        let store = memory();
        let sink = sink(&store).format(Parquet::of::<Usage>()).encoding_bytes(encoding_bytes);
        let record = |n: u64| Usage { at: EventTime::from_millis(1_767_225_600_000 + n), ..usage(n) };
        let mut job = Driver::new(Promise::ExactlyOnce, Box::new(sink), record, || read_all(store.as_ref()));
        job.start(1);
        job.stage(0, 40_000);
        whole_epoch(&mut job);
        job.assert_all_visible();
        let files: BTreeMap<_, _> = visible(store.as_ref());
        assert_eq!(files.len(), 2);
        let groups = |bytes| {
            ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes)).unwrap().metadata().num_row_groups()
        };
        files.into_values().map(groups).sum::<usize>()
    };
    assert_eq!(groups(64 << 20), 2);
    assert!(groups(200_000) > 4);
}
