//! The one scale of a tensor.
//!
//! ```text
//! ModelOpt            S = A / 2688                              2688 = 6 · 448, the largest E2M1 times the largest E4M3
//! compressed-tensors  D = round_T(round_T(1 / max(A, tiny_T)) · 2688), and 1 where that is no finite number
//! four over six       S = A / 1536                              1536 = 6 · 256: 1.5 times a block scale still fits
//! sweep               S = A / 2688
//! ```
//!
//! `A` is the largest magnitude of the tensor, `T` its dtype. A tensor of zeros takes `S = 1`. For tensors that share a
//! scale (query, key and value; gate and up), take the largest `A` of the group.

use half::{bf16, f16};

use crate::error::{Error, Result};
use crate::nvfp4::TensorScale;
use crate::quantize::{Dialect, Dtype, Method, Options};
use crate::simd::codec::Recipe;

/// Largest E2M1 times largest E4M3.
const RANGE: f32 = 6.0 * 448.0;
/// The same, with room for block scales to grow by half.
const RANGE_FOUR_OVER_SIX: f32 = 6.0 * 256.0;
/// The smallest positive f32.
const SMALLEST: f32 = f32::from_bits(1);

/// The scale of a tensor whose largest magnitude is `absmax` and whose elements are of type `dtype`.
pub fn tensor_scale(absmax: f32, method: Method, dialect: Dialect, dtype: Dtype) -> TensorScale {
    match (method, dialect) {
        (Method::Nearest, Dialect::CompressedTensors) => TensorScale::Divisor(divisor(absmax, dtype)),
        (Method::Nearest | Method::Sweep, _) => TensorScale::Multiplier(multiplier(absmax, RANGE)),
        (Method::FourOverSix, _) => TensorScale::Multiplier(multiplier(absmax, RANGE_FOUR_OVER_SIX)),
    }
}

fn multiplier(absmax: f32, range: f32) -> f32 {
    // Magnitudes of some 10⁻⁴² and less would give a scale of 0, and lose what they hold.
    if absmax == 0.0 { 1.0 } else { (absmax / range).max(SMALLEST) }
}

fn divisor(absmax: f32, dtype: Dtype) -> f32 {
    let divisor = match dtype {
        Dtype::F32 => 1.0 / absmax.max(f32::MIN_POSITIVE) * RANGE,
        Dtype::F16 => {
            let inverse = f16::from_f32(1.0 / absmax.max(f16::MIN_POSITIVE.to_f32()));
            f16::from_f32(inverse.to_f32() * RANGE).to_f32()
        }
        Dtype::Bf16 => {
            let inverse = bf16::from_f32(1.0 / absmax.max(bf16::MIN_POSITIVE.to_f32()));
            bf16::from_f32(inverse.to_f32() * RANGE).to_f32()
        }
    };
    if divisor.is_finite() { divisor } else { 1.0 }
}

/// What the inner loop needs, and the scale to store.
pub(super) fn recipe(absmax: f32, dtype: Dtype, options: &Options) -> Result<(Recipe, TensorScale)> {
    let Options { method, dialect, tensor_scale: given } = *options;
    if let Some(given) = given {
        let (TensorScale::Multiplier(stored) | TensorScale::Divisor(stored)) = given;
        // A little more than the largest f32 allows for the rounding of a scale that came from the largest f32.
        let largest = f64::from(given.multiplier()) * f64::from(RANGE);
        if !(stored.is_finite() && stored > 0.0 && largest < f64::from(f32::MAX) * 1.000_001) {
            return Err(Error::Argument {
                option: "tensor_scale",
                found: given.multiplier().to_string(),
                allowed: "give a finite positive number, at most 1.26e35 so that 2688 times it is a float32, \
                          or leave it out to follow from the tensor"
                    .to_owned(),
            });
        }
    }
    // Every recipe has its own answer to a block of zeros; a tensor of nothing else is written the same by all.
    let method = if absmax == 0.0 { Method::Nearest } else { method };
    let scale = given.unwrap_or_else(|| tensor_scale(absmax, method, dialect, dtype));
    Ok(match (method, dialect) {
        (Method::Nearest, Dialect::CompressedTensors) => {
            let divisor = match scale {
                TensorScale::Divisor(d) => d,
                TensorScale::Multiplier(s) => 1.0 / s,
            };
            (Recipe::CompressedTensors { divisor }, TensorScale::Divisor(divisor))
        }
        (Method::Nearest, Dialect::ModelOpt) => {
            let s = scale.multiplier();
            (Recipe::ModelOpt { tensor_scale: s }, TensorScale::Multiplier(s))
        }
        (Method::FourOverSix, _) => {
            let s = scale.multiplier();
            // A subnormal scale is far from absmax / 1536: what it can hold counts.
            let exact = given.is_none() && s.is_normal();
            let absmax = if exact { absmax } else { (s * RANGE_FOUR_OVER_SIX).min(f32::MAX) };
            (Recipe::FourOverSix { absmax }, TensorScale::Multiplier(s))
        }
        (Method::Sweep, _) => {
            let s = scale.multiplier();
            (Recipe::Sweep { tensor_scale: s }, TensorScale::Multiplier(s))
        }
    })
}
