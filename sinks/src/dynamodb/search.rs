//! Finds the records that the service refuses, which it does not name. Pure.
//!
//! A batch that is refused is halved until the refused records are alone. What is written twice on the way is the same twice.

use std::ops::Range;

use shardflow::Outcome;
use shardflow::sink::{EntryOutcome, Trouble};

/// What the service says to a part of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It is written, but for those at these places of the whole batch.
    Taken { but: Vec<usize> },
    /// One of it, at least, is refused for good, for this reason.
    Invalid(String),
    /// Nothing is known to be written.
    Failed(Trouble),
}

/// A batch on its way, part by part.
#[derive(Debug)]
pub(super) struct Search {
    /// Parts that are still to be sent, the next one last.
    parts: Vec<Range<usize>>,
    outcomes: Vec<EntryOutcome>,
}

/// A record that the service put off.
pub(super) fn put_off() -> Trouble {
    Trouble {
        may_pass: Some(shardflow::retry::Failed::Throttled),
        outcome: Outcome::Determinate,
        text: "the table is too busy: it left a part of the batch unprocessed".to_owned(),
    }
}

impl Search {
    /// A batch of so many records.
    pub(super) fn new(count: usize) -> Self {
        let parts = if count == 0 { Vec::new() } else { std::iter::once(0..count).collect() };
        Self { parts, outcomes: vec![EntryOutcome::Written; count] }
    }

    /// The part to send next; `None`: all have been sent.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        self.parts.pop()
    }

    /// What became of a part.
    pub(super) fn answered(&mut self, part: Range<usize>, answer: Answer) {
        match answer {
            Answer::Taken { but } => {
                for place in but {
                    self.set(place..place.saturating_add(1), EntryOutcome::Failed(put_off()));
                }
            }
            Answer::Invalid(why) if part.len() <= 1 => self.set(part, EntryOutcome::Refused(why)),
            Answer::Invalid(_) => {
                let middle = part.start.midpoint(part.end);
                self.parts.push(middle..part.end);
                self.parts.push(part.start..middle);
            }
            Answer::Failed(trouble) => {
                // What was not sent yet has not happened; it fails in the same way.
                let unsent = Trouble { outcome: Outcome::Determinate, ..trouble.clone() };
                self.set(part, EntryOutcome::Failed(trouble));
                for part in std::mem::take(&mut self.parts) {
                    self.set(part, EntryOutcome::Failed(unsent.clone()));
                }
            }
        }
    }

    /// What became of each record.
    pub(super) fn outcomes(self) -> Vec<EntryOutcome> {
        self.outcomes
    }

    fn set(&mut self, places: Range<usize>, outcome: EntryOutcome) {
        for slot in self.outcomes.get_mut(places).unwrap_or_default() {
            slot.clone_from(&outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn lost() -> Trouble {
        Trouble { may_pass: None, outcome: Outcome::Indeterminate, text: "lost".to_owned() }
    }

    proptest! {
        #[test]
        fn exactly_the_bad_ones_are_refused_and_all_others_are_written(count in 0usize..26, bad: BTreeSet<u8>) {
            let bad: BTreeSet<usize> = bad.into_iter().map(|place| usize::from(place) % 26).filter(|place| *place < count).collect();
            let (mut search, mut written, mut calls) = (Search::new(count), BTreeSet::new(), 0);
            while let Some(part) = search.next() {
                prop_assert!(!part.is_empty());
                calls += 1;
                let answer = if bad.range(part.clone()).next().is_some() { Answer::Invalid("bad".to_owned()) } else {
                    written.extend(part.clone());
                    Answer::Taken { but: Vec::new() }
                };
                search.answered(part, answer);
            }
            let outcomes = search.outcomes();
            prop_assert_eq!(outcomes.len(), count);
            for (place, outcome) in outcomes.into_iter().enumerate() {
                let refused = EntryOutcome::Refused("bad".to_owned());
                prop_assert_eq!(outcome, if bad.contains(&place) { refused } else { EntryOutcome::Written });
                prop_assert!(bad.contains(&place) != written.contains(&place));
            }
            // Halving: each bad one costs twice the depth at most.
            prop_assert!(calls <= 1 + bad.len() * 10, "{} calls for {} bad ones", calls, bad.len());
        }
    }

    #[test]
    fn what_is_left_over_is_sent_again_and_the_rest_is_written() {
        let mut search = Search::new(4);
        let part = search.next().unwrap();
        search.answered(part, Answer::Taken { but: vec![1, 3] });
        assert_eq!(search.next(), None);
        let again = EntryOutcome::Failed(put_off());
        assert_eq!(search.outcomes(), [EntryOutcome::Written, again.clone(), EntryOutcome::Written, again]);
    }

    #[test]
    fn a_failure_ends_the_search_and_what_was_not_sent_has_not_happened() {
        let mut search = Search::new(4);
        let whole = search.next().unwrap();
        search.answered(whole, Answer::Invalid("one of you".to_owned()));
        let first = search.next().unwrap();
        assert_eq!(first, 0..2);
        search.answered(first, Answer::Failed(lost()));
        assert_eq!(search.next(), None);
        let unsent = EntryOutcome::Failed(Trouble { outcome: Outcome::Determinate, ..lost() });
        let sent = EntryOutcome::Failed(lost());
        assert_eq!(search.outcomes(), [sent.clone(), sent, unsent.clone(), unsent]);
    }
}
