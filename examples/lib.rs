//! Example pipelines for shardflow, each with the means to check it: [`metering`] turns usage records into charges,
//! exactly once, and brings its own generator, reference and demo.

pub mod metering;

/// The README's programs compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
