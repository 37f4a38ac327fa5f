//! The marker of a job and step: how far its output has come, and which start may go on with it. Pure.
//!
//! The marker changes in the same transactions as the output. So it says for certain what is committed, also where the answer
//! to a COMMIT was lost; and a start that is not the marker's cannot commit any more, whatever it believes.

use shardflow::vocabulary::Incarnation;
use shardflow::{Epoch, Error};

use super::name::TableName;

/// Whose marker it is, and where it lies.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub(crate) job: String,
    pub(crate) step: String,
    pub(crate) incarnation: Incarnation,
    /// The table of markers.
    pub(crate) table: TableName,
}

/// A marker as the server has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) incarnation: Incarnation,
    /// The last epoch whose rows are committed.
    pub(crate) epoch: Option<Epoch>,
}

impl Marker {
    /// From its row.
    pub(crate) fn read(incarnation: i64, epoch: Option<i64>) -> Result<Self, Error> {
        let number = |value: i64| {
            u64::try_from(value).map_err(|cause| Error::state(format!("the marker says {value}")).caused_by(cause))
        };
        let epoch = epoch.map(number).transpose()?.map(Epoch::new);
        Ok(Self { incarnation: Incarnation::new(number(incarnation)?), epoch })
    }
}

/// What a start finds before it writes anything.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// The last epoch that the engine knows to be committed.
    pub(crate) committed: Option<Epoch>,
    /// The first epoch of the handles that it brings, where it brings any.
    pub(crate) first_handle: Option<Epoch>,
    /// Whether this start has asked for the marker before, and the answer may have been lost.
    pub(crate) has_asked: bool,
}

impl Owner {
    fn delete(&self) -> String {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let (table, job, step) = (self.table.sql(), quoted(&self.job), quoted(&self.step));
        format!("DELETE FROM {table} WHERE job = {job} AND step = {step}")
    }

    /// Whether this start may take the marker. `Ok(false)`: it has it already.
    pub(crate) fn may_take_over(&self, found: Option<Marker>, start: Start) -> Result<bool, Error> {
        let Some(marker) = found else {
            return match start.first_handle {
                None => Ok(true),
                Some(epoch) => Err(Error::state(format!(
                    "there is no marker of job \"{}\" in table \"{}\", but the state holds rows of epoch {epoch}: whether they \
                     are committed can no longer be told; was this start given another database?",
                    self.job, self.table
                ))),
            };
        };
        if marker.epoch > start.committed {
            return Err(self.state_is_older(marker, start.committed));
        }
        if marker.incarnation < self.incarnation {
            return Ok(true);
        }
        if marker.incarnation == self.incarnation && start.has_asked {
            return Ok(false);
        }
        Err(self.fenced(marker.incarnation))
    }

    /// After which epoch this start has rows to commit.
    pub(crate) fn committed_through(&self, found: Option<Marker>) -> Result<Option<Epoch>, Error> {
        match found {
            Some(marker) if marker.incarnation == self.incarnation => Ok(marker.epoch),
            Some(marker) if marker.incarnation > self.incarnation => Err(self.fenced(marker.incarnation)),
            _ => Err(Error::state(format!(
                "the marker of job \"{}\" in table \"{}\" is no longer this start's: something else has changed or removed it",
                self.job, self.table
            ))),
        }
    }

    fn fenced(&self, other: Incarnation) -> Error {
        Error::state(format!(
            "another start of job \"{}\" (incarnation {other}, and this is {}) has taken over: this one must not write any \
             more. Copies of a job that write to one table need a name each (copy_name)",
            self.job, self.incarnation
        ))
    }

