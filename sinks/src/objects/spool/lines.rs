//! A spool file of lines: records as they are in the object, so that the file, with an index behind it, is the pack.
//!
//! The header's payload is what the object's name ends in, filled up with zeros to 16 bytes. A block's payload is what it holds
//! (one byte), how many records (`u32`, little endian), and their lines.

use shardflow::sink::Refused;
use shardflow::{Error, Result};

use super::{BLOCK, Blocks, Collect, Header, KEPT, Write, check_length, payload, seal_block};
use crate::encode::Append;
use crate::format::{Format, Ndjson};
use crate::frame;

pub(super) const MAGIC: [u8; 4] = *b"SFsl";
const VERSION: u16 = 1;

/// The longest ending.
const ENDING: usize = 16;

/// Bytes of the header: magic, version, ending, checksum.
pub(super) const HEADER: usize = ENDING + 10;

/// Bytes of a payload before its lines.
const HEAD: usize = 5;

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Kind {
    /// Records as they were to be written.
    Taken = 0,
    /// Records that could not be written, as the lines that show them.
    Refused = 1,
}

/// Collects records as lines.
pub(in super::super) struct Lines<T> {
    append: Append<T>,
    ending: [u8; ENDING],
    taken: Block,
    refused: Block,
}

/// A block that grows.
#[derive(Debug)]
struct Block {
    bytes: Vec<u8>,
    records: u32,
}

impl<T> Lines<T> {
    /// For objects whose names end so. `None`: an ending that does not fit.
    pub(in super::super) fn new(append: Append<T>, ending: &str) -> Option<Self> {
        let mut padded = [0; ENDING];
        padded.get_mut(..ending.len())?.copy_from_slice(ending.as_bytes());
        Some(Self { append, ending: padded, taken: Block::new(), refused: Block::new() })
    }
}

impl Block {
    fn new() -> Self {
        Self { bytes: vec![0; BLOCK + HEAD], records: 0 }
    }

    fn add(&mut self, append: impl FnOnce(&mut Vec<u8>) -> Result<(), String>) -> Result<usize, String> {
        let start = self.bytes.len();
        let added = append(&mut self.bytes).and_then(|()| {
            let length = self.bytes.len().saturating_sub(start);
            check_length(length).map(|_| length)
        });
        match &added {
            Ok(_) => self.records = self.records.saturating_add(1),
            Err(_) => self.bytes.truncate(start),
        }
        added
    }

    fn len(&self) -> usize {
        if self.records == 0 { 0 } else { self.bytes.len() }
    }

    fn finish(&mut self, kind: Kind, write: &mut Write<'_>) -> Result<()> {
        if self.records == 0 {
            return Ok(());
        }
        let head = [kind as u8].into_iter().chain(self.records.to_le_bytes());
        self.bytes.iter_mut().skip(BLOCK).zip(head).for_each(|(place, byte)| *place = byte);
        seal_block(&mut self.bytes);
        write(&self.bytes)?;
        self.bytes.truncate(BLOCK + HEAD);
        self.bytes.shrink_to(KEPT);
        self.records = 0;
        Ok(())
    }
}

impl<T> Collect<T> for Lines<T> {
    fn push(&mut self, record: &T) -> Result<usize, String> {
        let append = self.append;
        self.taken.add(|bytes| append(record, bytes))
    }

    fn push_refused(&mut self, refused: &Refused) -> Result<usize, String> {
        self.refused.add(|bytes| Ndjson.write(refused, bytes).map_err(|error| error.to_string()))
    }

    fn len(&self) -> usize {
        self.taken.len().saturating_add(self.refused.len())
    }

    fn finish(&mut self, is_new: bool, write: &mut Write<'_>) -> Result<()> {
        if is_new && Collect::<T>::len(self) > 0 {
            write(&frame::seal(MAGIC, VERSION, &self.ending))?;
        }
        self.taken.finish(Kind::Taken, write)?;
        self.refused.finish(Kind::Refused, write)
    }
}

/// Reads a header.
pub(super) fn header(bytes: &[u8]) -> Result<Header> {
    let ending: [u8; ENDING] = payload(MAGIC, VERSION, bytes)?;
    let ending = ending.split(|byte| *byte == 0).next().unwrap_or_default();
    let ending = std::str::from_utf8(ending);
    let ending = ending.map_err(|cause| Error::state("its ending is no text").caused_by(cause))?;
    Ok(Header::Lines { ending: ending.to_owned() })
}

/// The lines of a block.
pub(in super::super) struct Held<'a> {
    pub(in super::super) kind: Kind,
    pub(in super::super) records: u32,
    /// Where its lines begin in the file.
    pub(in super::super) start: u64,
    pub(in super::super) lines: &'a [u8],
}

