//! Rows of a weight matrix times activations. The specification.

use crate::simd::linear::Ops;

pub const OPS: Ops = Ops {};
