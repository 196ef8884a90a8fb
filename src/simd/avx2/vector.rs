//! Norms, attention and elementwise loops over f32: the plain loops, compiled for this instruction set, but for the dot
//! products, whose sums the compiler spills (measured: 15 times slower).

use std::arch::x86_64::{
    __m256, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps, _mm256_castps256_ps128,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps,
};

use half::bf16;

use crate::simd::vector::Ops;
use crate::simd::vector::recompile;

recompile!("avx2,fma,f16c");

pub const OPS: Ops = Ops { dots: dots_in_registers, ..COMPILED };

fn dots_in_registers(query: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) {
    let d = query.len();
    if d == 0 || !d.is_multiple_of(16) {
        return dots(query, keys, scale, scores);
    }
    let (blocks, rest) = scores.as_chunks_mut::<4>();
    let (first, last) = keys[..(4 * blocks.len() + rest.len()) * d].split_at(4 * blocks.len() * d);
    // SAFETY: this table is handed out only where the CPU has these features.
    unsafe {
        for (scores, keys) in blocks.iter_mut().zip(first.chunks_exact(4 * d)) {
            *scores = block::<4>(query, keys).map(|sum| sum * scale);
        }
        for (score, key) in rest.iter_mut().zip(last.chunks_exact(d)) {
            *score = block::<1>(query, key)[0] * scale;
        }
    }
}

/// `N` dot products; `query` is whole chunks of 16, `keys` is `[N, query.len()]`.
#[target_feature(enable = "avx2,fma")]
fn block<const N: usize>(query: &[f32], keys: &[f32]) -> [f32; N] {
    let d = query.len();
    assert!(keys.len() == N * d && d.is_multiple_of(16), "N keys of whole chunks");
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    for c in (0..d).step_by(16) {
        // SAFETY: `c + 16 <= d`.
        let q = unsafe { [_mm256_loadu_ps(query.as_ptr().add(c)), _mm256_loadu_ps(query.as_ptr().add(c + 8))] };
        for (n, sum) in sums.iter_mut().enumerate() {
            let at = n * d + c;
            // SAFETY: `n * d + c + 16 <= N * d`, the length of `keys`.
            let key = unsafe { [_mm256_loadu_ps(keys.as_ptr().add(at)), _mm256_loadu_ps(keys.as_ptr().add(at + 8))] };
            *sum = [_mm256_fmadd_ps(q[0], key[0], sum[0]), _mm256_fmadd_ps(q[1], key[1], sum[1])];
        }
    }
    sums.map(|[low, high]| tree(_mm256_add_ps(low, high)))
}

/// Lanes 0+4 …, 0+2 …, 0+1.
#[target_feature(enable = "avx2")]
fn tree(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}