    fn state_is_older(&self, marker: Marker, committed: Option<Epoch>) -> Error {
        let epoch = marker.epoch.unwrap_or_default();
        let state = committed.map_or("has committed nothing".to_owned(), |last| format!("ends at epoch {last}"));
        Error::state(format!(
            "rows of epoch {epoch} are committed (job \"{}\" in table \"{}\"), but the state {state}: it is older than its output, \
             and going on would write results twice; use the newer state, or remove the output and then its marker: {}",
            self.job,
            self.table,
            self.delete()
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardflow::ErrorKind;

    fn owner(incarnation: u64) -> Owner {
        Owner {
            job: "it's".to_owned(),
            step: "charges".to_owned(),
            incarnation: Incarnation::new(incarnation),
            table: TableName::parse("ops.marks").unwrap(),
        }
    }

    fn marker(incarnation: u64, epoch: Option<u64>) -> Option<Marker> {
        Some(Marker { incarnation: Incarnation::new(incarnation), epoch: epoch.map(Epoch::new) })
    }

    fn start(committed: Option<u64>) -> Start {
        Start { committed: committed.map(Epoch::new), first_handle: None, has_asked: false }
    }

    fn take(found: Option<Marker>, start: Start) -> Result<bool, String> {
        owner(3).may_take_over(found, start).map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::State);
            error.to_string()
        })
    }

    #[test]
    fn a_later_start_takes_over() {
        assert_eq!(take(None, start(None)), Ok(true));
        assert_eq!(take(None, start(Some(7))), Ok(true), "a sink that is new in its job");
        assert_eq!(take(marker(2, None), start(None)), Ok(true));
        assert_eq!(take(marker(2, Some(7)), start(Some(7))), Ok(true));
        assert_eq!(take(marker(1, Some(5)), start(Some(7))), Ok(true), "its rows of 6 and 7 follow");
    }

    #[test]
    fn an_earlier_start_and_a_twin_do_not() {
        assert!(take(marker(4, Some(7)), start(Some(7))).unwrap_err().contains("incarnation 4, and this is 3"));
        assert!(take(marker(3, Some(7)), start(Some(7))).unwrap_err().contains("has taken over"));
    }

    #[test]
    fn whose_answer_was_lost_finds_its_own_marker() {
        let again = Start { has_asked: true, ..start(Some(7)) };
        assert_eq!(take(marker(3, Some(7)), again), Ok(false));
        assert_eq!(take(marker(2, Some(7)), again), Ok(true));
        assert!(take(marker(4, Some(7)), again).is_err());
    }

    #[test]
    fn a_state_that_is_older_than_its_output_is_refused_whoever_wrote_it() {
        for incarnation in [1, 3, 9] {
            let error = take(marker(incarnation, Some(8)), start(Some(7))).unwrap_err();
            assert!(error.contains("rows of epoch 8") && error.contains("ends at epoch 7"), "{error}");
            let error = take(marker(incarnation, Some(8)), start(None)).unwrap_err();
            assert!(error.contains("has committed nothing"), "{error}");
            assert!(
                error.contains("DELETE FROM \"ops\".\"marks\" WHERE job = 'it''s' AND step = 'charges'"),
                "{error}"
            );
        }
    }

    #[test]
    fn rows_without_a_marker_are_refused() {
        let error = take(None, Start { first_handle: Some(Epoch::new(7)), ..start(Some(7)) }).unwrap_err();
        assert!(error.contains("rows of epoch 7"), "{error}");
    }

    #[test]
    fn only_the_start_that_has_the_marker_commits() {
        assert_eq!(owner(3).committed_through(marker(3, Some(7))).unwrap(), Some(Epoch::new(7)));
        assert_eq!(owner(3).committed_through(marker(3, None)).unwrap(), None);
        assert!(owner(3).committed_through(marker(4, Some(7))).unwrap_err().to_string().contains("has taken over"));
        for found in [None, marker(2, Some(7))] {
            assert!(owner(3).committed_through(found).unwrap_err().to_string().contains("no longer this start's"));
        }
    }

    #[test]
    fn numbers_that_no_start_wrote_are_an_error() {
        assert!(Marker::read(-1, None).is_err());
        assert!(Marker::read(1, Some(-1)).is_err());
        assert_eq!(Marker::read(2, Some(5)).ok(), marker(2, Some(5)));
    }
}
