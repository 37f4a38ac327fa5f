//! The errors that a user meets at compile time are part of the product: short, and saying what to do.
//!
//! trybuild checks each `compile_fail/*.rs` in a workspace of its own, in the profile `dev` and in `target/tests`. There every
//! dependency is checked once more (two CPU-minutes, the first time), which is bearable; RocksDB's C++ would be *compiled* once
//! more, by its build script, which is not. Nothing is ever linked there, so the build script is told that the library
//! exists already. It reads that from the environment, and only a new process can be given another environment.
//!
//! After a change of a message, `TRYBUILD=overwrite` in the environment of this test writes the `.stderr` files anew.

use std::process::Command;

#[test]
fn each_mistake_is_reported_in_our_words() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--ignored", "--nocapture", "with_a_rocksdb_that_is_not_compiled_again"]);
    // Any folder does: `cargo check` looks for no library.
    command.env("ROCKSDB_LIB_DIR", std::env::temp_dir()).env_remove("ROCKSDB_COMPILE").env_remove("ROCKSDB_STATIC");
    // Nobody runs or debugs what is checked here, nor changes it.
    command.env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "0");
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains("1 passed"), "{}\n{out}\n{err}", output.status);
}

#[test]
#[ignore = "run by each_mistake_is_reported_in_our_words"]
fn with_a_rocksdb_that_is_not_compiled_again() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
