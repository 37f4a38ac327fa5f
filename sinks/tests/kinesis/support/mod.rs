//! Streams that are written to, and what is found in them.

pub(crate) mod large;
pub(crate) mod streams;
