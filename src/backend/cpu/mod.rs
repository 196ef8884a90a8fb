//! The CPU.

pub mod activations;
pub mod linear;
