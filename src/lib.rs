//! Reasoning language models in NVFP4: codec, checkpoints, a decode engine, and the ReSET temperature policy.
//!
//! One line of thought runs through the crate, and every file sits at one place on it:
//!
//! ```text
//! checkpoint bytes → weights → backend → logits → controller → sampler → token → text
//! ```
//!
//! | place | modules |
//! |---|---|
//! | the format | [`numeric`] (E2M1, E4M3), [`nvfp4`] (blocks, matrices, layouts), [`quantize`] (recipes), [`simd`] (instruction sets) |
//! | checkpoint bytes | [`checkpoint`] (safetensors shards, dialects), [`pipeline`] (checkpoint to checkpoint) |
//! | weights, backend, logits | [`tensor`], [`model`], [`backend`], [`parallel`], [`decode`] |
//! | choosing a token | [`logits`] (entropy), [`controller`] (temperature), [`sampler`] (filters, the draw), [`generate`] |
//!
//! Text never enters Rust: tokenizers, chat templates and stop strings live in the Python package.
//! `docs/architecture.md` holds the table of who may import whom; `tests/rust/layering.rs` enforces it.

pub mod backend;
pub mod checkpoint;
pub mod controller;
pub mod decode;
pub mod error;
pub mod generate;
pub mod logits;
pub mod memory;
pub mod model;
pub mod numeric;
pub mod nvfp4;
pub mod parallel;
pub mod pipeline;
#[cfg(feature = "python")]
mod python;
pub mod quantize;
pub mod sampler;
pub mod simd;
pub mod tensor;

pub use error::{Error, Result};
