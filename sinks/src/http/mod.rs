//! What the sinks that speak HTTP share: addresses and secrets that do not show, a client, answers that are not trusted.
//!
//! *Enters*: settings. *Leaves*: calls, and what their failures mean for a batch. *Survives a crash*: nothing.

mod address;
mod answer;
mod client;
mod parts;
mod pause;
mod secret;

pub(crate) use address::Address;
pub(crate) use answer::{Answer, broken, one_line};
pub(crate) use client::HttpSettings;
pub(crate) use parts::{Part, in_parts};
pub(crate) use pause::Pause;
pub(crate) use secret::{Scrubber, Secret, header_value};
