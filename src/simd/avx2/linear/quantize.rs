//! Activations to NVFP4, four blocks at once.

use std::arch::x86_64::*;

use crate::simd::linear::{ACTIVATION_SCALE, ActivationTile, TILE};
use crate::simd::scalar;

/// See [`Ops::quantize`](crate::simd::linear::Ops).
pub fn quantize(x: &[f32; TILE], divisor: f32, tile: &mut ActivationTile) {
    // SAFETY: this table exists only where AVX2, FMA and F16C do.
    if !unsafe { quantize_finite(x, divisor, tile) } {
        scalar::linear::quantize(x, divisor, tile);
    }
}

/// Returns `false`, and leaves `tile` as it is, where `x` holds NaN or infinity.
#[target_feature(enable = "avx2,fma,f16c")]
fn quantize_finite(x: &[f32; TILE], divisor: f32, tile: &mut ActivationTile) -> bool {
    let sign = _mm256_set1_epi32(i32::MIN);
    // SAFETY: eight times eight values.
    let x: [__m256i; 8] = std::array::from_fn(|i| unsafe { _mm256_loadu_si256(x.as_ptr().add(8 * i).cast()) });
    // Magnitudes compare as integers.
    let largest = reduce(
        std::array::from_fn(|b| _mm256_max_epi32(_mm256_andnot_si256(sign, x[2 * b]), _mm256_andnot_si256(sign, x[2 * b + 1]))),
        |a, b| _mm_max_epi32(a, b),
    );
    if _mm_movemask_epi8(_mm_cmpgt_epi32(largest, _mm_set1_epi32(f32::MAX.to_bits() as i32))) != 0 {
        return false;
    }
    let b = _mm_mul_ps(_mm_set1_ps(divisor), _mm_mul_ps(_mm_castsi128_ps(largest), _mm_set1_ps(1.0 / 6.0)));
    let s = round_e4m3(_mm_min_ps(b, _mm_set1_ps(448.0)));
    let inverse = _mm_div_ps(_mm_set1_ps(1.0), _mm_mul_ps(s, _mm_set1_ps(1.0 / divisor)));
    let finite = _mm_cmplt_ps(inverse, _mm_set1_ps(f32::INFINITY));
    let (s, inverse) = (_mm_and_ps(s, finite), _mm_and_ps(inverse, finite));

    let inverse = _mm256_castps128_ps256(inverse);
    let codes: [__m256i; 8] = std::array::from_fn(|i| {
        let inverse = _mm256_permutevar8x32_ps(inverse, _mm256_set1_epi32((i / 2) as i32));
        let q = _mm256_mul_ps(_mm256_castsi256_ps(x[i]), inverse);
        _mm256_sign_epi32(doubled_e2m1(_mm256_castsi256_ps(_mm256_andnot_si256(sign, _mm256_castps_si256(q)))), x[i])
    });
    let sums = reduce(std::array::from_fn(|b| _mm256_add_epi32(codes[2 * b], codes[2 * b + 1])), |a, b| _mm_add_epi32(a, b));
    let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    // SAFETY: the tile has 64 codes and four scales and offsets.
    unsafe {
        for half in 0..2 {
            let [a, b, c, d] = [codes[4 * half], codes[4 * half + 1], codes[4 * half + 2], codes[4 * half + 3]];
            let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
            _mm256_storeu_si256(tile.codes.as_mut_ptr().add(32 * half).cast(), _mm256_permutevar8x32_epi32(bytes, order));
        }
        _mm_storeu_ps(tile.scales.as_mut_ptr(), _mm_mul_ps(s, _mm_set1_ps(ACTIVATION_SCALE)));
        _mm_storeu_si128(tile.offsets.as_mut_ptr().cast(), _mm_mullo_epi32(sums, _mm_set1_epi32(-12)));
    }
    true
}

/// Joins the eight lanes of each of four registers, into one lane each.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn reduce(v: [__m256i; 4], join: impl Fn(__m128i, __m128i) -> __m128i) -> __m128i {
    let v = v.map(|v| join(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v)));
    let ab = join(_mm_unpacklo_epi32(v[0], v[1]), _mm_unpackhi_epi32(v[0], v[1]));
    let cd = join(_mm_unpacklo_epi32(v[2], v[3]), _mm_unpackhi_epi32(v[2], v[3]));
    join(_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd))
}

/// Values from 0 to 448 to the nearest E4M3 value, ties to even.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn round_e4m3(x: __m128) -> __m128 {
    // Keep three mantissa bits; a carry moves into the exponent as it should.
    let bits = _mm_castps_si128(x);
    let odd = _mm_and_si128(_mm_srli_epi32::<20>(bits), _mm_set1_epi32(1));
    let rounded = _mm_add_epi32(_mm_add_epi32(bits, _mm_set1_epi32(0x0007_FFFF)), odd);
    let normal = _mm_castsi128_ps(_mm_and_si128(rounded, _mm_set1_epi32(0xFFF0_0000_u32 as i32)));
    // Below 2⁻⁶ the grid is 2⁻⁹, that of f32 from 2¹⁴ on.
    let big = _mm_set1_ps(16384.0);
    let small = _mm_sub_ps(_mm_add_ps(x, big), big);
    _mm_blendv_ps(normal, small, _mm_cmplt_ps(x, _mm_set1_ps(0.015_625)))
}

/// Magnitudes to twice the nearest E2M1 value, ties to even, saturating at 12. The grid's step doubles at 2 and at 4, so a
/// value is rounded to an integer in units of its step.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn doubled_e2m1(a: __m256) -> __m256i {
    let a = _mm256_min_ps(a, _mm256_set1_ps(6.0));
    let (from_2, from_4) = (_mm256_cmp_ps::<_CMP_GE_OQ>(a, _mm256_set1_ps(2.0)), _mm256_cmp_ps::<_CMP_GE_OQ>(a, _mm256_set1_ps(4.0)));
    let per_step = _mm256_blendv_ps(_mm256_blendv_ps(_mm256_set1_ps(2.0), _mm256_set1_ps(1.0), from_2), _mm256_set1_ps(0.5), from_4);
    let doublings = _mm256_add_epi32(_mm256_castps_si256(from_2), _mm256_castps_si256(from_4)); // 0, −1, −2
    let steps = _mm256_cvtps_epi32(_mm256_mul_ps(a, per_step));
    _mm256_sllv_epi32(steps, _mm256_sub_epi32(_mm256_setzero_si256(), doublings))
}
