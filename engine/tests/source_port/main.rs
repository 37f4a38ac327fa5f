//! What the engine makes of a source: who holds time back, whose positions they are, what is forgotten and when.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "in a test a panic is the report")]

mod behind;
mod children;
mod first_start;
mod forgotten;
mod identity;
mod idle;
mod moves;
mod scripted;
