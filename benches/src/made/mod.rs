//! Records made in memory: what the engine costs where nothing is read and nothing is parsed.
//!
//! A record is a number. [`records`] makes of number `n` the same record wherever it is asked, in a few nanoseconds: the
//! engine's [`source`] delivers the numbers as 8 bytes each, the limits count them up. Results go to [`sink`], which adds up
//! their hashes, so that programs can be compared and nothing is written.
//!
//! # What is timed
//! Each program runs as a process of its own and takes its own time ([`clock`]): from the first record that is read to the
//! last result that is committed, which for the limits is the last one that is added up. Tables of names and of skewed keys
//! are made before that. Processor time is that of the whole process in between; peak memory that of its whole life.

pub(crate) mod clock;
pub(crate) mod flows;
pub(crate) mod records;
pub(crate) mod run;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod zipf;
