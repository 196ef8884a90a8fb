//! Rows of a weight matrix times activations.

use crate::simd::linear::Ops;

pub const OPS: Ops = crate::simd::scalar::linear::OPS;
