//! Checkpoint to checkpoint (quantizing on disk) and checkpoint to running model (measuring scales on the way).

pub mod calibrate;
pub mod load;
mod plan;
pub mod quantize;
pub mod synthetic;
pub mod synthetic_checkpoint;
#[cfg(feature = "cuda")]
pub mod time_device;
