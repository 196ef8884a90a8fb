//! NEON with dot products: four f32 lanes.

#![allow(unsafe_code, reason = "intrinsics")]

pub mod codec;
pub mod linear;
pub mod logits;
pub mod vector;

use crate::simd::Table;

static TABLE: Table = Table { name: "neon", codec: codec::OPS, linear: linear::OPS, vector: vector::OPS, logits: logits::OPS };

/// The table, where the CPU has its features.
pub fn table() -> Option<&'static Table> {
    std::arch::is_aarch64_feature_detected!("dotprod").then_some(&TABLE)
}
