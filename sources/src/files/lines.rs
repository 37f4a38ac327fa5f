//! Cuts content into lines: bytes enter in chunks of any size, batches of whole lines leave. No I/O.
//!
//! The same content gives the same lines whatever the chunks are; only the borders of the batches differ.

use std::mem;

use memchr::{memchr, memchr_iter};
use shardflow::source::{Position, RawBatch};

/// How much of a line that is too long is kept, in bytes, to show what it was.
const HEAD_BYTES: usize = 64 << 10;

/// UTF-8's byte order mark. Some programs begin text with it; it is no part of the first line.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The lines of one split, in order.
pub(super) struct Lines {
    /// Content that has not left yet. Its first byte stands at `base`.
    pending: Vec<u8>,
    /// So many bytes of `pending` are known to hold no line end, so a long line is not searched again with each chunk.
    scanned: usize,
    base: u64,
    /// Set inside a line that is too long: its first bytes and where it starts.
    overlong: Option<(Vec<u8>, u64)>,
    max_record_bytes: usize,
    /// How many lines the last batch had: the next will have about as many.
    typical: usize,
    /// Whether the content may still begin with a byte order mark.
    at_start: bool,
}

impl Lines {
    /// The lines from byte `base` on, which must be the first of a line.
    pub(super) fn new(base: u64, max_record_bytes: usize) -> Self {
        Self {
            pending: Vec::new(),
            scanned: 0,
            base,
            overlong: None,
            max_record_bytes,
            typical: 0,
            at_start: base == 0,
        }
    }

    /// Where the next bytes of the content are to be appended.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    /// The whole lines so far, if there is one; with `ended`, also a last line without a line end.
    pub(super) fn cut(&mut self, ended: bool) -> Option<RawBatch> {
        let was_at_start = self.at_start;
        if self.at_start && !self.skip_mark(ended) {
            return None;
        }
        if self.overlong.is_some() {
            return self.skip_overlong(ended);
        }
        let mut found = Found { spans: Vec::with_capacity(self.typical + self.typical / 8), faults: Vec::new() };
        let mut start = 0;
        for at in memchr_iter(b'\n', self.pending.get(self.scanned..).unwrap_or_default()) {
            let end = self.scanned + at;
            found.push(&self.pending, start, end, self.max_record_bytes);
            start = end + 1;
        }
        if ended && start < self.pending.len() {
            found.push(&self.pending, start, self.pending.len(), self.max_record_bytes);
            start = self.pending.len();
        }
        if start == 0 && ended && self.base > 0 && self.pending.is_empty() && was_at_start {
            // Nothing but the mark: a batch without lines still moves the position behind it.
            return Some(self.finish(found, 0));
        }
        if start == 0 {
            self.keep_unfinished();
            return None;
        }
        Some(self.finish(found, start))
    }

    /// Skips a byte order mark at the content's first byte. `false`: it takes more content to know whether it is one.
    fn skip_mark(&mut self, ended: bool) -> bool {
        if self.pending.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(&self.pending) && !ended {
            return false;
        }
        self.at_start = false;
        if self.pending.starts_with(BYTE_ORDER_MARK) {
            self.pending.drain(..BYTE_ORDER_MARK.len());
            self.base = BYTE_ORDER_MARK.len() as u64;
        }
        true
    }

    /// Makes the batch of `pending[..end]` and keeps what follows.
    fn finish(&mut self, found: Found, end: usize) -> RawBatch {
        let rest = self.pending.get(end..).unwrap_or_default().to_vec();
        self.scanned = rest.len();
        let mut buffer = mem::replace(&mut self.pending, rest);
        buffer.truncate(end);
        self.typical = found.spans.len();
        let base = self.base;
        self.base = base.saturating_add(end as u64);
        let mut batch = RawBatch::from_offsets(buffer, found.spans, base, Position::new(self.base.to_string()));
        for index in found.faults {
            batch.mark_fault(index, too_long(self.max_record_bytes));
        }
        batch
    }

