//! Where a model runs.
pub mod cpu;
