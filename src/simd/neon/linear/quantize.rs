//! Activations to NVFP4, one block at a time.

use std::arch::aarch64::*;

use crate::numeric::e4m3;
use crate::simd::linear::{ACTIVATION_SCALE, ActivationTile, BLOCK, TILE};

/// See [`Ops::quantize`](crate::simd::linear::Ops).
pub fn quantize(x: &[f32; TILE], divisor: f32, tile: &mut ActivationTile) {
    *tile = ActivationTile::ZERO;
    let multiplier = 1.0 / divisor;
    for (block, (x, codes)) in x.as_chunks::<BLOCK>().0.iter().zip(tile.codes.as_chunks_mut::<BLOCK>().0).enumerate() {
        // SAFETY: this table exists only where NEON does.
        let largest = unsafe { largest(x) };
        if !largest.is_finite() {
            tile.scales[block] = f32::NAN;
            continue;
        }
        let scale = e4m3::decode(e4m3::encode(divisor * (largest * (1.0 / 6.0))));
        let inverse = 1.0 / (scale * multiplier);
        if inverse.is_finite() {
            tile.scales[block] = scale * ACTIVATION_SCALE;
            // SAFETY: as above.
            tile.offsets[block] = -12 * unsafe { encode(x, inverse, codes) };
        }
    }
}

/// Largest magnitude; magnitudes compare as integers, infinities and NaN are the largest.
#[target_feature(enable = "neon")]
fn largest(x: &[f32; BLOCK]) -> f32 {
    // SAFETY: sixteen values.
    let x = [0, 4, 8, 12].map(|i| unsafe { vandq_u32(vreinterpretq_u32_f32(vld1q_f32(x.as_ptr().add(i))), vdupq_n_u32(0x7FFF_FFFF)) });
    f32::from_bits(vmaxvq_u32(vmaxq_u32(vmaxq_u32(x[0], x[1]), vmaxq_u32(x[2], x[3]))))
}

/// Writes twice the nearest E2M1 values of `x · inverse`, ties to even, saturating at ±12; returns their sum. The grid's step
/// doubles at 2 and at 4, so a magnitude is rounded to an integer in units of its step.
#[target_feature(enable = "neon")]
fn encode(x: &[f32; BLOCK], inverse: f32, codes: &mut [i8; BLOCK]) -> i32 {
    let codes_of = |i: usize| {
        // SAFETY: sixteen values.
        let x = unsafe { vld1q_f32(x.as_ptr().add(i)) };
        let a = vminq_f32(vabsq_f32(vmulq_n_f32(x, inverse)), vdupq_n_f32(6.0));
        let (from_2, from_4) = (vcgeq_f32(a, vdupq_n_f32(2.0)), vcgeq_f32(a, vdupq_n_f32(4.0)));
        let per_step = vbslq_f32(from_4, vdupq_n_f32(0.5), vbslq_f32(from_2, vdupq_n_f32(1.0), vdupq_n_f32(2.0)));
        let doublings = vnegq_s32(vreinterpretq_s32_u32(vaddq_u32(from_2, from_4))); // 0, 1, 2
        let magnitude = vshlq_s32(vcvtnq_s32_f32(vmulq_f32(a, per_step)), doublings);
        vbslq_s32(vcltzq_s32(vreinterpretq_s32_f32(x)), vnegq_s32(magnitude), magnitude)
    };
    let v = [0, 4, 8, 12].map(codes_of);
    let halves = [0, 2].map(|i| vmovn_s16(vcombine_s16(vmovn_s32(v[i]), vmovn_s32(v[i + 1]))));
    // SAFETY: sixteen codes.
    unsafe { vst1q_s8(codes.as_mut_ptr(), vcombine_s8(halves[0], halves[1])) };
    vaddvq_s32(vaddq_s32(vaddq_s32(v[0], v[1]), vaddq_s32(v[2], v[3])))
}
