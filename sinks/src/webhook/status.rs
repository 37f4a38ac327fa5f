//! What a receiver's status means for a call. Pure.

use shardflow::Outcome;
use shardflow::retry::Failed;
use shardflow::sink::{EntryOutcome, Trouble};

use crate::http::{Part, Scrubber, one_line};

/// How much of what a receiver says is told, in characters.
const LONGEST_REASON: usize = 200;

/// What became of a call of so many records.
pub(super) fn of_call(status: u16, body: &[u8], scrubber: &Scrubber, records: usize, conflict_is_done: bool) -> Part {
    if matches!(status, 200..=299) || (status == 409 && conflict_is_done) {
        return Part::Each(vec![EntryOutcome::Written; records]);
    }
    // Before it is shortened: what is left of a secret that was cut is still of it.
    let said = scrubber.scrub(String::from_utf8_lossy(body).into_owned());
    let said = one_line(said.as_bytes(), LONGEST_REASON);
    let text = if said.is_empty() { format!("HTTP status {status}") } else { format!("HTTP status {status}: {said}") };
    let failed = |may_pass, outcome, text| Part::Failed(Trouble { may_pass, outcome, text });
    match status {
        429 => failed(Some(Failed::Throttled), Outcome::Determinate, text),
        408 | 425 => failed(Some(Failed::Transient), Outcome::Indeterminate, text),
        500..=599 => failed(Some(Failed::Transient), Outcome::Indeterminate, text),
        401 | 407 => failed(None, Outcome::Determinate, format!("the receiver does not accept the login: {text}")),
        400..=499 => Part::Refused(text),
        300..=399 => failed(None, Outcome::Determinate, format!("it leads elsewhere, which is not followed: {text}")),
        _ => failed(Some(Failed::Transient), Outcome::Indeterminate, text),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::Secret;

    fn call(status: u16) -> Part {
        of_call(status, b"why\n", &Scrubber::default(), 2, false)
    }

    #[test]
    fn each_status_means_what_the_door_says() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(call(status), Part::Each(vec![EntryOutcome::Written; 2]), "{status}");
        }
        for (status, may_pass) in [
            (408, Some(Failed::Transient)),
            (425, Some(Failed::Transient)),
            (429, Some(Failed::Throttled)),
            (500, Some(Failed::Transient)),
            (503, Some(Failed::Transient)),
            (599, Some(Failed::Transient)),
            (401, None),
            (407, None),
            (302, None),
            (304, None),
        ] {
            let Part::Failed(trouble) = call(status) else { panic!("{status}") };
            assert_eq!(trouble.may_pass, may_pass, "{status}");
            assert!(trouble.text.ends_with("why"), "{trouble}");
        }
        for status in [400, 402, 403, 404, 409, 410, 413, 422, 451] {
            assert_eq!(call(status), Part::Refused(format!("HTTP status {status}: why")));
        }
        assert_eq!(of_call(409, b"", &Scrubber::default(), 1, true), Part::Each(vec![EntryOutcome::Written]));
    }

    #[test]
    fn nothing_is_left_of_a_secret_where_what_is_said_is_cut() {
        let mut scrubber = Scrubber::default();
        scrubber.add(Secret::new("hunter2-and-more"));
        for before in 0..LONGEST_REASON + 10 {
            let said = format!("{}hunter2-and-more", "x".repeat(before));
            let Part::Refused(text) = of_call(404, said.as_bytes(), &scrubber, 1, false) else { panic!("{said}") };
            assert!(!text.contains("hu"), "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_but_a_2xx_or_a_wanted_conflict_counts_as_done(status: u16, body: Vec<u8>, wanted: bool) {
            let done = matches!(of_call(status, &body, &Scrubber::default(), 1, wanted), Part::Each(_));
            prop_assert_eq!(done, (200..300).contains(&status) || (wanted && status == 409));
        }
    }
}
