//! NVFP4: 4-bit elements with one 8-bit scale per 16 of them and one 32-bit scale per tensor.
//!
//! ```text
//! value = E2M1(code) · E4M3(block scale) · tensor scale
//!
//! codes         [rows, cols/2]   byte j of a row: element 2j in the low nibble, 2j+1 in the high nibble
//! block_scales  [rows, cols/16]  E4M3 bits, one per 16 consecutive columns
//! tensor_scale  one f32          ModelOpt stores the multiplier, compressed-tensors its reciprocal
//! ```

pub mod codec;
pub mod layout;
pub mod matrix;
pub mod parts;

pub use layout::Nvfp4Panels;
pub use matrix::{Nvfp4Matrix, TensorScale};

/// Elements that share a block scale.
pub const BLOCK: usize = 16;
