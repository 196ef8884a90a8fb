//! Plain Rust: the specification of every inner loop.

pub mod codec;
pub mod linear;
pub mod logits;
pub mod vector;

use crate::simd::Table;

pub static TABLE: Table = Table { name: "scalar", codec: codec::OPS, linear: linear::OPS, vector: vector::OPS, logits: logits::OPS };
