//! One binary for the crate's integration tests.

mod checkpoint;
mod codec;
mod decode;
mod hostile;
mod layering;
mod linear;
mod quantize;
mod write;
