//! What the tests of the file sink share.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};

use shardflow::testing::sink::{Driver, Promise};
use shardflow_sinks::FileSink;

/// The names in a folder, sorted; hidden ones too.
pub(crate) fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// The paths that a reader may read.
pub(crate) fn shown(dir: &Path) -> Vec<PathBuf> {
    let visible = names(dir).into_iter().filter(|name| !name.starts_with('.'));
    visible.map(|name| dir.join(name)).filter(|path| path.is_file()).collect()
}

/// The hidden names but mark and lock, which stay.
pub(crate) fn hidden(dir: &Path) -> Vec<String> {
    let left = |name: &String| name.starts_with('.') && !name.ends_with(".mark") && !name.ends_with(".lock");
    names(dir).into_iter().filter(left).collect()
}

/// Every visible number. Panics where a line is not whole.
pub(crate) fn numbers(dir: &Path) -> Vec<u64> {
    let texts = shown(dir).into_iter().map(|path| fs::read_to_string(path).unwrap());
    let whole = texts.inspect(|text| assert!(text.ends_with('\n'), "a file ends inside a line"));
    whole.flat_map(|text| text.lines().map(|line| line.parse().unwrap()).collect::<Vec<u64>>()).collect()
}

/// A job whose only sink writes numbers to `dir`.
pub(crate) fn job<'a>(dir: &'a Path, sink: FileSink) -> Driver<'a, u64> {
    Driver::new(Promise::ExactlyOnce, Box::new(sink), |number| number, move || numbers(dir))
}
