//! What every AWS service needs: its configuration, what a failure means, how long to wait, when to give up.
//!
//! Retries are ours and not the SDK's, which would hide throttling from the pacing and end too soon.

pub(crate) mod backoff;
pub(crate) mod config;
pub(crate) mod failure;
pub(crate) mod retry;
