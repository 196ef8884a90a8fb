//! Norms, attention and elementwise loops over f32. The specification.

use crate::simd::vector::Ops;

pub const OPS: Ops = Ops {};