    /// There is no line end yet: waits for more, or stops keeping a line that is too long already.
    fn keep_unfinished(&mut self) {
        self.scanned = self.pending.len();
        // One byte more than the longest record may be a `\r` that is not part of it.
        if self.pending.len() > self.max_record_bytes.saturating_add(1) {
            let mut head = mem::take(&mut self.pending);
            let start = self.base;
            self.base = start.saturating_add(head.len() as u64);
            self.scanned = 0;
            head.truncate(HEAD_BYTES.min(self.max_record_bytes));
            head.shrink_to_fit();
            self.overlong = Some((head, start));
        }
    }

    /// Looks for the end of a line that is too long; when it is there, its first bytes are a batch of their own.
    fn skip_overlong(&mut self, ended: bool) -> Option<RawBatch> {
        let end = memchr(b'\n', &self.pending).map(|at| at + 1);
        let skipped = end.unwrap_or(self.pending.len());
        self.base = self.base.saturating_add(skipped as u64);
        self.pending.drain(..skipped);
        self.scanned = 0;
        if end.is_none() && !ended {
            return None;
        }
        let (head, start) = self.overlong.take()?;
        let spans = vec![(0, head.len() as u32)];
        let mut batch = RawBatch::from_offsets(head, spans, start, Position::new(self.base.to_string()));
        batch.mark_fault(0, too_long(self.max_record_bytes));
        Some(batch)
    }

    /// Whether everything that was appended has left.
    pub(super) fn is_drained(&self) -> bool {
        self.pending.is_empty() && self.overlong.is_none()
    }
}

/// The lines of one batch.
struct Found {
    spans: Vec<(u32, u32)>,
    /// Which of them are too long.
    faults: Vec<usize>,
}

impl Found {
    /// Takes the line `buffer[start..end]`, which lies below 4 GiB: a buffer is at most a record and a chunk long.
    #[inline]
    fn push(&mut self, buffer: &[u8], start: usize, end: usize, max_record_bytes: usize) {
        let mut end = end;
        if end > start && buffer.get(end - 1) == Some(&b'\r') {
            end -= 1;
        }
        if end == start {
            return;
        }
        if end - start > max_record_bytes {
            self.faults.push(self.spans.len());
            end = start + HEAD_BYTES.min(max_record_bytes);
        }
        self.spans.push((start as u32, end as u32));
    }
}

