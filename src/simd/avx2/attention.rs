//! Attention over bf16 keys and values, widened in registers, once for two query heads that share them.
//!
//! A dword of a row holds two neighbouring elements: shifted, the even one as f32; masked, the odd one. So sums of even and
//! of odd lanes are kept apart, queries and outputs are split on the way in, and the order of additions stays that of
//! [`scalar::vector`](crate::simd::scalar::vector).
//!
//! What is read next (the values after the keys, the next keys after the values) is fetched while this is computed: values are
//! read by columns, a line here and a line there, which no prefetcher of a processor foresees.

#![allow(clippy::wildcard_imports, reason = "intrinsics carry their module in their names")]
#![allow(clippy::needless_range_loop, reason = "indices are keys, heads and chunks, of several arrays at once")]

use std::arch::x86_64::*;

use half::bf16;

use crate::simd::avx2::vector::OPS;
use crate::simd::scalar::vector::{dots_widened, weighted_sums_widened};

/// Elements of a row that are loaded at once.
const CHUNK: usize = 16;
/// Chunks of the longest query that is split on the stack.
const CHUNKS: usize = 16;

/// The even and the odd elements of a chunk.
type Split = [__m256; 2];

/// Memory that will be read next, fetched a few lines at a time.
struct Ahead {
    at: *const i8,
    lines: usize,
    each: usize,
}

impl Ahead {
    /// Spread over `calls` calls of [`Self::fetch`].
    fn new(memory: &[bf16], calls: usize) -> Self {
        let lines = size_of_val(memory).div_ceil(64);
        Self { at: memory.as_ptr().cast(), lines, each: lines.div_ceil(calls.max(1)) }
    }

    #[inline(always)]
    fn fetch(&mut self) {
        let some = self.each.min(self.lines);
        for line in 0..some {
            // SAFETY: a hint, valid for any address; SSE is part of x86-64.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(self.at.wrapping_add(64 * line)) };
        }
        self.at = self.at.wrapping_add(64 * some);
        self.lines -= some;
    }
}

/// See [`DotsBf16`](crate::simd::vector::DotsBf16).
pub fn dots(queries: &[f32], keys: &[bf16], d: usize, scale: f32, scores: &mut [f32], stride: usize, ahead: &[bf16]) {
    if !d.is_multiple_of(CHUNK) || d > CHUNK * CHUNKS || keys.is_empty() {
        return dots_widened(&OPS, queries, keys, d, scale, scores, stride);
    }
    let n = keys.len() / d;
    let heads = queries.len() / d;
    assert!(keys.len() == n * d && queries.len() == heads * d, "whole rows");
    assert!(n <= stride && (heads == 0 || scores.len() >= (heads - 1) * stride + n), "a place for each score");
    let (mut queries, mut scores) = (queries.as_ptr(), scores.as_mut_ptr());
    let mut ahead = Ahead::new(ahead, n.div_ceil(4));
    // SAFETY: this table is handed out only where the CPU has these features; the lengths are checked.
    unsafe {
        // The usual widths of a head have loops of known lengths: half the time.
        let (two, one) = match d {
            32 => (dots_of::<2, 2> as DotsOf, dots_of::<1, 2> as DotsOf),
            64 => (dots_of::<2, 4> as DotsOf, dots_of::<1, 4> as DotsOf),
            128 => (dots_of::<2, 8> as DotsOf, dots_of::<1, 8> as DotsOf),
            _ => (dots_of::<2, 0> as DotsOf, dots_of::<1, 0> as DotsOf),
        };
        for _ in 0..heads / 2 {
            two(queries, keys.as_ptr(), n, d, scale, scores, stride, &mut ahead);
            (queries, scores) = (queries.add(2 * d), scores.add(2 * stride));
        }
        if heads % 2 == 1 {
            one(queries, keys.as_ptr(), n, d, scale, scores, stride, &mut ahead);
        }
    }
}

type DotsOf = unsafe fn(*const f32, *const bf16, usize, usize, f32, *mut f32, usize, &mut Ahead);

