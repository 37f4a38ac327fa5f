//! What the mirror knows of one node, and what it may therefore do next. Pure.
//!
//! The mirror writes by compare-and-set on the node's version, so that it can never undo what it has not seen. When a
//! version is not the expected one, somebody else has written, or an earlier attempt of the mirror's own whose answer was
//! lost did arrive. The two are told apart by the bytes that stand there.

use super::ForeignWrites;
use super::nodes::Malformed;

/// How many attempts without an answer are remembered. Each belongs to one lost connection; the node moves on with the
/// first that arrived.
const ATTEMPTS: usize = 16;

/// A node with what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) data: Vec<u8>,
    pub(super) version: i32,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
enum Known {
    /// It was not looked at yet.
    #[default]
    Nothing,
    Missing,
    Stands(Standing),
    /// Somebody else's: not touched until the next start.
    LeftAlone,
}

/// What to do next about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// It is as it should be, or is none of ours.
    Nothing,
    /// It is not known what stands there.
    Look,
    /// These bytes, over what has this version; `None`: over nothing.
    Write(Vec<u8>, Option<i32>),
}

/// Who has changed a node since it was last seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// Nobody else.
    Nobody,
    /// Somebody else, who may have deleted it.
    Foreign,
}

/// One node.
#[derive(Debug, Default)]
pub(super) struct Memory {
    known: Known,
    /// What was tried to be written over what is known, without an answer.
    attempted: Vec<Vec<u8>>,
}

impl Memory {
    /// The next step, where `towards` gives what to write over what stands there.
    pub(super) fn step(
        &self,
        towards: impl FnOnce(Option<&[u8]>) -> Result<Option<Vec<u8>>, Malformed>,
    ) -> Result<Step, Malformed> {
        Ok(match &self.known {
            Known::Nothing => Step::Look,
            Known::LeftAlone => Step::Nothing,
            Known::Missing => towards(None)?.map_or(Step::Nothing, |data| Step::Write(data, None)),
            Known::Stands(standing) => {
                towards(Some(&standing.data))?.map_or(Step::Nothing, |data| Step::Write(data, Some(standing.version)))
            }
        })
    }

    /// `data` is about to be written.
    pub(super) fn attempts(&mut self, data: &[u8]) {
        if !self.attempted.iter().any(|attempt| attempt == data) {
            let surplus = (self.attempted.len() + 1).saturating_sub(ATTEMPTS);
            self.attempted.drain(..surplus);
            self.attempted.push(data.to_vec());
        }
    }

    /// `data` was written and has this version.
    pub(super) fn wrote(&mut self, data: Vec<u8>, version: i32) {
        self.now(Known::Stands(Standing { data, version }));
    }

    /// A look at the node showed this.
    pub(super) fn saw(&mut self, found: Option<Standing>, foreign_writes: ForeignWrites) -> Writer {
        let unchanged = match (&self.known, &found) {
            (Known::Stands(known), Some(found)) => known == found,
            (Known::Missing, None) => true,
            (Known::LeftAlone, _) => return Writer::Nobody,
            _ => false,
        };
        if unchanged {
            return Writer::Nobody;
        }
        let own = found.as_ref().is_some_and(|found| self.attempted.contains(&found.data));
        let writer = if self.known == Known::Nothing || own { Writer::Nobody } else { Writer::Foreign };
        self.now(match (writer, foreign_writes, found) {
            (Writer::Foreign, ForeignWrites::StandBack, _) => Known::LeftAlone,
            (_, _, None) => Known::Missing,
            (_, _, Some(standing)) => Known::Stands(standing),
        });
        writer
    }

    /// The node is not touched any more.
    pub(super) fn leave_alone(&mut self) {
        self.now(Known::LeftAlone);
    }

    /// Whether it is left to somebody else.
    pub(super) fn is_left_alone(&self) -> bool {
        self.known == Known::LeftAlone
    }

