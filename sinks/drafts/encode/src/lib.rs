//! What the object store sink writes: the content of files, their folders, their names.

pub mod encode;
pub mod objects;
pub mod partition;
