//! Sends a batch as one call, or as several where the server will not have it as one.

use std::future::Future;

use shardflow::sink::{EntryOutcome, Trouble, Written};

/// What became of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    /// What became of each of its entries.
    Each(Vec<EntryOutcome>),
    /// It is refused as a whole, for this reason, and nothing of it was done: its halves are tried apart, so that in the end
    /// only the entries stay refused that are at fault.
    Refused(String),
    /// It failed.
    Failed(Trouble),
}

/// Sends `entries` in their order, `first` of them in the next call, until each has an outcome or a call fails.
pub(crate) async fn in_parts<'a, E, F>(
    entries: &'a [E],
    first: impl Fn(&'a [E]) -> usize,
    mut call: impl FnMut(&'a [E]) -> F,
) -> Written
where
    F: Future<Output = Part>,
{
    let mut outcomes = Vec::with_capacity(entries.len());
    let mut left = vec![entries];
    while let Some(next) = left.pop() {
        let (part, rest) = next.split_at(first(next).clamp(1, next.len()));
        if !rest.is_empty() {
            left.push(rest);
        }
        match call(part).await {
            Part::Each(each) => outcomes.extend(each),
            Part::Refused(reason) if part.len() < 2 => outcomes.push(EntryOutcome::Refused(reason)),
            Part::Refused(_) => {
                let (front, back) = part.split_at(part.len() / 2);
                left.push(back);
                left.push(front);
            }
            Part::Failed(trouble) if outcomes.is_empty() => return Written::Failed(trouble),
            Part::Failed(trouble) => {
                outcomes.resize(entries.len(), EntryOutcome::Failed(trouble));
                return Written::Each(outcomes);
            }
        }
    }
    match outcomes.iter().all(|outcome| *outcome == EntryOutcome::Written) && outcomes.len() == entries.len() {
        true => Written::All,
        false => Written::Each(outcomes),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;
    use shardflow::Outcome;

    use super::*;

    /// Sends numbers to a server that refuses calls with one of `bad` in them, and calls of more than `most`. Gives the
    /// answer, and the calls.
    fn sent(count: u32, bad: &[u32], most: usize, first: usize) -> (Written, Vec<Vec<u32>>) {
        let entries: Vec<u32> = (0..count).collect();
        let calls = Mutex::new(Vec::new());
        let call = |part: &[u32]| {
            calls.lock().unwrap().push(part.to_vec());
            let refused = part.len() > most || part.iter().any(|n| bad.contains(n));
            let part = if refused {
                Part::Refused("no".to_owned())
            } else {
                Part::Each(vec![EntryOutcome::Written; part.len()])
            };
            std::future::ready(part)
        };
        let written = futures::executor::block_on(in_parts(&entries, |_| first, call));
        (written, calls.into_inner().unwrap())
    }

    #[test]
    fn a_batch_is_one_call_where_the_server_takes_it() {
        assert_eq!(sent(5, &[], 10, 10), (Written::All, vec![vec![0, 1, 2, 3, 4]]));
    }

    #[test]
    fn a_batch_that_is_too_large_is_halved() {
        let (written, calls) = sent(4, &[], 2, 10);
        assert_eq!((written, calls), (Written::All, vec![vec![0, 1, 2, 3], vec![0, 1], vec![2, 3]]));
    }

    #[test]
    fn a_failure_keeps_what_was_done_before_it() {
        let failed = Part::Failed(Trouble { may_pass: None, outcome: Outcome::Determinate, text: "gone".to_owned() });
        let answers = Mutex::new(vec![failed.clone(), Part::Each(vec![EntryOutcome::Written])]);
        let call = |_: &[u8]| std::future::ready(answers.lock().unwrap().pop().unwrap());
        let Written::Each(each) = futures::executor::block_on(in_parts(&[1, 2, 3], |_| 1, call)) else {
            panic!("some were done")
        };
        assert!(
            matches!(&each[..], [EntryOutcome::Written, EntryOutcome::Failed(_), EntryOutcome::Failed(_)]),
            "{each:?}"
        );
        let whole = futures::executor::block_on(in_parts(&[1], |_| 1, |_| std::future::ready(failed.clone())));
        assert!(matches!(whole, Written::Failed(_)));
    }

    proptest! {
        #[test]
        fn only_what_is_at_fault_is_refused_and_the_rest_is_written_once(
            count in 1u32..40, bad in proptest::collection::vec(0u32..40, 0..4), most in 1usize..40, first in 0usize..50,
        ) {
            let (written, calls) = sent(count, &bad, most, first);
            let each = match written {
                Written::All => vec![EntryOutcome::Written; count as usize],
                Written::Each(each) => each,
                Written::Failed(trouble) => panic!("{trouble}"),
            };
            prop_assert_eq!(each.len(), count as usize);
            for (n, outcome) in (0..).zip(each) {
                prop_assert_eq!(outcome == EntryOutcome::Written, !bad.contains(&n), "{}", n);
            }
            let good = calls.iter().filter(|call| call.len() <= most && !call.iter().any(|n| bad.contains(n)));
            let written: Vec<u32> = good.flatten().copied().collect();
            prop_assert_eq!(written, (0..count).filter(|n| !bad.contains(n)).collect::<Vec<_>>());
        }
    }
}
