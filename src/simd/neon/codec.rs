//! Quantize and dequantize rows of 16-element blocks.

use crate::simd::codec::Ops;

pub const OPS: Ops = crate::simd::scalar::codec::OPS;
