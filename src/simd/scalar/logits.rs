//! Passes over the logits of one position. The specification.

use crate::simd::logits::Ops;

pub const OPS: Ops = Ops {};
