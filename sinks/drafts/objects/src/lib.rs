//! Where results go.

mod format;
mod frame;
pub mod objects;

pub use format::{Format, Lines, Ndjson};
pub use objects::{FileEncoder, FileFormat, ObjectSink, objects, objects_in};
