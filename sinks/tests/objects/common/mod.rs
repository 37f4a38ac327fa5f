//! What the tests of the object sink share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

pub(crate) mod faulty;
#[cfg(all(feature = "avro", feature = "parquet"))]
pub(crate) mod usage;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read;
use std::path::Path as FilePath;
use std::sync::{Arc, LazyLock};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::ObjectSink;
use tokio::runtime::Runtime;

/// A runtime for what the tests themselves ask stores, on threads that are not a job's.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

pub(crate) fn wait<T>(work: impl Future<Output = T>) -> T {
    RUNTIME.block_on(work)
}

/// Everything in a store, by name.
pub(crate) fn everything(store: &dyn ObjectStore) -> BTreeMap<String, Vec<u8>> {
    wait(async {
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        let mut all = BTreeMap::new();
        for found in listed {
            let bytes = store.get(&found.location).await.unwrap().bytes().await.unwrap();
            assert_eq!(bytes.len() as u64, found.size, "{}", found.location);
            all.insert(found.location.to_string(), bytes.to_vec());
        }
        all
    })
}

/// Whether a reader of a data lake reads it.
pub(crate) fn is_visible(name: &str) -> bool {
    !name.split('/').any(|folder| folder.starts_with('_'))
}

/// What a reader reads, by name.
pub(crate) fn visible(store: &dyn ObjectStore) -> BTreeMap<String, Vec<u8>> {
    everything(store).into_iter().filter(|(name, _)| is_visible(name)).collect()
}

/// The lines of an object, whatever its format.
pub(crate) fn lines(name: &str, bytes: &[u8]) -> Vec<String> {
    let mut text = String::new();
    if name.ends_with(".gz") {
        flate2::read::GzDecoder::new(bytes).read_to_string(&mut text).unwrap();
    } else if name.ends_with(".zst") {
        text = String::from_utf8(zstd::decode_all(bytes).unwrap()).unwrap();
    } else {
        text = String::from_utf8(bytes.to_vec()).unwrap();
    }
    assert!(text.ends_with('\n'), "{name} ends inside a line");
    text.lines().map(ToOwned::to_owned).collect()
}

/// Every visible number.
pub(crate) fn numbers(store: &dyn ObjectStore) -> Vec<u64> {
    let objects = visible(store).into_iter();
    objects
        .flat_map(|(name, bytes)| lines(&name, &bytes).iter().map(|line| line.parse().unwrap()).collect::<Vec<_>>())
        .collect()
}

/// What manifests tell: the names, sizes and records of objects.
pub(crate) fn manifested(store: &dyn ObjectStore) -> BTreeMap<String, (u64, u64)> {
    let manifests = everything(store).into_iter().filter(|(name, _)| name.contains("_manifests/"));
    let mut told = BTreeMap::new();
    for (name, bytes) in manifests {
        let manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        for object in manifest["objects"].as_array().unwrap() {
            let known = told.insert(
                object["name"].as_str().unwrap().to_owned(),
                (object["bytes"].as_u64().unwrap(), object["records"].as_u64().unwrap()),
            );
            assert!(known.is_none(), "{name} tells of an object that another tells of");
        }
    }
    told
}

/// Checks that manifests tell of exactly the objects that are there, whatever their format.
pub(crate) fn assert_told(store: &dyn ObjectStore) {
    let is_object = |name: &String| !name.contains("_manifests/") && !name.contains("_probes/");
    let found = everything(store).into_iter().filter(|(name, _)| is_object(name));
    let found: BTreeMap<_, _> = found.map(|(name, bytes)| (name, bytes.len() as u64)).collect();
    let told: BTreeMap<_, _> = manifested(store).into_iter().map(|(name, (bytes, _))| (name, bytes)).collect();
    assert_eq!(told, found);
}

/// Checks that manifests tell of exactly the objects that are visible.
pub(crate) fn assert_manifested(store: &dyn ObjectStore) {
    let objects = visible(store).into_iter();
    let found: BTreeMap<_, _> = objects
        .map(|(name, bytes)| {
            let told = (bytes.len() as u64, lines(&name, &bytes).len() as u64);
            (name, told)
        })
        .collect();
    let told: BTreeMap<_, _> = manifested(store).into_iter().filter(|(name, _)| is_visible(name)).collect();
    assert_eq!(told, found);
}

/// A job whose only sink writes numbers to `sink`, which writes to `store`.
pub(crate) fn job<'a, F>(store: &'a Arc<dyn ObjectStore>, sink: ObjectSink<u64, F>) -> Driver<'a, u64>
where
    F: shardflow_sinks::FileFormat<u64>,
{
    Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, move || numbers(store.as_ref()))
}

/// Files in a folder and below.
pub(crate) fn files_below(dir: &FilePath) -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            all.extend(files_below(&entry.path()));
        } else {
            all.push(entry.path().display().to_string());
        }
    }
    all.sort();
    all
}

pub(crate) fn path(text: &str) -> Path {
    Path::parse(text).unwrap()
}
