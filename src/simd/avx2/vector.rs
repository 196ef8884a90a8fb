//! Norms, attention and elementwise loops over f32.

use crate::simd::vector::Ops;

pub const OPS: Ops = crate::simd::scalar::vector::OPS;
