//! No secret comes out anywhere: not in `Debug`, errors, rejected outputs, the state folder, nor in what any crate logs; not even
//! where a service says back all that it was sent.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a test may stop at what must not happen"
)]

mod amazon;
mod amazon_says_back;
mod state;

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use shardflow_stand_ins::log::Log;
use tokio::runtime::Runtime;

/// Everything that this process logs, at any level.
static LOG: LazyLock<Log> = LazyLock::new(Log::keep);

/// What is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Doc {
    id: String,
}

fn doc(n: u64) -> Doc {
    Doc { id: format!("doc-{n}") }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Fails where one of these is in the text.
fn assert_none_of(secrets: &[&str], text: &str) {
    for secret in secrets {
        let at = text.find(secret);
        let around = at.map(|at| text.get(at.saturating_sub(200)..at + 100).unwrap_or("(between characters)"));
        assert!(at.is_none(), "{secret} shows: …{around:?}…");
    }
}

/// Fails where one of these was logged. The AWS SDK logs at `TRACE` what a service answers, whole, and whose key it signs with: that
/// is said in the documentation, and left out here.
fn assert_none_logged(secrets: &[&str]) {
    let text = LOG.text();
    let theirs = |line: &&str| line.starts_with("aws_smithy_runtime") && line.contains(" TRACE");
    let lines: Vec<&str> = text.lines().filter(|line| !theirs(line)).collect();
    assert_none_of(secrets, &lines.join("\n"));
}
