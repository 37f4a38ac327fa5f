//! Kits for tests: what a user's sink or source must keep is checked here, against any implementation of a port.

pub mod sink;
