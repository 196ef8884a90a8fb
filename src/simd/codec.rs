//! Quantize and dequantize rows of 16-element blocks.
//!
//! Every function works on a run of whole blocks; how runs are split over threads is the caller's business and never
//! changes a result. What one block becomes is written down in `scalar/codec.rs`, operation by
//! operation: the other tables reproduce it bit for bit.

use half::{bf16, f16};

/// How a block becomes one scale and sixteen codes. All arithmetic is f32 unless a variant says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Recipe {
    /// Scale from the block's largest magnitude, as NVIDIA ModelOpt computes it with the multiplier `tensor_scale`.
    ModelOpt {
        /// Multiplies block scales.
        tensor_scale: f32,
    },
    /// Scale from the block's largest magnitude, as compressed-tensors computes it: one step in the source's own dtype.
    CompressedTensors {
        /// Divides block scales.
        divisor: f32,
    },
    /// The better of two scales: block maximum at 6 or at 4.
    FourOverSix {
        /// Largest magnitude of the tensor, 1536 times the tensor scale.
        absmax: f32,
    },
    /// The best of all 126 positive E4M3 scales.
    Sweep {
        /// Multiplies block scales.
        tensor_scale: f32,
    },
}

/// How a block scale becomes the factor of its elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Factor {
    /// `block scale · S`
    Multiply(f32),
    /// `block scale / D`
    Divide(f32),
}

impl Factor {
    /// The factor of the elements under `block_scale`.
    pub fn of(self, block_scale: f32) -> f32 {
        match self {
            Self::Multiply(s) => block_scale * s,
            Self::Divide(d) => block_scale / d,
        }
    }
}

/// Largest magnitude of a slice; NaN when the slice holds one, 0 when it is empty.
pub type AbsMax<T> = fn(&[T]) -> f32;

/// `(elements [16·n], recipe, codes [8·n], block scales [n])`
pub type Quantize<T> = fn(&[T], Recipe, &mut [u8], &mut [u8]);

/// `(codes [8·n], block scales [n], factor, elements [16·n])`; each element is rounded once from its f32 value.
pub type Dequantize<T> = fn(&[u8], &[u8], Factor, &mut [T]);

/// The functions of this family.
#[derive(Clone, Copy, Debug)]
pub struct Ops {
    /// Largest magnitude of f32 elements.
    pub absmax_f32: AbsMax<f32>,
    /// Largest magnitude of f16 elements.
    pub absmax_f16: AbsMax<f16>,
    /// Largest magnitude of bf16 elements.
    pub absmax_bf16: AbsMax<bf16>,
    /// Quantizes f32 elements, all finite.
    pub quantize_f32: Quantize<f32>,
    /// Quantizes f16 elements, all finite.
    pub quantize_f16: Quantize<f16>,
    /// Quantizes bf16 elements, all finite.
    pub quantize_bf16: Quantize<bf16>,
    /// Dequantizes to f32.
    pub dequantize_f32: Dequantize<f32>,
    /// Dequantizes to f16.
    pub dequantize_f16: Dequantize<f16>,
    /// Dequantizes to bf16.
    pub dequantize_bf16: Dequantize<bf16>,
}

/// The functions of this family from the generic loops of `simd/blocks.rs`, compiled for `$features` with the lanes `$lanes`.
#[allow(unused_macros, reason = "no instruction set of this target uses it")]
macro_rules! block_ops {
    ($features:literal, $lanes:ty) => {{
        use crate::simd::blocks;
        use crate::simd::codec::{AbsMax, Dequantize, Factor, Ops, Quantize, Recipe};
        use half::{bf16, f16};

        macro_rules! absmax {
            ($t:ty) => {{
                #[target_feature(enable = $features)]
                fn compiled(x: &[$t]) -> f32 {
                    blocks::absmax::<$lanes, $t>(x)
                }
                fn entry(x: &[$t]) -> f32 {
                    // SAFETY: the table that holds this function exists only where the CPU has the features.
                    unsafe { compiled(x) }
                }
                entry as AbsMax<$t>
            }};
        }
        macro_rules! quantize {
            ($t:ty) => {{
                #[target_feature(enable = $features)]
                fn compiled(x: &[$t], recipe: Recipe, codes: &mut [u8], block_scales: &mut [u8]) {
                    blocks::quantize::<$lanes, $t>(x, recipe, codes, block_scales);
                }
                fn entry(x: &[$t], recipe: Recipe, codes: &mut [u8], block_scales: &mut [u8]) {
                    // SAFETY: the table that holds this function exists only where the CPU has the features.
                    unsafe { compiled(x, recipe, codes, block_scales) }
                }
                entry as Quantize<$t>
            }};
        }
        macro_rules! dequantize {
            ($t:ty) => {{
                #[target_feature(enable = $features)]
                fn compiled(codes: &[u8], block_scales: &[u8], factor: Factor, out: &mut [$t]) {
                    blocks::dequantize::<$lanes, $t>(codes, block_scales, factor, out);
                }
                fn entry(codes: &[u8], block_scales: &[u8], factor: Factor, out: &mut [$t]) {
                    // SAFETY: the table that holds this function exists only where the CPU has the features.
                    unsafe { compiled(codes, block_scales, factor, out) }
                }
                entry as Dequantize<$t>
            }};
        }
        Ops {
            absmax_f32: absmax!(f32),
            absmax_f16: absmax!(f16),
            absmax_bf16: absmax!(bf16),
            quantize_f32: quantize!(f32),
            quantize_f16: quantize!(f16),
            quantize_bf16: quantize!(bf16),
            dequantize_f32: dequantize!(f32),
            dequantize_f16: dequantize!(f16),
            dequantize_bf16: dequantize!(bf16),
        }
    }};
}
#[allow(unused_imports, reason = "no instruction set of this target uses it")]
pub(in crate::simd) use block_ops;
