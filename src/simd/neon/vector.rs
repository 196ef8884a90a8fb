//! Norms, attention and elementwise loops over f32. NEON with fused multiply-adds is part of every AArch64 build, so
//! the plain loops are already compiled for it.

use crate::simd::vector::Ops;

pub const OPS: Ops = crate::simd::scalar::vector::OPS;
