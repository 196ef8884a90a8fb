//! One binary for the crate's integration tests.

mod checkpoint;
mod codec;
mod cuda_sampling;
mod decode;
mod hostile;
mod layering;
mod linear;
mod quantize;
mod write;
