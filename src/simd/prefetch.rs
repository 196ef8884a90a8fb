//! How far ahead of the multiplication weights are fetched from memory: one core does not keep enough misses in flight by
//! itself.
//!
//! The best distance differs between processors (the CPU backend measures it). It changes when bytes arrive and
//! no result.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::simd::linear::Line;

/// Distances to choose from, bytes: 2, 4, 6, 8 and 16 NVFP4 tiles.
pub const DISTANCES: [usize; 5] = [1152, 2304, 3456, 4608, 9216];

/// Four tiles until something is measured: where the distance was first looked at, they gave 87 tokens/s, none 60, two 77, and
/// eight varied.
static DISTANCE: AtomicUsize = AtomicUsize::new(DISTANCES[1]);

/// The distance in use, bytes.
pub fn distance() -> usize {
    DISTANCE.load(Ordering::Relaxed)
}

/// Sets the distance of this process.
pub fn set_distance(bytes: usize) {
    DISTANCE.store(bytes, Ordering::Relaxed);
}

/// Fetches one tile's worth of `lines` lines, [`distance`] bytes after `tile`. The address may lie beyond the matrix: a
/// prefetch never faults.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub fn prefetch(tile: *const Line, lines: usize) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

    let start = tile.cast::<i8>().wrapping_add(distance());
    for line in 0..lines {
        // SAFETY: a hint, valid for any address; SSE is part of x86-64.
        #[allow(unsafe_code, reason = "an intrinsic")]
        unsafe {
            _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(64 * line));
        }
    }
}

/// Elsewhere the processor's own prefetchers are left to it.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub fn prefetch(_: *const Line, _: usize) {}
