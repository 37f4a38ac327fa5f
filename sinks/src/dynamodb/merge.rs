//! Records of one key in one batch: which of them is written, and what that means for the others. Pure.
//!
//! The service refuses a batch that names a key twice, and of a hot key only the last state is of use.

use std::collections::HashMap;
use std::hash::Hash;

use shardflow::Outcome;
use shardflow::retry::Failed;
use shardflow::sink::{EntryOutcome, Trouble};

/// A batch with one record for each key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Merged {
    /// The places of the records that are written, in order.
    winners: Vec<usize>,
    /// For each record its key's winner, as a place in `winners`.
    winner_of: Vec<usize>,
}

impl Merged {
    /// Of the records of one key the one of the greatest rank is written, of equals the last.
    pub(super) fn of<K: Hash + Eq, R: Ord>(entries: impl IntoIterator<Item = (K, R)>) -> Self {
        let mut keys: HashMap<K, usize> = HashMap::new();
        let mut best: Vec<(usize, R)> = Vec::new();
        let mut group_of = Vec::new();
        for (place, (key, rank)) in entries.into_iter().enumerate() {
            let group = *keys.entry(key).or_insert(best.len());
            match best.get_mut(group) {
                Some(best) if rank >= best.1 => *best = (place, rank),
                Some(_) => {}
                None => best.push((place, rank)),
            }
            group_of.push(group);
        }
        // Winners keep the order of the batch.
        let mut order: Vec<(usize, usize)> = best.iter().map(|(place, _)| *place).zip(0..).collect();
        order.sort_unstable();
        let mut rank_of_group = vec![0; order.len()];
        for (rank, (_, group)) in order.iter().enumerate() {
            if let Some(slot) = rank_of_group.get_mut(*group) {
                *slot = rank;
            }
        }
        let winner_of = group_of.iter().filter_map(|group| rank_of_group.get(*group).copied()).collect();
        Self { winners: order.into_iter().map(|(place, _)| place).collect(), winner_of }
    }

    /// The places of the records that are written, in order.
    pub(super) fn winners(&self) -> &[usize] {
        &self.winners
    }

    /// What became of each record, given what became of the winners. A record shares the fate of its winner; where that is
    /// refused, the record itself is still to be written.
    pub(super) fn spread(&self, of_winners: &[EntryOutcome]) -> Vec<EntryOutcome> {
        let outcome = |(place, winner): (usize, &usize)| {
            let is_winner = self.winners.get(*winner) == Some(&place);
            match of_winners.get(*winner) {
                Some(EntryOutcome::Refused(_)) if !is_winner => EntryOutcome::Failed(Trouble {
                    may_pass: Some(Failed::Transient),
                    outcome: Outcome::Determinate,
                    text: "a later record of the same key was refused: this one is written in its place".to_owned(),
                }),
                Some(outcome) => outcome.clone(),
                None => EntryOutcome::Failed(Trouble {
                    may_pass: None,
                    outcome: Outcome::Indeterminate,
                    text: "the write did not say what became of a record".to_owned(),
                }),
            }
        };
        self.winner_of.iter().enumerate().map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn of_a_key_the_greatest_and_then_the_last_is_written() {
        let merged = Merged::of([("a", 1), ("b", 5), ("a", 3), ("b", 5), ("a", 2)]);
        assert_eq!(merged.winners(), [2, 3]);
        assert_eq!(Merged::of([("a", ()), ("b", ()), ("a", ())]).winners(), [1, 2]);
        assert!(Merged::of(Vec::<((), ())>::new()).winners().is_empty());
    }

    #[test]
    fn where_the_winner_is_refused_the_others_are_still_to_be_written() {
        let merged = Merged::of([("a", ()), ("b", ()), ("a", ())]);
        let refused = EntryOutcome::Refused("no".to_owned());
        let spread = merged.spread(&[EntryOutcome::Written, refused.clone()]);
        assert_eq!((&spread[1], &spread[2]), (&EntryOutcome::Written, &refused));
        assert!(matches!(&spread[0], EntryOutcome::Failed(Trouble { may_pass: Some(Failed::Transient), .. })));
    }

    proptest! {
        #[test]
        fn each_key_has_one_winner_and_each_record_its_fate(entries in proptest::collection::vec((0u8..6, 0u8..4), 0..40)) {
            let merged = Merged::of(entries.iter().copied());
            prop_assert!(merged.winners().is_sorted());
            for (key, _) in &entries {
                let of_key = entries.iter().enumerate().filter(|(_, (of, _))| of == key);
                let best = of_key.max_by_key(|(place, (_, rank))| (*rank, *place)).unwrap().0;
                let winners: Vec<_> = merged.winners().iter().copied().filter(|place| entries[*place].0 == *key).collect();
                prop_assert_eq!(winners, vec![best]);
            }
            // The fate of each key's winner is its key's name.
            let fates: Vec<_> = merged.winners().iter().map(|place| EntryOutcome::Failed(Trouble {
                may_pass: None, outcome: Outcome::Determinate, text: entries[*place].0.to_string(),
            })).collect();
            for ((key, _), fate) in entries.iter().zip(merged.spread(&fates)) {
                prop_assert!(matches!(fate, EntryOutcome::Failed(trouble) if trouble.text == key.to_string()));
            }
        }
    }
}
