//! Passes over the logits of one position.

use crate::simd::logits::Ops;

pub const OPS: Ops = crate::simd::scalar::logits::OPS;
