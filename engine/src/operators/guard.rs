//! Turns a panic in a user's closure into an error that names the step, and stops the job.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::context::JobContext;
use crate::error::{Error, ErrorKind, Result};
use crate::vocabulary::StepName;

/// Runs one activation of an operator. An error or a panic fails the job in the name of `step`; the operator must not be
/// run again, which [`JobContext::failed`] tells.
pub(super) fn guarded(context: &JobContext, step: &str, logic: impl FnOnce() -> Result<()>) {
    if context.failed() {
        return;
    }
    // Unwind safety: after a failure no operator runs again, so nobody sees what a panic left half done.
    match catch_unwind(AssertUnwindSafe(logic)) {
        Ok(Ok(())) => {}
        Ok(Err(error)) => context.fail(error.in_step(step)),
        Err(panic) => context.fail(panic_error(panic.as_ref()).in_step(step)),
    }
}

/// Runs a user's code outside the operators, on a sink or a source. An error or a panic is one in the name of `step`.
pub(crate) fn in_step<T>(step: &StepName, logic: impl FnOnce() -> Result<T>) -> Result<T> {
    // Unwind safety: an error here ends the start, and with it everything the closure touched.
    match catch_unwind(AssertUnwindSafe(logic)) {
        Ok(outcome) => outcome.map_err(|error| error.in_step(step.as_str())),
        Err(panic) => Err(panic_error(panic.as_ref()).in_step(step.as_str())),
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
