//! Quantize and dequantize rows of 16-element blocks. The specification.

use crate::simd::codec::Ops;

pub const OPS: Ops = Ops {};
