//! Turns a panic in a user's closure into an error that names the step, and stops the job.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::context::JobContext;
use crate::error::{Error, ErrorKind, Result};

/// Runs one activation of an operator. An error or a panic fails the job in the name of `step`; the operator must not be
/// run again, which [`JobContext::failed`] tells.
pub(super) fn guarded(context: &JobContext, step: &str, logic: impl FnOnce() -> Result<()>) {
    if context.failed() {
        return;
    }
    // After a failure no operator runs again.
    if let Err(error) = naming_panics(step, logic) {
        context.fail(error);
    }
}

/// Runs code of a user outside the operators: what fails in it, a panic too, is an error that names `step`.
pub(crate) fn naming_panics<T>(step: &str, logic: impl FnOnce() -> Result<T>) -> Result<T> {
    // Unwind safety: the error ends the start, so nobody sees what a panic left half done.
    match catch_unwind(AssertUnwindSafe(logic)) {
        Ok(outcome) => outcome.map_err(|error| error.in_step(step)),
        Err(panic) => Err(panic_error(panic.as_ref()).in_step(step)),
    }
}

/// The error for a caught panic.
pub(crate) fn panic_error(panic: &(dyn Any + Send)) -> Error {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    Error::new(ErrorKind::User, format!("panicked: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_keeps_its_message() {
        let panic = catch_unwind(|| panic!("no account {}", 7)).expect_err("it panics");
        assert_eq!(panic_error(panic.as_ref()).to_string(), "panicked: no account 7");
    }
}
