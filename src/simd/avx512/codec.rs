//! Quantize and dequantize rows of 16-element blocks: sixteen lanes in one register.

#![allow(clippy::wildcard_imports, reason = "dozens of intrinsics")]
#![allow(clippy::cast_ptr_alignment, reason = "the loads and stores are the unaligned ones")]

use std::arch::x86_64::*;

use half::{bf16, f16};

use crate::simd::codec::Ops;
use crate::simd::lanes::Lanes;

pub const OPS: Ops = crate::simd::codec::block_ops!("avx512f,avx512bw,avx512vl,avx2,fma,f16c", Avx512);

struct Avx512;

/// Calls intrinsics. `Avx512` is named only by this file's table, which exists only where the CPU has the features.
macro_rules! call {
    ($($body:tt)*) => {
        // SAFETY: the table exists only where the features do, and no expression passed here touches memory.
        unsafe { $($body)* }
    };
}

impl Lanes for Avx512 {
    type F = __m512;
    type I = __m512i;

    #[inline(always)]
    fn splat(x: f32) -> Self::F {
        call!(_mm512_set1_ps(x))
    }
    #[inline(always)]
    fn splat_int(x: i32) -> Self::I {
        call!(_mm512_set1_epi32(x))
    }
    #[inline(always)]
    fn load_f32(x: &[f32; 16]) -> Self::F {
        // SAFETY: the read covers the sixteen elements; the table exists only where the features do.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }
    #[inline(always)]
    fn load_f16(x: &[f16; 16]) -> Self::F {
        // SAFETY: the read covers the sixteen elements; the table exists only where the features do.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }
    #[inline(always)]
    fn load_bf16(x: &[bf16; 16]) -> Self::F {
        // SAFETY: the read covers the sixteen elements; the table exists only where the features do.
        unsafe { _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(_mm256_loadu_si256(x.as_ptr().cast())))) }
    }
    #[inline(always)]
    fn store_f32(x: Self::F, out: &mut [f32; 16]) {
        // SAFETY: the write covers the sixteen elements; the table exists only where the features do.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) }
    }
    #[inline(always)]
    fn store_f16(x: Self::F, out: &mut [f16; 16]) {
        // SAFETY: the write covers the sixteen elements; the table exists only where the features do.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }
    #[inline(always)]
    fn store_bf16(x: Self::F, out: &mut [bf16; 16]) {
        // SAFETY: the write covers the sixteen elements; the table exists only where the features do.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(_mm512_castps_si512(x)))) }
    }
    #[inline(always)]
    fn round_f16(x: Self::F) -> Self::F {
        call!(_mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)))
    }

    #[inline(always)]
    fn add(x: Self::F, y: Self::F) -> Self::F {
        call!(_mm512_add_ps(x, y))
    }
    #[inline(always)]
    fn sub(x: Self::F, y: Self::F) -> Self::F {
        call!(_mm512_sub_ps(x, y))
    }
    #[inline(always)]
    fn mul(x: Self::F, y: Self::F) -> Self::F {
        call!(_mm512_mul_ps(x, y))
    }
    #[inline(always)]
    fn div(x: Self::F, y: Self::F) -> Self::F {
        call!(_mm512_div_ps(x, y))
    }
    #[inline(always)]
    fn min(x: Self::F, limit: Self::F) -> Self::F {
        // The instruction returns its second operand where either is NaN.
        call!(_mm512_min_ps(x, limit))
    }
    #[inline(always)]
    fn max(x: Self::F, y: Self::F) -> Self::F {
        call!(_mm512_max_ps(x, y))
    }
    #[inline(always)]
    fn abs(x: Self::F) -> Self::F {
        call!(_mm512_abs_ps(x))
    }

    #[inline(always)]
    fn bits(x: Self::F) -> Self::I {
        call!(_mm512_castps_si512(x))
    }
    #[inline(always)]
    fn float(x: Self::I) -> Self::F {
        call!(_mm512_castsi512_ps(x))
    }
    #[inline(always)]
    fn to_int(x: Self::F) -> Self::I {
        call!(_mm512_cvtps_epi32(x))
    }
    #[inline(always)]
    fn to_float(x: Self::I) -> Self::F {
        call!(_mm512_cvtepi32_ps(x))
    }
    #[inline(always)]
    fn add_int(x: Self::I, y: Self::I) -> Self::I {
        call!(_mm512_add_epi32(x, y))
    }
    #[inline(always)]
    fn sub_int(x: Self::I, y: Self::I) -> Self::I {
        call!(_mm512_sub_epi32(x, y))
    }
    #[inline(always)]
    fn max_int(x: Self::I, y: Self::I) -> Self::I {
        call!(_mm512_max_epi32(x, y))
    }
    #[inline(always)]
    fn and(x: Self::I, y: Self::I) -> Self::I {
        call!(_mm512_and_si512(x, y))
    }
    #[inline(always)]
    fn or(x: Self::I, y: Self::I) -> Self::I {
        call!(_mm512_or_si512(x, y))
    }
    #[inline(always)]
    fn shr<const BITS: i32>(x: Self::I) -> Self::I {
        // A shift by a count in a register: a const of another type cannot be derived from `BITS`.
        call!(_mm512_srl_epi32(x, _mm_cvtsi32_si128(BITS)))
    }
    #[inline(always)]
    fn shl<const BITS: i32>(x: Self::I) -> Self::I {
        call!(_mm512_sll_epi32(x, _mm_cvtsi32_si128(BITS)))
    }
    #[inline(always)]
    fn select_lt(x: Self::F, y: Self::F, then: Self::I, other: Self::I) -> Self::I {
        call!(_mm512_mask_mov_epi32(other, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, y), then))
    }

    #[inline(always)]
    fn largest(x: Self::F) -> f32 {
        call!(_mm512_reduce_max_ps(x))
    }
    #[inline(always)]
    fn first_smallest(x: Self::F) -> (f32, usize) {
        call! {
            let least = _mm512_reduce_min_ps(x);
            let places = _mm512_cmp_ps_mask::<_CMP_EQ_OQ>(x, _mm512_set1_ps(least));
            (least, u32::from(places).trailing_zeros() as usize)
        }
    }
    #[inline(always)]
    fn fold(x: Self::F) -> f32 {
        call! {
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(x)));
            let eight = _mm256_add_ps(_mm512_castps512_ps256(x), upper);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn pack_nibbles(x: Self::I) -> [u8; 8] {
        call! {
            // even + 16 · odd
            let pairs = _mm_maddubs_epi16(_mm512_cvtepi32_epi8(x), _mm_set1_epi16(16 << 8 | 1));
            _mm_cvtsi128_si64(_mm_packus_epi16(pairs, pairs)).to_le_bytes()
        }
    }
    #[inline(always)]
    fn unpack_nibbles(x: [u8; 8]) -> Self::I {
        call! {
            let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(x));
            let mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(bytes, mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask);
            _mm512_cvtepu8_epi32(_mm_unpacklo_epi8(low, high))
        }
    }
    #[inline(always)]
    fn pack_bytes(x: Self::I) -> [u8; 16] {
        let mut out = [0; 16];
        // SAFETY: the write covers the sixteen bytes; the table exists only where the features do.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(x)) }
        out
    }
    #[inline(always)]
    fn lookup(table: Self::F, index: Self::I) -> Self::F {
        call!(_mm512_permutexvar_ps(_mm512_and_si512(index, _mm512_set1_epi32(7)), table))
    }

    #[inline(always)]
    fn absmax_f32(x: &[f32]) -> u32 {
        let (runs, rest) = x.as_chunks::<64>();
        let mut chains = [Self::splat_int(0); 4];
        for run in runs {
            for (chain, block) in chains.iter_mut().zip(run.as_chunks::<16>().0) {
                *chain = Self::max_int(*chain, Self::bits(Self::abs(Self::load_f32(block))));
            }
        }
        let all = Self::max_int(Self::max_int(chains[0], chains[1]), Self::max_int(chains[2], chains[3]));
        let run = call!(_mm512_reduce_max_epi32(all)) as u32;
        rest.iter().map(|x| x.to_bits() & 0x7FFF_FFFF).fold(run, u32::max)
    }
    #[inline(always)]
    fn absmax_16(x: &[u16]) -> u16 {
        let (runs, rest) = x.as_chunks::<128>();
        let mut lanes = [[0_u16; 32]; 4];
        // SAFETY: reads lie within the 128 elements of a run, writes within the 32 of a lane; the table exists only where
        // the features do.
        unsafe {
            let mask = _mm512_set1_epi16(i16::MAX);
            let mut chains = [_mm512_setzero_si512(); 4];
            for run in runs {
                let run = run.as_ptr().cast::<__m512i>();
                for (i, chain) in chains.iter_mut().enumerate() {
                    *chain = _mm512_max_epu16(*chain, _mm512_and_si512(_mm512_loadu_si512(run.add(i)), mask));
                }
            }
            for (chain, lanes) in chains.iter().zip(&mut lanes) {
                _mm512_storeu_si512(lanes.as_mut_ptr().cast(), *chain);
            }
        }
        lanes.iter().flatten().chain(rest).map(|x| x & 0x7FFF).max().unwrap_or(0)
    }
}
