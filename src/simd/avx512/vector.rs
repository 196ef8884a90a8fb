//! Norms, attention and elementwise loops over f32: the plain loops, compiled for this instruction set, but for the dot
//! products, whose sums the compiler spills, and the small floats and attention over bf16, which are AVX2's (a part of AVX-512).

use std::arch::x86_64::{
    __m512, _mm_add_ps, _mm_add_ss, _mm_cvtss_f32, _mm_movehl_ps, _mm_shuffle_ps, _mm256_add_ps, _mm256_castpd_ps, _mm256_castps256_ps128,
    _mm256_extractf128_ps, _mm512_castps_pd, _mm512_castps512_ps256, _mm512_extractf64x4_pd, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_setzero_ps,
};

use half::bf16;

use crate::simd::avx2::attention;
use crate::simd::avx2::vector::{widen_e4m3_halves, widen_nvfp4_halves};
use crate::simd::vector::Ops;
use crate::simd::vector::recompile;

recompile!("avx512f,avx512bw,avx512vl");

pub const OPS: Ops = Ops {
    dots: dots_in_registers,
    dots_bf16: attention::dots,
    weighted_sums_bf16: attention::weighted_sums,
    widen_e4m3: widen_e4m3_halves,
    widen_nvfp4: widen_nvfp4_halves,
    ..COMPILED
};

fn dots_in_registers(query: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) {
    let d = query.len();
    if d == 0 || !d.is_multiple_of(16) {
        return dots(query, keys, scale, scores);
    }
    let (blocks, rest) = scores.as_chunks_mut::<8>();
    let (first, last) = keys[..(8 * blocks.len() + rest.len()) * d].split_at(8 * blocks.len() * d);
    // SAFETY: this table is handed out only where the CPU has these features.
    unsafe {
        for (scores, keys) in blocks.iter_mut().zip(first.chunks_exact(8 * d)) {
            *scores = block::<8>(query, keys).map(|sum| sum * scale);
        }
        for (score, key) in rest.iter_mut().zip(last.chunks_exact(d)) {
            *score = block::<1>(query, key)[0] * scale;
        }
    }
}

/// `N` dot products; `query` is whole chunks of 16, `keys` is `[N, query.len()]`.
#[target_feature(enable = "avx512f")]
fn block<const N: usize>(query: &[f32], keys: &[f32]) -> [f32; N] {
    let d = query.len();
    assert!(keys.len() == N * d && d.is_multiple_of(16), "N keys of whole chunks");
    let mut sums = [_mm512_setzero_ps(); N];
    for c in (0..d).step_by(16) {
        // SAFETY: `c + 16 <= d`.
        let q = unsafe { _mm512_loadu_ps(query.as_ptr().add(c)) };
        for (n, sum) in sums.iter_mut().enumerate() {
            // SAFETY: `n * d + c + 16 <= N * d`, the length of `keys`.
            let key = unsafe { _mm512_loadu_ps(keys.as_ptr().add(n * d + c)) };
            *sum = _mm512_fmadd_ps(q, key, *sum);
        }
    }
    sums.map(|sum| tree(sum))
}

/// Lanes 0+8 …, 0+4 …, 0+2 …, 0+1.
#[target_feature(enable = "avx512f")]
fn tree(x: __m512) -> f32 {
    let high = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)));
    let eight = _mm256_add_ps(_mm512_castps512_ps256(x), high);
    let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}
