//! Records that are one number each: eight bytes, so that what reads them measures the engine and not a decoder.

use shardflow::Decoder;
use shardflow::source::{Position, RawBatch};

/// Bytes of a record.
const WIDTH: usize = size_of::<u64>();

/// The records of a split from index `first` on, which stand for `numbers`.
pub(crate) fn batch(first: u64, numbers: impl Iterator<Item = u64>) -> RawBatch {
    let count = numbers.size_hint().0;
    let mut buffer = Vec::with_capacity(count * WIDTH);
    let mut spans = Vec::with_capacity(count);
    for number in numbers {
        let start = buffer.len() as u32;
        buffer.extend_from_slice(&number.to_le_bytes());
        spans.push((start, buffer.len() as u32));
    }
    let (base, after) = (first.saturating_mul(WIDTH as u64), first.saturating_add(spans.len() as u64));
    RawBatch::from_offsets(buffer, spans, base, Position::new(after.to_string()))
}

/// Reads the records of [`batch`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct NumberDecoder;

impl Decoder for NumberDecoder {
    type Output = u64;

    fn decode(&self, raw: &[u8]) -> Result<u64, String> {
        raw.try_into().map(u64::from_le_bytes).map_err(|_| format!("{} bytes are no number", raw.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_holds_its_numbers_and_the_position_after_them() {
        let batch = batch(3, [30, 40].into_iter());
        let numbers: Vec<_> = batch.records().map(|raw| NumberDecoder.decode(raw)).collect();
        assert_eq!(numbers, [Ok(30), Ok(40)]);
        assert_eq!((batch.after().as_str(), batch.position(1).as_str()), ("5", "32"));
    }

    #[test]
    fn other_lengths_are_no_numbers() {
        assert_eq!(NumberDecoder.decode(b"123").unwrap_err(), "3 bytes are no number");
    }
}
