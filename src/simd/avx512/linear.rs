//! Rows of a weight matrix times activations: the sixteen rows of a panel in one register.

#![allow(clippy::wildcard_imports, reason = "intrinsics carry their module in their names")]
#![allow(clippy::needless_range_loop, reason = "indices are columns, rows and halves, of several arrays at once")]
#![allow(clippy::cast_ptr_alignment, reason = "lines and tiles are aligned to 64 bytes")]

pub mod amx;
mod float;
pub mod nvfp4;

use crate::simd::avx2;
use crate::simd::linear::Ops;

/// Quantizing is AVX2's: AVX-512 F includes it, and a tile of 64 activations is short.
pub const OPS: Ops = Ops {
    quantize: avx2::linear::quantize,
    nvfp4_nvfp4: nvfp4::maddubs::nvfp4_nvfp4,
    nvfp4_f32: float::nvfp4_f32,
    bf16_f32: float::bf16_f32,
    f16_f32: float::f16_f32,
    f32_f32: float::f32_f32,
};

/// The first sixteen values of `table` in all four quarters of a byte look-up table. An index is a nibble with its neighbour's bits
/// above it, of which `vpermb` reads two: with the values repeated, nothing needs to be masked.
pub const fn repeated(table: [i8; 16], plus: i8) -> [i8; 64] {
    let mut out = [0; 64];
    let mut i = 0;
    while i < 64 {
        out[i] = table[i % 16] + plus;
        i += 1;
    }
    out
}
