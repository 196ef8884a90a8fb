//! Rows of a weight matrix times activations: eight rows of a panel per register, two registers per panel.

#![allow(clippy::wildcard_imports, reason = "intrinsics carry their module in their names")]
#![allow(clippy::needless_range_loop, reason = "indices are columns, rows and halves, of several arrays at once")]
#![allow(clippy::cast_ptr_alignment, reason = "lines and tiles are aligned to 64 bytes")]

mod float;
mod nvfp4;
mod quantize;

use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

use crate::simd::linear::{Line, Ops};

pub use quantize::quantize;

pub const OPS: Ops = Ops {
    quantize,
    nvfp4_nvfp4: nvfp4::nvfp4_nvfp4,
    nvfp4_f32: float::nvfp4_f32,
    bf16_f32: float::bf16_f32,
    f16_f32: float::f16_f32,
    f32_f32: float::f32_f32,
};

/// Bytes between what is multiplied and what is fetched: one core does not keep enough misses in flight by itself.
const AHEAD: usize = 2304;

/// Fetches one tile's worth of `lines` lines, [`AHEAD`] bytes after `tile`. The address may lie beyond the matrix: a
/// prefetch never faults.
#[inline(always)]
fn prefetch(tile: *const Line, lines: usize) {
    let start = tile.cast::<i8>().wrapping_add(AHEAD);
    for line in 0..lines {
        // SAFETY: a hint, valid for any address; SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(64 * line)) };
    }
}
