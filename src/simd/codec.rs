//! Quantize and dequantize rows of 16-element blocks.

/// The functions of this family.
#[derive(Clone, Copy, Debug)]
pub struct Ops {}