/// `G` queries, `[G, d]`, with `n` keys, `[n, d]`.
///
/// # Safety
/// The lengths are as named, `d` is whole chunks, [`CHUNKS`] at most, and `scores` is `[G, stride]` up to the last row's `n`.
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::too_many_arguments, reason = "a kernel's shapes and strides")]
unsafe fn dots_of<const G: usize, const KNOWN: usize>(
    queries: *const f32,
    keys: *const bf16,
    n: usize,
    d: usize,
    scale: f32,
    scores: *mut f32,
    stride: usize,
    ahead: &mut Ahead,
) {
    let chunks = if KNOWN > 0 { KNOWN } else { d / CHUNK };
    let mut split = [[[_mm256_setzero_ps(); 2]; CHUNKS]; G];
    // SAFETY: the caller's promise; keys are `first + k < n` or the last one.
    unsafe {
        for (g, split) in split.iter_mut().enumerate() {
            for (c, split) in split[..chunks].iter_mut().enumerate() {
                *split = load_split(queries.add(g * d + c * CHUNK));
            }
        }
        for first in (0..n).step_by(4) {
            // Of the last four keys some may be missing: the last one then stands in, and its result is not stored.
            let key = |k: usize| keys.add((first + k).min(n - 1) * d);
            ahead.fetch();
            let mut twos = [[_mm256_setzero_ps(); G]; 2]; // partial sums of two keys each
            for (two, joined) in twos.iter_mut().enumerate() {
                let pair = [key(2 * two), key(2 * two + 1)];
                let mut sums = [[[_mm256_setzero_ps(); 2]; G]; 2]; // [key][head][even, odd]
                for c in 0..chunks {
                    for k in 0..2 {
                        let [even, odd] = widen(pair[k].add(c * CHUNK));
                        for g in 0..G {
                            sums[k][g][0] = _mm256_fmadd_ps(split[g][c][0], even, sums[k][g][0]);
                            sums[k][g][1] = _mm256_fmadd_ps(split[g][c][1], odd, sums[k][g][1]);
                        }
                    }
                }
                // Sixteen lanes of a key become eight, then four: lanes i and i + 8, then i and i + 4.
                for g in 0..G {
                    let (a, b) = (halve(sums[0][g]), halve(sums[1][g]));
                    let low = _mm256_castpd_ps(_mm256_unpacklo_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
                    let high = _mm256_castpd_ps(_mm256_unpackhi_pd(_mm256_castps_pd(a), _mm256_castps_pd(b)));
                    joined[g] = _mm256_add_ps(low, high);
                }
            }
            for g in 0..G {
                // Then i and i + 2; the last two are the sums of even and of odd lanes.
                let [low, high] = [_mm256_shuffle_ps::<0x88>(twos[0][g], twos[1][g]), _mm256_shuffle_ps::<0xDD>(twos[0][g], twos[1][g])];
                let both = _mm256_add_ps(low, high);
                let four = _mm_add_ps(_mm256_castps256_ps128(both), _mm256_extractf128_ps::<1>(both));
                let four = _mm_mul_ps(four, _mm_set1_ps(scale));
                let at = scores.add(g * stride + first);
                if first + 4 <= n {
                    _mm_storeu_ps(at, four);
                } else {
                    let mut some = [0.0; 4];
                    _mm_storeu_ps(some.as_mut_ptr(), four);
                    at.copy_from_nonoverlapping(some.as_ptr(), n - first);
                }
            }
        }
    }
}

/// Even lanes `j + (j + 4)` in the low half, odd ones in the high half: a row's lanes `i + (i + 8)`.
#[inline(always)]
unsafe fn halve([even, odd]: Split) -> __m256 {
    // SAFETY: arithmetic on registers.
    unsafe { _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(even, odd), _mm256_permute2f128_ps::<0x31>(even, odd)) }
}

/// A chunk of bf16, widened and split.
#[inline(always)]
unsafe fn widen(chunk: *const bf16) -> Split {
    // SAFETY: sixteen elements.
    unsafe {
        let raw = _mm256_loadu_si256(chunk.cast());
        let odd = _mm256_and_si256(raw, _mm256_set1_epi32(0xFFFF_0000_u32 as i32));
        [_mm256_castsi256_ps(_mm256_slli_epi32::<16>(raw)), _mm256_castsi256_ps(odd)]
    }
}

/// A chunk of f32, split.
#[inline(always)]
unsafe fn load_split(chunk: *const f32) -> Split {
    // SAFETY: sixteen elements.
    unsafe {
        let (low, high) = (_mm256_loadu_ps(chunk), _mm256_loadu_ps(chunk.add(8)));
        [_mm256_shuffle_ps::<0x88>(low, high), _mm256_shuffle_ps::<0xDD>(low, high)]
            .map(|x| _mm256_castpd_ps(_mm256_permute4x64_pd::<0xD8>(_mm256_castps_pd(x))))
    }
}

