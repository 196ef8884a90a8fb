//! Rows of a weight matrix times activations: eight rows of a panel per register, two registers per panel.

#![allow(clippy::wildcard_imports, reason = "intrinsics carry their module in their names")]
#![allow(clippy::needless_range_loop, reason = "indices are columns, rows and halves, of several arrays at once")]
#![allow(clippy::cast_ptr_alignment, reason = "lines and tiles are aligned to 64 bytes")]

mod float;
mod nvfp4;
mod quantize;

use crate::simd::linear::Ops;

pub use quantize::quantize;

pub const OPS: Ops = Ops {
    quantize,
    nvfp4_nvfp4: nvfp4::nvfp4_nvfp4,
    nvfp4_f32: float::nvfp4_f32,
    bf16_f32: float::bf16_f32,
    f16_f32: float::f16_f32,
    f32_f32: float::f32_f32,
};