/// The next block of a file of lines; `None` at the end of what is committed.
///
/// # Errors
/// It cannot be read, or is damaged.
pub(in super::super) fn next(blocks: &mut Blocks) -> Result<Option<Held<'_>>> {
    if !blocks.next()? {
        return Ok(None);
    }
    let head = blocks.block.split_first_chunk::<HEAD>();
    let kind = match head {
        Some(([0, ..], _)) => Some(Kind::Taken),
        Some(([1, ..], _)) => Some(Kind::Refused),
        _ => None,
    };
    let (Some(kind), Some(([_, a, b, c, d], lines))) = (kind, head) else {
        return Err(blocks.damaged("what a block holds"));
    };
    let (records, start) = (u32::from_le_bytes([*a, *b, *c, *d]), blocks.start.saturating_add(HEAD as u64));
    Ok(Some(Held { kind, records, start, lines }))
}

#[cfg(test)]
mod tests {
    use super::super::append_to;
    use super::*;
    use crate::folder::Folder;
    use proptest::prelude::*;

    const NAME: &str = "spool";

    fn lines() -> Lines<String> {
        let append: Append<String> = |text, out| {
            if text == "refused" {
                out.extend_from_slice(b"half");
                return Err("it is refused".to_owned());
            }
            out.extend_from_slice(text.as_bytes());
            out.push(b'\n');
            Ok(())
        };
        Lines::new(append, "ndjson").unwrap()
    }

    fn refused(text: &str) -> Refused {
        Refused { error: "why".to_owned(), record: text.to_owned() }
    }

    /// Blocks of records; those that begin with "!" are refused.
    fn written(blocks: &[Vec<String>]) -> Vec<u8> {
        let (mut collected, mut bytes) = (lines(), Vec::new());
        for records in blocks {
            for record in records {
                match record.strip_prefix('!') {
                    Some(text) => collected.push_refused(&refused(text)).unwrap(),
                    None => collected.push(record).unwrap(),
                };
            }
            let is_new = bytes.is_empty();
            collected.finish(is_new, &mut append_to(&mut bytes)).unwrap();
        }
        bytes
    }

    /// What taken and refused lines were read, by where they are in the file, and how many records.
    fn read(bytes: &[u8], length: usize) -> Result<([Vec<u8>; 2], u32)> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), bytes).unwrap();
        let (header, mut blocks) =
            super::super::open(&Folder::at(dir.path().to_owned()), NAME.to_owned(), length as u64)?;
        assert_eq!(header, Header::Lines { ending: "ndjson".to_owned() });
        let (mut all, mut records) = ([Vec::new(), Vec::new()], 0);
        while let Some(held) = next(&mut blocks)? {
            let from = held.start as usize;
            assert_eq!(&bytes[from..from + held.lines.len()], held.lines);
            all[held.kind as usize].extend_from_slice(held.lines);
            records += held.records;
        }
        Ok((all, records))
    }

    proptest! {
        #[test]
        fn lines_come_back_in_their_order(blocks in prop::collection::vec(prop::collection::vec("!?[a-z]{0,9}", 1..5), 1..5)) {
            let bytes = written(&blocks);
            let all = blocks.concat();
            let (bad, good): (Vec<_>, Vec<_>) = all.iter().partition(|text| text.starts_with('!'));
            let good: String = good.iter().map(|text| format!("{text}\n")).collect();
            let shown = |text: &&String| format!("{}\n", serde_json::to_string(&refused(&text[1..])).unwrap());
            let bad: String = bad.iter().map(shown).collect();
            let (found, records) = read(&bytes, bytes.len()).unwrap();
            prop_assert_eq!(found.map(|lines| String::from_utf8(lines).unwrap()), [good, bad]);
            prop_assert_eq!(records as usize, all.len());
        }
    }

    #[test]
    fn what_is_not_committed_is_not_read() {
        let one = written(&[vec!["a".to_owned()]]);
        let both = written(&[vec!["a".to_owned()], vec!["b".to_owned()]]);
        assert_eq!(read(&both, one.len()).unwrap().0[0], b"a\n");
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_an_error() {
        let bytes = written(&[vec!["first".to_owned(), "!second".to_owned()], vec!["third".to_owned()]]);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x20;
            assert!(read(&damaged, bytes.len()).is_err(), "byte {at}");
            assert!(read(&bytes[..at], bytes.len()).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_record_without_a_line_leaves_nothing_behind() {
        let mut collected = lines();
        assert_eq!(collected.push(&"refused".to_owned()).unwrap_err(), "it is refused");
        assert_eq!(collected.len(), 0);
        collected.finish(true, &mut |_| panic!("there is nothing to write")).unwrap();
    }

    /// Such files lie beside users' states: they stay readable, and are still what we write.
    #[test]
    fn version_1_stays_readable() {
        let stored = include_bytes!("../../../tests/fixtures/object-spool-lines-v1.bin");
        assert_eq!(written(&[vec!["first".to_owned(), "!second".to_owned()], vec!["third".to_owned()]]), stored);
        let (found, records) = read(stored, stored.len()).unwrap();
        assert_eq!((found[0].as_slice(), records), (&b"first\nthird\n"[..], 3));
    }

    #[test]
    fn a_long_ending_is_not_for_lines() {
        let append: Append<String> = |_, _| Ok(());
        assert!(Lines::new(append, "an-ending-of-more").is_none());
        assert!(Lines::new(append, "of-sixteen-bytes").is_some());
    }
}