fn too_long(max_record_bytes: usize) -> String {
    format!("record is longer than {max_record_bytes} bytes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Line = (Vec<u8>, String, Option<String>);

    /// Feeds `content` from `base` on in chunks of the given sizes (repeated); gives the lines and the positions after
    /// each batch, with how many lines were out by then.
    fn lines(content: &[u8], base: usize, chunks: &[usize], max: usize) -> (Vec<Line>, Vec<(String, usize)>) {
        let mut lines = Lines::new(base as u64, max);
        let (mut out, mut afters) = (Vec::new(), Vec::new());
        let mut at = base;
        let mut sizes = chunks.iter().cycle();
        loop {
            let ended = at == content.len();
            if let Some(batch) = lines.cut(ended) {
                for index in 0..batch.len() {
                    let fault = batch.fault(index).map(ToOwned::to_owned);
                    out.push((batch.record(index).to_vec(), batch.position(index), fault));
                }
                afters.push((batch.after().to_string(), out.len()));
            }
            if ended && lines.is_drained() {
                return (out, afters);
            }
            let next = (at + sizes.next().unwrap()).min(content.len());
            lines.buffer().extend_from_slice(&content[at..next]);
            at = next;
        }
    }

    fn texts(content: &[u8], max: usize) -> Vec<String> {
        lines(content, 0, &[3], max).0.iter().map(|line| String::from_utf8_lossy(&line.0).into_owned()).collect()
    }

    /// What the lines of `content` are, said in the plainest way.
    fn reference(content: &[u8], max: usize) -> Vec<Line> {
        let mut start = 0;
        let mut out = Vec::new();
        for part in content.split(|byte| *byte == b'\n') {
            let line = part.strip_suffix(b"\r").unwrap_or(part);
            let fault = (line.len() > max).then(|| format!("record is longer than {max} bytes"));
            let kept = if fault.is_some() { &line[..max.min(64 << 10)] } else { line };
            if !line.is_empty() {
                out.push((kept.to_vec(), start.to_string(), fault));
            }
            start += part.len() + 1;
        }
        out
    }

    #[test]
    fn line_ends_are_not_part_of_records_and_empty_lines_are_skipped() {
        assert_eq!(texts(b"a\r\n\n\r\nbc\nlast", 100), ["a", "bc", "last"]);
        assert_eq!(texts(b"a\rb\n", 100), ["a\rb"]);
        assert!(texts(b"", 100).is_empty());
        assert!(texts(b"\n\n\n", 100).is_empty());
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line_and_counts_in_positions() {
        for chunk in 1..8 {
            let (out, afters) = lines(b"\xef\xbb\xbfa\nb\n", 0, &[chunk], 100);
            let seen: Vec<_> = out.iter().map(|line| (line.0.as_slice(), line.1.as_str())).collect();
            assert_eq!(seen, [(&b"a"[..], "3"), (&b"b"[..], "5")], "in chunks of {chunk}");
            assert_eq!(afters.last().unwrap().0, "7");
        }
        assert_eq!(lines(b"\xef\xbb", 0, &[1], 100).0[0].0, b"\xef\xbb", "half a mark is content");
        assert_eq!(lines(b"x\n\xef\xbb\xbfa", 2, &[9], 100).0[0].0, b"\xef\xbb\xbfa", "only at the content's start");
        // As long as a record may be, and the mark before it.
        assert_eq!(lines(b"\xef\xbb\xbfabcd\n", 0, &[1], 4).0[0].2, None);
        let (none, afters) = lines(b"\xef\xbb\xbf", 0, &[2], 100);
        assert_eq!((none.len(), afters), (0, vec![("3".to_owned(), 0)]), "the position says that all of it was read");
    }

    #[test]
    fn a_line_above_the_maximum_loses_only_itself() {
        let mut content = b"first\n".to_vec();
        content.extend(vec![b'x'; 200_000]);
        content.extend(b"\nlast\n");
        let (out, afters) = lines(&content, 0, &[1 << 10], 100_000);
        assert_eq!(out.len(), 3);
        assert_eq!(out[1].0.len(), 64 << 10);
        assert_eq!(out[1].1, "6");
        assert_eq!(out[1].2.as_deref(), Some("record is longer than 100000 bytes"));
        assert_eq!(out[2], (b"last".to_vec(), "200007".to_owned(), None));
        assert_eq!(afters.last().unwrap().0, content.len().to_string());
    }

    #[test]
    fn a_line_of_exactly_the_maximum_is_whole_with_any_line_end() {
        for content in [&b"12345\nx"[..], b"12345\r\nx", b"12345"] {
            let (out, _) = lines(content, 0, &[1], 5);
            assert_eq!(out[0], (b"12345".to_vec(), "0".to_owned(), None));
        }
        assert!(lines(b"123456\nx", 0, &[1], 5).0[0].2.is_some());
    }

    proptest! {
        #[test]
        fn any_chunks_give_the_same_lines(
            content in proptest::collection::vec(prop_oneof![4 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'\r'), 1 => any::<u8>()], 0..300),
            chunks in proptest::collection::vec(1usize..40, 1..5),
            max in 1usize..30,
        ) {
            prop_assert_eq!(lines(&content, 0, &chunks, max).0, reference(&content, max));
        }

        #[test]
        fn going_on_after_any_batch_gives_the_lines_that_remain(
            content in proptest::collection::vec(prop_oneof![4 => Just(b'a'), 1 => Just(b'\n'), 1 => Just(b'\r')], 0..300),
            chunks in proptest::collection::vec(1usize..40, 1..5),
            max in 1usize..30,
        ) {
            let (all, afters) = lines(&content, 0, &chunks, max);
            for (after, out) in afters {
                let (rest, _) = lines(&content, after.parse().unwrap(), &[7], max);
                prop_assert_eq!(&rest, &all[out..]);
            }
        }
    }
}
