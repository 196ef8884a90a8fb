//! Norms, attention and elementwise loops over f32: the plain loops, compiled for this instruction set, but for the dot
//! products, whose sums the compiler spills (measured: 15 times slower), and the small floats of quantized caches.
//!
//! Small floats become f32 by way of f16, for which there is an instruction. E4M3 shifted left by 7 is the f16 of 2⁻⁸ times
//! its value, subnormals included; E2M1 is the upper byte of an f16, looked up.

use std::arch::x86_64::{
    __m128i, __m256, _mm_add_ps, _mm_add_ss, _mm_and_si128, _mm_cvtss_f32, _mm_loadl_epi64, _mm_loadu_si128, _mm_movehl_ps, _mm_set1_epi8,
    _mm_set1_epi16, _mm_setr_epi8, _mm_setzero_si128, _mm_shuffle_epi8, _mm_shuffle_ps, _mm_srli_epi16, _mm_unpackhi_epi8,
    _mm_unpacklo_epi8, _mm256_add_ps, _mm256_and_si256, _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cmpeq_epi16,
    _mm256_cvtepu8_epi16, _mm256_cvtph_ps, _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_mul_ps, _mm256_or_si256, _mm256_set1_epi16, _mm256_set1_ps, _mm256_setzero_ps, _mm256_slli_epi16, _mm256_storeu_ps,
};

use half::bf16;

use crate::simd::avx2::attention;
use crate::simd::vector::Ops;
use crate::simd::vector::recompile;

recompile!("avx2,fma,f16c");

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

/// `2⁸`: what E4M3 read as f16 lacks.
const LIFT: f32 = 256.0;

pub fn widen_e4m3_halves(x: &[u8], scale: f32, out: &mut [f32]) {
    // Scales near the ends of f32 would not survive the lift.
    if !(1e-30..1e30).contains(&scale) {
        return widen_e4m3(x, scale, out);
    }
    let (whole, rest) = x.as_chunks::<16>();
    let (wide, wide_rest) = out[..x.len()].as_chunks_mut::<16>();
    // SAFETY: this table is handed out only where the CPU has these features.
    unsafe { e4m3_blocks(whole, scale, wide) };
    widen_e4m3(rest, scale, wide_rest);
}

#[target_feature(enable = "avx2,f16c")]
fn e4m3_blocks(x: &[[u8; 16]], scale: f32, out: &mut [[f32; 16]]) {
    let factor = _mm256_set1_ps(scale * LIFT);
    let magnitudes = _mm256_set1_epi16(0x7F);
    for (x, out) in x.iter().zip(out) {
        // SAFETY: 16 bytes.
        let bytes = _mm256_cvtepu8_epi16(unsafe { _mm_loadu_si128(x.as_ptr().cast()) });
        let magnitude = _mm256_and_si256(bytes, magnitudes);
        let sign = _mm256_slli_epi16::<8>(_mm256_and_si256(bytes, _mm256_set1_epi16(0x80)));
        let nan = _mm256_cmpeq_epi16(magnitude, magnitudes);
        let halves = _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16::<7>(magnitude), sign), nan);
        store_halves(_mm256_castsi256_si128(halves), _mm256_extracti128_si256::<1>(halves), factor, out);
    }
}

/// Sixteen f16 times `factor`.
#[target_feature(enable = "avx2,f16c")]
fn store_halves(low: __m128i, high: __m128i, factor: __m256, out: &mut [f32; 16]) {
    // SAFETY: 16 elements.
    unsafe {
        _mm256_storeu_ps(out.as_mut_ptr(), _mm256_mul_ps(_mm256_cvtph_ps(low), factor));
        _mm256_storeu_ps(out.as_mut_ptr().add(8), _mm256_mul_ps(_mm256_cvtph_ps(high), factor));
    }
}

pub fn widen_nvfp4_halves(codes: &[u8], block_scales: &[u8], tensor_scale: f32, out: &mut [f32]) {
    let (codes, _) = codes.as_chunks::<8>();
    let (out, _) = out.as_chunks_mut::<16>();
    // SAFETY: this table is handed out only where the CPU has these features.
    unsafe { nvfp4_blocks(codes, block_scales, tensor_scale, out) }
}

#[target_feature(enable = "avx2,f16c")]
fn nvfp4_blocks(codes: &[[u8; 8]], block_scales: &[u8], tensor_scale: f32, out: &mut [[f32; 16]]) {
    // Upper bytes of the f16 of 0, 0.5, 1, 1.5, 2, 3, 4, 6; their lower bytes are 0.
    let upper = _mm_setr_epi8(0, 0x38, 0x3C, 0x3E, 0x40, 0x42, 0x44, 0x46, -128, -72, -68, -66, -64, -62, -60, -58);
    let nibble = _mm_set1_epi8(15);
    let (tensor_scale, lift) = (_mm256_set1_ps(tensor_scale), _mm256_set1_ps(LIFT));
    for ((codes, &scale), out) in codes.iter().zip(block_scales).zip(out) {
        // Block scales of a cache are finite and not negative.
        let block_scale = _mm256_mul_ps(_mm256_cvtph_ps(_mm_set1_epi16(i16::from(scale) << 7)), lift);
        // SAFETY: 8 bytes.
        let bytes = unsafe { _mm_loadl_epi64(codes.as_ptr().cast()) };
        let low = _mm_and_si128(bytes, nibble);
        let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), nibble);
        let elements = _mm_shuffle_epi8(upper, _mm_unpacklo_epi8(low, high));
        let zero = _mm_setzero_si128();
        let halves = (_mm_unpacklo_epi8(zero, elements), _mm_unpackhi_epi8(zero, elements));
        store_halves(halves.0, halves.1, _mm256_mul_ps(block_scale, tensor_scale), out);
    }
}
