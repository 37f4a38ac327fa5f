//! Every file that waits in the folder says in its name what it is and how far it got, so that a start can settle the folder
//! without other notes.
//!
//! | name | what it is |
//! |---|---|
//! | `i00002-w01-s000004.staged` | a spool file: incarnation, worker, serial; nothing of it is known to be committed |
//! | `i00002-w01-s000004-f0000000120-e0000000123-l4096.held` | a spool file whose first 4096 bytes are committed: epochs 120 to 123 |
//! | `i00002-w01-s000004-f0000000120-e0000000123-l4096.sealed` | a committed spool file that is full: to be packed |
//! | `i00002-w01-s000004-f0000000120-e0000000123-l4096.packing` | its pack, while it is written |
//! | `i00002-w01-s000004-f0000000120-e0000000123-l4096.pack` | its pack, whole: to be uploaded |
//! | `i00002-e0000000123.mark` | everything up to this epoch was held or sealed |
//! | `lock` | locked while a process commits here |

use serde::{Deserialize, Serialize};
use shardflow::Epoch;

/// The file that is locked while a process commits.
pub(super) const LOCK: &str = "lock";

/// A spool file: which start, which worker, which of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct FileId {
    pub(super) incarnation: u64,
    pub(super) worker: u32,
    pub(super) serial: u64,
}

/// How much of a spool file is committed: its first and last epoch, and its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Extent {
    pub(super) first: Epoch,
    pub(super) last: Epoch,
    pub(super) length: u64,
}

/// What a file in the folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    Staged(FileId),
    Held(FileId, Extent),
    Sealed(FileId, Extent),
    Packing(FileId, Extent),
    Pack(FileId, Extent),
    Mark { incarnation: u64, epoch: Epoch },
}

impl Named {
    pub(super) fn render(self) -> String {
        match self {
            Self::Staged(id) => format!("{}.staged", spool(id)),
            Self::Held(id, extent) => format!("{}-{}.held", spool(id), committed(extent)),
            Self::Sealed(id, extent) => format!("{}-{}.sealed", spool(id), committed(extent)),
            Self::Packing(id, extent) => format!("{}-{}.packing", spool(id), committed(extent)),
            Self::Pack(id, extent) => format!("{}-{}.pack", spool(id), committed(extent)),
            Self::Mark { incarnation, epoch } => format!("i{incarnation:05}-e{:010}.mark", epoch.number()),
        }
    }

    /// What `name` is; `None` for every file that is not exactly as we would name it.
    pub(super) fn parse(name: &str) -> Option<Self> {
        read(name).filter(|named| named.render() == name)
    }
}

fn spool(FileId { incarnation, worker, serial }: FileId) -> String {
    format!("i{incarnation:05}-w{worker:02}-s{serial:06}")
}

fn committed(Extent { first, last, length }: Extent) -> String {
    format!("f{:010}-e{:010}-l{length}", first.number(), last.number())
}

fn read(name: &str) -> Option<Named> {
    let (numbers, ending) = name.rsplit_once('.')?;
    match ending {
        "staged" => {
            let [incarnation, worker, serial] = fields(numbers, ["i", "w", "s"])?;
            Some(Named::Staged(FileId { incarnation, worker: worker.try_into().ok()?, serial }))
        }
        "mark" => {
            let [incarnation, epoch] = fields(numbers, ["i", "e"])?;
            Some(Named::Mark { incarnation, epoch: Epoch::new(epoch) })
        }
        _ => {
            let [incarnation, worker, serial, first, last, length] = fields(numbers, ["i", "w", "s", "f", "e", "l"])?;
            let id = FileId { incarnation, worker: worker.try_into().ok()?, serial };
            let extent = Extent { first: Epoch::new(first), last: Epoch::new(last), length };
            match ending {
                "held" => Some(Named::Held(id, extent)),
                "sealed" => Some(Named::Sealed(id, extent)),
                "packing" => Some(Named::Packing(id, extent)),
                "pack" => Some(Named::Pack(id, extent)),
                _ => None,
            }
        }
    }
}

/// The numbers of `i00002-e0000000123`, each behind its tag and nothing else.
pub(super) fn fields<const N: usize>(text: &str, tags: [&str; N]) -> Option<[u64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split('-');
    for (number, tag) in numbers.iter_mut().zip(tags) {
        let digits = parts.next()?.strip_prefix(tag)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = digits.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_read_as_documented() {
        let id = FileId { incarnation: 2, worker: 1, serial: 4 };
        let extent = Extent { first: Epoch::new(120), last: Epoch::new(123), length: 4096 };
        assert_eq!(Named::Staged(id).render(), "i00002-w01-s000004.staged");
        assert_eq!(Named::Pack(id, extent).render(), "i00002-w01-s000004-f0000000120-e0000000123-l4096.pack");
        assert_eq!(Named::Mark { incarnation: 2, epoch: Epoch::new(123) }.render(), "i00002-e0000000123.mark");
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in [
            "",
            "lock",
            "i2-w01-s000004.staged",
            "i00002-w01.staged",
            "i00002-w01-s000004.pack",
            "x.pack",
            ".mark",
            "notes",
        ] {
            assert_eq!(Named::parse(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_is_understood(
            incarnation: u64, worker: u32, serial: u64, first: u64, last: u64, length: u64,
        ) {
            let id = FileId { incarnation, worker, serial };
            let extent = Extent { first: Epoch::new(first), last: Epoch::new(last), length };
            for named in [
                Named::Staged(id),
                Named::Held(id, extent),
                Named::Sealed(id, extent),
                Named::Packing(id, extent),
                Named::Pack(id, extent),
                Named::Mark { incarnation, epoch: extent.last },
            ] {
                let name = named.render();
                prop_assert!(name.len() < 255, "{}", name);
                prop_assert_eq!(Named::parse(&name), Some(named));
            }
        }

        #[test]
        fn no_name_makes_the_parser_panic(name in ".*") {
            let _ = Named::parse(&name);
            let _ = Named::parse(&format!("i00001-{name}.held"));
        }
    }
}
