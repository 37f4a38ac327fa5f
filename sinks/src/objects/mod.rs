#![doc = include_str!("objects.md")]

mod absent;
mod archive;
mod bucket;
mod committer;
mod failure;
mod groups;
mod handle;
mod keys;
mod leftovers;
mod manifest;
mod metrics;
mod names;
mod opening;
mod pack;
mod packer;
mod parts;
pub(crate) mod reach;
#[cfg(test)]
mod scripted;
mod sets;
mod settings;
mod shape;
mod shipper;
mod sink;
mod spool;
mod start;
mod target;
mod upload;
mod windows;
mod writer;

pub use archive::Origin;
pub use manifest::{EpochRange, Manifest, ManifestObject};
pub use sink::{ObjectSink, objects, objects_in};
