//! Checkpoint to checkpoint: quantizing on disk, measuring input scales.

mod plan;
pub mod quantize;
