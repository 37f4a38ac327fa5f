//! Sinks for a search index, a webhook and the program's own threads.

mod delivery;
#[path = "../../sinks/src/files/mod.rs"]
pub mod files;
#[path = "../../sinks/src/format.rs"]
mod format;
#[path = "../../sinks/src/frame.rs"]
mod frame;
mod http;

pub mod channel;
pub mod opensearch;
pub mod webhook;

pub use channel::{ChannelSink, Receiver, channel};
pub use files::{FileSink, files};
pub use format::{Format, Lines, Ndjson};
pub use opensearch::{OpenSearch, opensearch};
pub use webhook::{Webhook, webhook};
