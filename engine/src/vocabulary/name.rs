//! Names and small numbers that must not be taken for one another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text.
            #[must_use]
            pub fn new(text: impl AsRef<str>) -> Self {
                Self(Arc::from(text.as_ref()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }
    };
}

name! {
    /// The name of a source, a stateful step or a sink: the address of its state, so it must be unique in a job and
    /// must not change between runs.
    StepName
}

impl StepName {
    /// The name as part of a file's or folder's: letters, digits, `_` and `-`, at most 48 of them. A name that had to change
    /// carries its checksum, so that two names never become one.
    #[must_use]
    pub fn as_file_name(&self) -> String {
        let (name, is_tame) = (self.as_str(), |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        if !name.is_empty() && name.len() <= 48 && name.chars().all(is_tame) {
            return name.to_owned();
        }
        let kept: String = name.chars().take(38).map(|c| if is_tame(c) { c } else { '_' }).collect();
        format!("{kept}~{:08x}", crc32fast::hash(name.as_bytes()))
    }
}

name! {
    /// What a source calls one of its splits: a path, a shard id. Unique within the source and stable across runs.
    SplitId
}

name! {
    /// Which input a source reads, as [`Source::identity`](crate::source::Source::identity) or, where opening it tells more,
    /// [`Enumerator::input`](crate::source::Enumerator::input) names it: a stream's ARN. It tells apart two inputs whose splits
    /// have the same names.
    SourceId
}

/// A slice of the key space: the unit in which keyed state is stored and moved between workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KeyGroup(u16);

impl KeyGroup {
    /// The key group of this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

impl fmt::Display for KeyGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many times the job has been started, this time included. Fencing token: it only grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Incarnation(u64);

impl Incarnation {
    /// The incarnation of this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number. The first start is 1.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
