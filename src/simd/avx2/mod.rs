//! AVX2, FMA and F16C: eight f32 lanes.

#![allow(unsafe_code, reason = "intrinsics")]

pub mod attention;
pub mod codec;
pub mod linear;
pub mod logits;
pub mod vector;

use crate::simd::Table;

static TABLE: Table = Table { name: "avx2", codec: codec::OPS, linear: linear::OPS, vector: vector::OPS, logits: logits::OPS };

/// The table, where the CPU has its features.
pub fn table() -> Option<&'static Table> {
    (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")).then_some(&TABLE)
}