/// The reverse of [`load_split`].
#[inline(always)]
unsafe fn store_split([even, odd]: Split, chunk: *mut f32) {
    // SAFETY: sixteen elements.
    unsafe {
        let (low, high) = (_mm256_unpacklo_ps(even, odd), _mm256_unpackhi_ps(even, odd));
        _mm256_storeu_ps(chunk, _mm256_permute2f128_ps::<0x20>(low, high));
        _mm256_storeu_ps(chunk.add(8), _mm256_permute2f128_ps::<0x31>(low, high));
    }
}

/// See [`WeightedSumsBf16`](crate::simd::vector::WeightedSumsBf16).
pub fn weighted_sums(out: &mut [f32], rescale: &[f32], weights: &[f32], stride: usize, values: &[bf16], ahead: &[bf16]) {
    let heads = rescale.len();
    let d = out.len() / heads;
    if d == 0 || !d.is_multiple_of(CHUNK) {
        return weighted_sums_widened(&OPS, out, rescale, weights, stride, values);
    }
    let n = values.len() / d;
    assert!(values.len() == n * d && out.len() == heads * d, "whole rows");
    assert!(n <= stride && weights.len() >= (heads - 1) * stride + n, "a weight for each value");
    let wide = CHUNK * if heads >= 2 { 2 } else { 4 };
    let mut ahead = Ahead::new(ahead, n * d.div_ceil(wide));
    let mut head = 0;
    while head < heads {
        let two = head + 2 <= heads;
        let mut column = 0;
        while column < d {
            let left = d - column;
            // SAFETY: this table is handed out only where the CPU has these features; the lengths are checked.
            column += unsafe {
                let (out, rescale) = (out.as_mut_ptr().add(head * d + column), rescale.as_ptr().add(head));
                let (weights, values) = (weights.as_ptr().add(head * stride), values.as_ptr().add(column));
                match (two, left) {
                    (true, 32..) => columns::<2, 2>(out, d, rescale, weights, stride, values, n, &mut ahead),
                    (true, _) => columns::<2, 1>(out, d, rescale, weights, stride, values, n, &mut ahead),
                    (false, 64..) => columns::<1, 4>(out, d, rescale, weights, stride, values, n, &mut ahead),
                    (false, 32..) => columns::<1, 2>(out, d, rescale, weights, stride, values, n, &mut ahead),
                    (false, _) => columns::<1, 1>(out, d, rescale, weights, stride, values, n, &mut ahead),
                }
            };
        }
        head += if two { 2 } else { 1 };
    }
}

/// `C` chunks of columns of `G` heads, which stay in registers while the values pass by; returns the columns done.
///
/// # Safety
/// From the pointers on, `out` is `[G, d]`, `rescale` `[G]`, `weights` `[G, stride]` and `values` `[n, d]`, each row at least `C`
/// chunks or `n` weights long.
#[target_feature(enable = "avx2,fma")]
#[allow(clippy::too_many_arguments, reason = "a kernel's shapes and strides")]
unsafe fn columns<const G: usize, const C: usize>(
    out: *mut f32,
    d: usize,
    rescale: *const f32,
    weights: *const f32,
    stride: usize,
    values: *const bf16,
    n: usize,
    ahead: &mut Ahead,
) -> usize {
    // SAFETY: the caller's promise.
    unsafe {
        let mut sums = [[[_mm256_setzero_ps(); 2]; C]; G];
        for g in 0..G {
            let factor = _mm256_set1_ps(*rescale.add(g));
            for c in 0..C {
                let [even, odd] = load_split(out.add(g * d + c * CHUNK));
                sums[g][c] = [_mm256_mul_ps(even, factor), _mm256_mul_ps(odd, factor)];
            }
        }
        for k in 0..n {
            ahead.fetch();
            for c in 0..C {
                let [even, odd] = widen(values.add(k * d + c * CHUNK));
                for g in 0..G {
                    let weight = _mm256_broadcast_ss(&*weights.add(g * stride + k));
                    sums[g][c] = [_mm256_fmadd_ps(weight, even, sums[g][c][0]), _mm256_fmadd_ps(weight, odd, sums[g][c][1])];
                }
            }
        }
        for g in 0..G {
            for c in 0..C {
                store_split(sums[g][c], out.add(g * d + c * CHUNK));
            }
        }
    }
    C * CHUNK
}
