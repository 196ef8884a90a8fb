//! Norms, attention and elementwise loops over f32. NEON with fused multiply-adds is part of every AArch64 build, so
//! the plain loops are already compiled for it, but for the dot products, whose sums the compiler spills.

use std::arch::aarch64::{float32x4_t, vadd_f32, vaddq_f32, vdupq_n_f32, vfmaq_f32, vget_high_f32, vget_lane_f32, vget_low_f32, vld1q_f32};

use crate::simd::scalar::vector::dots_widened;
use crate::simd::vector::Ops;

pub const OPS: Ops = Ops {
    dots,
    dots_bf16: |queries, keys, d, scale, scores, stride, _| dots_widened(&OPS, queries, keys, d, scale, scores, stride),
    ..crate::simd::scalar::vector::OPS
};

fn dots(query: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) {
    let d = query.len();
    if d == 0 || !d.is_multiple_of(16) {
        return crate::simd::scalar::vector::dots(query, keys, scale, scores);
    }
    let (blocks, rest) = scores.as_chunks_mut::<4>();
    let (first, last) = keys[..(4 * blocks.len() + rest.len()) * d].split_at(4 * blocks.len() * d);
    for (scores, keys) in blocks.iter_mut().zip(first.chunks_exact(4 * d)) {
        *scores = block::<4>(query, keys).map(|sum| sum * scale);
    }
    for (score, key) in rest.iter_mut().zip(last.chunks_exact(d)) {
        *score = block::<1>(query, key)[0] * scale;
    }
}

/// `N` dot products; `query` is whole chunks of 16, `keys` is `[N, query.len()]`.
#[inline(always)]
fn block<const N: usize>(query: &[f32], keys: &[f32]) -> [f32; N] {
    let d = query.len();
    assert!(keys.len() == N * d && d.is_multiple_of(16), "N keys of whole chunks");
    // SAFETY: NEON is part of every AArch64 build; loads end at `n * d + c + 16 <= N * d` and `c + 16 <= d`.
    unsafe {
        let mut sums = [[vdupq_n_f32(0.0); 4]; N];
        for c in (0..d).step_by(16) {
            for (n, sums) in sums.iter_mut().enumerate() {
                for (part, sum) in sums.iter_mut().enumerate() {
                    let q = vld1q_f32(query.as_ptr().add(c + 4 * part));
                    let key = vld1q_f32(keys.as_ptr().add(n * d + c + 4 * part));
                    *sum = vfmaq_f32(*sum, q, key);
                }
            }
        }
        sums.map(tree)
    }
}

/// Lanes 0+8 …, 0+4 …, 0+2 …, 0+1.
#[inline(always)]
fn tree(x: [float32x4_t; 4]) -> f32 {
    // SAFETY: NEON is part of every AArch64 build.
    unsafe {
        let four = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
        let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
        vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
    }
}
