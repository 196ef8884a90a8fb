//! Quantize and dequantize rows of 16-element blocks: sixteen lanes in two registers.

#![allow(clippy::wildcard_imports, reason = "dozens of intrinsics")]
#![allow(clippy::cast_ptr_alignment, reason = "the loads and stores are the unaligned ones")]

use std::arch::x86_64::*;

use half::{bf16, f16};

use crate::simd::codec::Ops;
use crate::simd::lanes::Lanes;

pub const OPS: Ops = crate::simd::codec::block_ops!("avx2,fma,f16c", Avx2);

/// Lanes 0 to 7 and 8 to 15.
struct Avx2;

type Pair<T> = (T, T);

/// Applies an intrinsic to both halves.
macro_rules! halves {
    ($f:ident($x:expr)) => {{
        let x = $x;
        // SAFETY: `Avx2` is named only by this file's table, which exists only where the CPU has AVX2, FMA and F16C.
        unsafe { ($f(x.0), $f(x.1)) }
    }};
    ($f:ident($x:expr, $y:expr)) => {{
        let (x, y) = ($x, $y);
        // SAFETY: as above.
        unsafe { ($f(x.0, y.0), $f(x.1, y.1)) }
    }};
    ($f:ident::<$n:ident>($x:expr)) => {{
        let x = $x;
        // SAFETY: as above.
        unsafe { ($f::<$n>(x.0), $f::<$n>(x.1)) }
    }};
}

impl Lanes for Avx2 {
    type F = Pair<__m256>;
    type I = Pair<__m256i>;