    /// The node has moved on, and attempts upon what stood there before can no longer arrive.
    fn now(&mut self, known: Known) {
        self.known = known;
        self.attempted.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(data: &str, version: i32) -> Standing {
        Standing { data: data.as_bytes().to_vec(), version }
    }

    fn step(memory: &Memory, wanted: &str) -> Step {
        let towards = |stands: Option<&[u8]>| Ok((stands != Some(wanted.as_bytes())).then(|| wanted.into()));
        memory.step(towards).unwrap()
    }

    fn known(data: &str, version: i32) -> Memory {
        let mut memory = Memory::default();
        assert_eq!(memory.saw(Some(standing(data, version)), ForeignWrites::StandBack), Writer::Nobody);
        memory
    }

    #[test]
    fn a_node_is_looked_at_then_created_or_replaced_and_then_left_in_peace() {
        let mut memory = Memory::default();
        assert_eq!(step(&memory, "1"), Step::Look);
        assert_eq!(memory.saw(None, ForeignWrites::StandBack), Writer::Nobody);
        assert_eq!(step(&memory, "1"), Step::Write(b"1".to_vec(), None));
        memory.wrote(b"1".to_vec(), 0);
        assert_eq!(step(&memory, "1"), Step::Nothing);
        assert_eq!(step(&memory, "2"), Step::Write(b"2".to_vec(), Some(0)));
    }

    #[test]
    fn a_foreign_write_is_stood_back_from_or_taken_as_the_new_ground() {
        let mut memory = known("1", 4);
        memory.attempts(b"2");
        assert_eq!(memory.saw(Some(standing("x", 5)), ForeignWrites::StandBack), Writer::Foreign);
        assert!(memory.is_left_alone());
        assert_eq!(step(&memory, "2"), Step::Nothing);

        let mut memory = known("1", 4);
        memory.attempts(b"2");
        assert_eq!(memory.saw(Some(standing("x", 5)), ForeignWrites::Adopt), Writer::Foreign);
        assert_eq!(step(&memory, "2"), Step::Write(b"2".to_vec(), Some(5)));
    }

    #[test]
    fn a_deletion_is_a_foreign_write() {
        let mut memory = known("1", 4);
        assert_eq!(memory.saw(None, ForeignWrites::Adopt), Writer::Foreign);
        assert_eq!(step(&memory, "2"), Step::Write(b"2".to_vec(), None));
        let mut memory = known("1", 4);
        assert_eq!(memory.saw(None, ForeignWrites::StandBack), Writer::Foreign);
        assert_eq!(step(&memory, "2"), Step::Nothing);
    }

    #[test]
    fn an_own_write_whose_answer_was_lost_is_no_foreign_one() {
        let mut memory = known("1", 4);
        memory.attempts(b"2");
        memory.attempts(b"3");
        assert_eq!(memory.saw(Some(standing("2", 5)), ForeignWrites::StandBack), Writer::Nobody);
        assert_eq!(step(&memory, "3"), Step::Write(b"3".to_vec(), Some(5)));
        // What was tried upon version 4 can no longer arrive: now the same bytes come from somebody else.
        assert_eq!(memory.saw(Some(standing("3", 6)), ForeignWrites::StandBack), Writer::Foreign);
    }

    #[test]
    fn a_look_that_shows_nothing_new_forgets_no_attempt() {
        let mut memory = known("1", 4);
        memory.attempts(b"2");
        assert_eq!(memory.saw(Some(standing("1", 4)), ForeignWrites::StandBack), Writer::Nobody);
        assert_eq!(memory.saw(Some(standing("2", 5)), ForeignWrites::StandBack), Writer::Nobody);
    }

    #[test]
    fn attempts_are_bounded_and_the_latest_are_kept() {
        let mut memory = known("x", 4);
        for attempt in 0..100u32 {
            memory.attempts(attempt.to_string().as_bytes());
            memory.attempts(attempt.to_string().as_bytes());
        }
        assert_eq!(memory.attempted.len(), ATTEMPTS);
        assert_eq!(memory.saw(Some(standing("99", 5)), ForeignWrites::StandBack), Writer::Nobody);
    }

    #[test]
    fn what_cannot_be_understood_is_passed_on() {
        let memory = known("?", 1);
        let malformed = super::super::nodes::read_state(b"?").unwrap_err();
        assert!(memory.step(|_| Err(malformed.clone())).is_err());
    }
}
