//! AVX-512 (F, BW, VL, VNNI, VBMI): sixteen f32 lanes, byte permutes, 8-bit dot products.

#![allow(unsafe_code, reason = "intrinsics")]

pub mod codec;
pub mod linear;
pub mod logits;
pub mod vector;

use crate::simd::Table;
use crate::simd::avx2;

static TABLE: Table = Table { name: "avx512", codec: codec::OPS, linear: linear::OPS, vector: vector::OPS, logits: logits::OPS };

/// The table, where the CPU has its features; AVX2's too, some of whose functions it holds.
pub fn table() -> Option<&'static Table> {
    (avx2::table().is_some()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vnni")
        && is_x86_feature_detected!("avx512vbmi"))
    .then_some(&TABLE)
}
