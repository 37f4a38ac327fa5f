//! Holds the architecture: which room imports from which, where timely may appear, which crate depends on which, and that a test
//! kills at every named point.
//! The checkers themselves are tested on snippets that break each rule.

mod lock;
mod points;
mod rooms;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lock::Lock;
use rooms::{ROOMS, Root, offences, read_root};

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("could not read {}: {error}", path.display()))
}

fn locked() -> Lock {
    Lock::read(&read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock")))
}

/// All Rust files below `folder`.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("could not list {}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("a folder that was listed can be read").path());
    paths
        .flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|ending| ending == "rs"))
        .collect()
}

/// The path of a file's module below the crate's root: `window/mod.rs` is `["window"]`.
fn module(file: &Path) -> Vec<String> {
    let below = file.strip_prefix(source_folder()).expect("it was found below it").with_extension("");
    let mut parts: Vec<String> = below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    parts.pop_if(|last| last == "mod");
    parts
}

#[test]
fn rooms_import_only_from_rooms_before_them_and_timely_stays_where_it_belongs() {
    let (_, root) = read_root(&read(&source_folder().join("lib.rs")));
    let mut found = Vec::new();
    let mut checked = 0;
    for file in files(&source_folder()) {
        let module = module(&file);
        // The root re-exports everything; files of test modules may look anywhere.
        if module == ["lib"] || module.iter().any(|part| part == "tests" || part.ends_with("_tests")) {
            continue;
        }
        checked += 1;
        let offences = offences(&module[0], module.len(), &read(&file), &root);
        found.extend(offences.into_iter().map(|offence| format!("{}: {offence}", file.display())));
    }
    assert!(checked > 10, "only {checked} files were found");
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_room_has_its_place_in_the_order() {
    let (rooms, _) = read_root(&read(&source_folder().join("lib.rs")));
    assert!(rooms.iter().any(|room| room == "vocabulary"));
    let unknown: Vec<&String> = rooms.iter().filter(|room| !ROOMS.contains(&room.as_str())).collect();
    assert!(unknown.is_empty(), "rooms without a place: {unknown:?}");
}

#[test]
fn the_engine_depends_on_no_cloud_and_on_no_connector() {
    let closure = locked().closure("shardflow");
    assert!(closure.contains("timely"), "the lock file was read wrongly: {closure:?}");
    let wrong = |name: &&String| name.starts_with("aws-") || name.starts_with("shardflow") || *name == "ferrokinesis";
    let found: Vec<&String> = closure.iter().filter(wrong).collect();
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn sources_and_sinks_never_meet() {
    let lock = locked();
    let (sources, sinks) = (lock.closure("shardflow-sources"), lock.closure("shardflow-sinks"));
    assert!(sources.contains("shardflow") && sinks.contains("shardflow"));
    assert!(!sources.contains("shardflow-sinks"));
    // The lock file does not tell what is for tests alone: jobs that are killed there read files.
    let manifest = read(&source_folder().join("../../sinks/Cargo.toml"));
    let (_, after) = manifest.split_once("\n[dependencies]\n").unwrap();
    let dependencies = after.split("\n[").next().unwrap();
    assert!(dependencies.contains("shardflow = ") && !dependencies.contains("shardflow-sources"));
}

#[test]
fn there_is_exactly_one_timely() {
    assert_eq!(locked().versions("timely"), 1);
    assert_eq!(locked().versions("differential-dataflow"), 1);
}

/// What is found in all Rust files below folders of the workspace.
fn gathered(folders: &[&str], find: impl Fn(&str) -> BTreeSet<String>) -> BTreeSet<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    folders.iter().flat_map(|folder| files(&workspace.join(folder))).flat_map(|file| find(&read(&file))).collect()
}

/// A point that is added to the code must be added to a test that kills a process there.
#[test]
fn every_named_point_is_one_at_which_a_test_kills() {
    let mut named = gathered(&["engine/src", "engine/aws/src", "sources/src", "sinks/src"], points::named);
    for switch in points::SWITCHES {
        assert!(named.remove(switch), "nothing is called {switch}");
    }
    let tests = ["engine/tests", "sources/tests", "sinks/tests", "examples/tests"];
    let struck = gathered(&tests, points::struck);
    assert!(named.len() > 50, "only {} points were found", named.len());
    assert_eq!(named.difference(&struck).collect::<Vec<_>>(), [""; 0], "no test kills there");
    assert_eq!(struck.difference(&named).collect::<Vec<_>>(), [""; 0], "there is no such point");
}

#[test]
fn points_are_found_as_calls_and_not_as_texts() {
    let source = r#"
        //! fail_point!("a::comment")
        fn f() { fail_point!("a::first"); if x { fail_point!("a::second", |_| Err("killed_at")) } }
        const TEXT: &str = "fail_point!(\"a::text\"), killed_at(\"a::text\", &[1])";
        use fail::fail_point;
        const POINTS: [KilledAt; 2] = [killed_at("a::third", &[1, 2]), (killed_at("a::fourth", &[3]))];
    "#;
    assert_eq!(points::named(source), ["a::first", "a::second"].map(str::to_owned).into());
    assert_eq!(points::struck(source), ["a::fourth", "a::third"].map(str::to_owned).into());
}

fn root() -> Root {
    let lib = "pub mod window; mod error; pub use error::{Error, Result as R}; pub use flow::Flow;";
    let (rooms, root) = read_root(lib);
    assert_eq!(rooms, ["window", "error"]);
    root
}

#[test]
fn the_checker_finds_an_import_from_a_later_room() {
    for bad in [
        "use crate::flow::Flow;",
        "use crate::{error::Error, flow::Flow};",
        "use {crate::flow, std::fmt};",
        "use crate::Flow;",
        "use super::super::flow::Flow;",
        "fn f() -> crate::flow::Flow { todo!() }",
        "fn f() { println!(\"{}\", crate::flow::x()) }",
        "pub(crate) mod inner { use super::super::super::flow; }",
        "#[cfg(not(test))] mod inner { use crate::flow; }",
        "impl From<crate::flow::Flow> for X { fn from(_: crate::flow::Flow) -> X { X } }",
        "macro_rules! m { () => { $crate::flow::x() } }",
    ] {
        assert_eq!(offences("window", 2, bad, &root()), ["window must not import from flow"], "{bad}");
    }
}

#[test]
fn the_checker_finds_timely_where_it_does_not_belong() {
    for bad in ["use timely::Scope;", "use ::timely::Scope;", "use {std::fmt, timely::Scope};", "type S = timely::S;"] {
        assert_eq!(offences("window", 1, bad, &root()), ["window must not name timely"], "{bad}");
        assert!(offences("operators", 1, bad, &root()).is_empty());
    }
}

#[test]
fn the_checker_finds_names_it_cannot_place() {
    assert_eq!(offences("cellar", 1, "use crate::error::Error;", &root()), ["cellar is not a known room"]);
    let unplaced = "window imports Unknown, which is no room and not re-exported";
    assert_eq!(offences("window", 1, "use crate::Unknown;", &root()), [unplaced]);
}

#[test]
fn the_checker_lets_right_imports_comments_strings_and_tests_pass() {
    let good = r#"
        //! See crate::flow::Flow and timely::Scope.
        use crate::Error;
        use crate::error::{self, Result};
        use super::spec::WindowSpec;
        use std::{fmt, time::Duration};
        /* use crate::flow::Flow; */
        const TEXT: &str = "crate::flow::Flow";
        mod inner { use super::super::aggregate; use super::x; }
        fn timely(timely: bool) -> bool { timely }
        #[cfg(test)]
        mod tests { use crate::flow::Flow; }
        #[cfg(test)]
        #[expect(dead_code, reason = "a snippet")]
        pub(crate) mod support { use crate::flow::Flow; }
        #[cfg(test)]
        mod elsewhere;
    "#;
    assert_eq!(offences("window", 2, good, &root()), [""; 0]);
}

#[test]
fn the_lock_reader_follows_dependencies() {
    let lock = Lock::read(
        "version = 4\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\ndependencies = [\n \"b 2.0.0\",\n]\n\n\
         [[package]]\nname = \"b\"\nversion = \"1.0.0\"\n\n\
         [[package]]\nname = \"b\"\nversion = \"2.0.0\"\ndependencies = [\n \"aws-c\",\n]\n\n\
         [[package]]\nname = \"aws-c\"\nversion = \"1.0.0\"\n",
    );
    assert_eq!(lock.closure("a"), ["aws-c".to_string(), "b".to_string()].into());
    assert_eq!((lock.versions("b"), lock.versions("c")), (2, 0));
}
