//! Checkpoint to checkpoint: quantizing on disk, measuring input scales.
