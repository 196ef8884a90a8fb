//! One binary for the crate's integration tests.

mod layering;