    #[inline(always)]
    fn splat(x: f32) -> Self::F {
        // SAFETY: the table exists only where the features do.
        let x = unsafe { _mm256_set1_ps(x) };
        (x, x)
    }
    #[inline(always)]
    fn splat_int(x: i32) -> Self::I {
        // SAFETY: the table exists only where the features do.
        let x = unsafe { _mm256_set1_epi32(x) };
        (x, x)
    }
    #[inline(always)]
    fn load_f32(x: &[f32; 16]) -> Self::F {
        let x = x.as_ptr();
        // SAFETY: both reads lie within the sixteen elements; the table exists only where the features do.
        unsafe { (_mm256_loadu_ps(x), _mm256_loadu_ps(x.add(8))) }
    }
    #[inline(always)]
    fn load_f16(x: &[f16; 16]) -> Self::F {
        let x = x.as_ptr().cast::<__m128i>();
        // SAFETY: both reads lie within the sixteen elements; the table exists only where the features do.
        unsafe { (_mm256_cvtph_ps(_mm_loadu_si128(x)), _mm256_cvtph_ps(_mm_loadu_si128(x.add(1)))) }
    }
    #[inline(always)]
    fn load_bf16(x: &[bf16; 16]) -> Self::F {
        let x = x.as_ptr().cast::<__m128i>();
        // SAFETY: both reads lie within the sixteen elements; the table exists only where the features do.
        let wide = unsafe { (_mm256_cvtepu16_epi32(_mm_loadu_si128(x)), _mm256_cvtepu16_epi32(_mm_loadu_si128(x.add(1)))) };
        Self::float(Self::shl::<16>(wide))
    }
    #[inline(always)]
    fn store_f32(x: Self::F, out: &mut [f32; 16]) {
        let out = out.as_mut_ptr();
        // SAFETY: both writes lie within the sixteen elements; the table exists only where the features do.
        unsafe {
            _mm256_storeu_ps(out, x.0);
            _mm256_storeu_ps(out.add(8), x.1);
        }
    }
    #[inline(always)]
    fn store_f16(x: Self::F, out: &mut [f16; 16]) {
        let out = out.as_mut_ptr().cast::<__m128i>();
        // SAFETY: both writes lie within the sixteen elements; the table exists only where the features do.
        unsafe {
            _mm_storeu_si128(out, _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.0));
            _mm_storeu_si128(out.add(1), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.1));
        }
    }
    #[inline(always)]
    fn store_bf16(x: Self::F, out: &mut [bf16; 16]) {
        let upper = Self::shr::<16>(Self::bits(x));
        // SAFETY: the write covers the sixteen elements; the table exists only where the features do.
        unsafe {
            // Packing works within 128-bit lanes: put the quarters in order.
            let packed = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(upper.0, upper.1));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), packed);
        }
    }
    #[inline(always)]
    fn round_f16(x: Self::F) -> Self::F {
        // SAFETY: the table exists only where the features do.
        unsafe {
            (
                _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.0)),
                _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x.1)),
            )
        }
    }

    #[inline(always)]
    fn add(x: Self::F, y: Self::F) -> Self::F {
        halves!(_mm256_add_ps(x, y))
    }
    #[inline(always)]
    fn sub(x: Self::F, y: Self::F) -> Self::F {
        halves!(_mm256_sub_ps(x, y))
    }
    #[inline(always)]
    fn mul(x: Self::F, y: Self::F) -> Self::F {
        halves!(_mm256_mul_ps(x, y))
    }
    #[inline(always)]
    fn div(x: Self::F, y: Self::F) -> Self::F {
        halves!(_mm256_div_ps(x, y))
    }
    #[inline(always)]
    fn min(x: Self::F, limit: Self::F) -> Self::F {
        // The instruction returns its second operand where either is NaN.
        halves!(_mm256_min_ps(x, limit))
    }
    #[inline(always)]
    fn max(x: Self::F, y: Self::F) -> Self::F {
        halves!(_mm256_max_ps(x, y))
    }
    #[inline(always)]
    fn abs(x: Self::F) -> Self::F {
        halves!(_mm256_and_ps(x, Self::float(Self::splat_int(i32::MAX))))
    }

    #[inline(always)]
    fn bits(x: Self::F) -> Self::I {
        halves!(_mm256_castps_si256(x))
    }
    #[inline(always)]
    fn float(x: Self::I) -> Self::F {
        halves!(_mm256_castsi256_ps(x))
    }
    #[inline(always)]
    fn to_int(x: Self::F) -> Self::I {
        halves!(_mm256_cvtps_epi32(x))
    }
    #[inline(always)]
    fn to_float(x: Self::I) -> Self::F {
        halves!(_mm256_cvtepi32_ps(x))
    }
    #[inline(always)]
    fn add_int(x: Self::I, y: Self::I) -> Self::I {
        halves!(_mm256_add_epi32(x, y))
    }
    #[inline(always)]
    fn sub_int(x: Self::I, y: Self::I) -> Self::I {
        halves!(_mm256_sub_epi32(x, y))
    }
    #[inline(always)]
    fn max_int(x: Self::I, y: Self::I) -> Self::I {
        halves!(_mm256_max_epi32(x, y))
    }
    #[inline(always)]
    fn and(x: Self::I, y: Self::I) -> Self::I {
        halves!(_mm256_and_si256(x, y))
    }
    #[inline(always)]
    fn or(x: Self::I, y: Self::I) -> Self::I {
        halves!(_mm256_or_si256(x, y))
    }
    #[inline(always)]
    fn shr<const BITS: i32>(x: Self::I) -> Self::I {
        halves!(_mm256_srli_epi32::<BITS>(x))
    }
    #[inline(always)]
    fn shl<const BITS: i32>(x: Self::I) -> Self::I {
        halves!(_mm256_slli_epi32::<BITS>(x))
    }
    #[inline(always)]
    fn select_lt(x: Self::F, y: Self::F, then: Self::I, other: Self::I) -> Self::I {
        // SAFETY: the table exists only where the features do.
        unsafe {
            let below =
                (_mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(x.0, y.0)), _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(x.1, y.1)));
            (_mm256_blendv_epi8(other.0, then.0, below.0), _mm256_blendv_epi8(other.1, then.1, below.1))
        }
    }

    #[inline(always)]
    fn largest(x: Self::F) -> f32 {
        // SAFETY: the table exists only where the features do.
        unsafe {
            let eight = _mm256_max_ps(x.0, x.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn first_smallest(x: Self::F) -> (f32, usize) {
        // SAFETY: the table exists only where the features do.
        unsafe {
            let eight = _mm256_min_ps(x.0, x.1);
            let four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_min_ps(four, _mm_movehl_ps(four, four));
            let least = _mm_min_ss(two, _mm_movehdup_ps(two));
            let all = _mm256_broadcastss_ps(least);
            let low = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(x.0, all)) as u32;
            let high = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_EQ_OQ>(x.1, all)) as u32;
            (_mm_cvtss_f32(least), (low | high << 8).trailing_zeros() as usize)
        }
    }
    #[inline(always)]
    fn fold(x: Self::F) -> f32 {
        // SAFETY: the table exists only where the features do.
        unsafe {
            let eight = _mm256_add_ps(x.0, x.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn pack_nibbles(x: Self::I) -> [u8; 8] {
        // SAFETY: the table exists only where the features do.
        unsafe {
            // Elements in 16 bits: 0..4 and 8..12 in the lower half, 4..8 and 12..16 in the upper.
            let words = _mm256_packs_epi32(x.0, x.1);
            // even + 16 · odd
            let pairs = _mm256_madd_epi16(words, _mm256_set1_epi32(16 << 16 | 1));
            let bytes = _mm256_packus_epi16(_mm256_packs_epi32(pairs, pairs), _mm256_setzero_si256());
            let ordered = _mm_unpacklo_epi16(_mm256_castsi256_si128(bytes), _mm256_extracti128_si256::<1>(bytes));
            _mm_cvtsi128_si64(ordered).to_le_bytes()
        }
    }
    #[inline(always)]
    fn unpack_nibbles(x: [u8; 8]) -> Self::I {
        // SAFETY: the table exists only where the features do.
        unsafe {
            let bytes = _mm_cvtsi64_si128(i64::from_le_bytes(x));
            let mask = _mm_set1_epi8(15);
            let low = _mm_and_si128(bytes, mask);
            let high = _mm_and_si128(_mm_srli_epi16::<4>(bytes), mask);
            let nibbles = _mm_unpacklo_epi8(low, high);
            (_mm256_cvtepu8_epi32(nibbles), _mm256_cvtepu8_epi32(_mm_unpackhi_epi64(nibbles, nibbles)))
        }
    }
    #[inline(always)]
    fn pack_bytes(x: Self::I) -> [u8; 16] {
        let mut out = [0; 16];
        // SAFETY: the write covers the sixteen bytes; the table exists only where the features do.
        unsafe {
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(x.0, x.1));
            let bytes = _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
        }
        out
    }
    #[inline(always)]
    fn lookup(table: Self::F, index: Self::I) -> Self::F {
        // SAFETY: the table exists only where the features do.
        unsafe { (_mm256_permutevar8x32_ps(table.0, index.0), _mm256_permutevar8x32_ps(table.0, index.1)) }
    }

    #[inline(always)]
    fn absmax_f32(x: &[f32]) -> u32 {
        let (blocks, rest) = x.as_chunks::<16>();
        let magnitude = |x| Self::and(Self::bits(x), Self::splat_int(i32::MAX));
        let mut chains = [Self::splat_int(0); 2];
        let (pairs, last) = blocks.as_chunks::<2>();
        for pair in pairs {
            for (chain, block) in chains.iter_mut().zip(pair) {
                *chain = Self::max_int(*chain, magnitude(Self::load_f32(block)));
            }
        }
        for block in last {
            chains[0] = Self::max_int(chains[0], magnitude(Self::load_f32(block)));
        }
        let mut lanes = [0.0; 16];
        Self::store_f32(Self::float(Self::max_int(chains[0], chains[1])), &mut lanes);
        lanes.iter().chain(rest).map(|x| x.to_bits() & 0x7FFF_FFFF).max().unwrap_or(0)
    }
    #[inline(always)]
    fn absmax_16(x: &[u16]) -> u16 {
        let (runs, rest) = x.as_chunks::<64>();
        let mut lanes = [[0_u16; 16]; 4];
        // SAFETY: reads lie within the 64 elements of a run, writes within the 16 of a lane; the table exists only where
        // the features do.
        unsafe {
            let mask = _mm256_set1_epi16(i16::MAX);
            let mut chains = [_mm256_setzero_si256(); 4];
            for run in runs {
                let run = run.as_ptr().cast::<__m256i>();
                for (i, chain) in chains.iter_mut().enumerate() {
                    *chain = _mm256_max_epu16(*chain, _mm256_and_si256(_mm256_loadu_si256(run.add(i)), mask));
                }
            }
            for (chain, lanes) in chains.iter().zip(&mut lanes) {
                _mm256_storeu_si256(lanes.as_mut_ptr().cast(), *chain);
            }
        }
        lanes.iter().flatten().chain(rest).map(|x| x & 0x7FFF).max().unwrap_or(0)
    }
}
