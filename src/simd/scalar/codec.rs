//! What one block of sixteen elements becomes, operation by operation: the specification.
//!
//! Every operation below is one IEEE f32 operation, rounded to nearest even, in the order written; a table that
//! reorders or fuses them differs in a last bit, and a last bit moves codes at ties.
//!
//! ```text
//! ModelOpt            b = amax / (6·S), 0 → 1        s = e4m3(clamp(b, 2⁻⁹, 448))          q = x / (s·S)
//! compressed-tensors  b = D · round_T(amax / 6)      s = e4m3(min(b, 448)), 0 → 0.125      q = x / (s/D)
//! four over six       b = amax/6 · (1536/A), and 1.5·b; s = e4m3(b)                        q = x · (1/(s/(1536/A)))
//! sweep               s = each positive E4M3 value                                         q = (x/S) / s
//! code = e2m1(q); amax: of the block; A: of the tensor; T: the dtype of x
//! ```

use half::{bf16, f16};

use crate::numeric::{e2m1, e4m3};
use crate::simd::codec::{Factor, Ops, Recipe};

pub const OPS: Ops = Ops {
    absmax_f32: absmax,
    absmax_f16: absmax,
    absmax_bf16: absmax,
    quantize_f32: quantize,
    quantize_f16: quantize,
    quantize_bf16: quantize,
    dequantize_f32: dequantize,
    dequantize_f16: dequantize,
    dequantize_bf16: dequantize,
};

/// Elements that share a block scale.
const BLOCK: usize = 16;

/// A dtype of dense matrices.
pub trait Element: Copy {
    fn to_f32(self) -> f32;
    /// Nearest element, ties to even.
    fn from_f32(x: f32) -> Self;
}

impl Element for f32 {
    fn to_f32(self) -> f32 {
        self
    }
    fn from_f32(x: f32) -> Self {
        x
    }
}

impl Element for f16 {
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }
    fn from_f32(x: f32) -> Self {
        f16::from_f32(x)
    }
}

impl Element for bf16 {
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    fn from_f32(x: f32) -> Self {
        bf16::from_f32(x)
    }
}

/// Magnitudes compare as integers, and NaN patterns lie above infinity: one integer maximum answers both questions.
pub fn absmax<T: Element>(x: &[T]) -> f32 {
    f32::from_bits(x.iter().map(|x| x.to_f32().to_bits() & 0x7FFF_FFFF).max().unwrap_or(0))
}

pub fn quantize<T: Element>(x: &[T], recipe: Recipe, codes: &mut [u8], block_scales: &mut [u8]) {
    for ((x, codes), scale) in x.chunks_exact(BLOCK).zip(codes.chunks_exact_mut(BLOCK / 2)).zip(block_scales) {
        let widened: [f32; BLOCK] = std::array::from_fn(|i| x[i].to_f32());
        let (s, nibbles) = match recipe {
            Recipe::ModelOpt { tensor_scale } => model_opt(&widened, tensor_scale),
            Recipe::CompressedTensors { divisor } => compressed_tensors(&widened, divisor, |x| T::from_f32(x).to_f32()),
            Recipe::FourOverSix { absmax } => four_over_six(&widened, absmax),
            Recipe::Sweep { tensor_scale } => sweep(&widened, tensor_scale),
        };
        *scale = s;
        for (byte, pair) in codes.iter_mut().zip(nibbles.chunks_exact(2)) {
            *byte = pair[0] | pair[1] << 4;
        }
    }
}

/// Code of a quotient. A quotient that is not below zero has no sign, `−0.0` included; a small negative one has code 8.
fn signed_code(q: f32) -> u8 {
    e2m1::encode(q.abs()) | (u8::from(q < 0.0) << 3)
}

/// As [`signed_code`], without the second zero.
fn code(q: f32) -> u8 {
    let code = signed_code(q);
    if code == 8 { 0 } else { code }
}

fn model_opt(x: &[f32; BLOCK], tensor_scale: f32) -> (u8, [u8; BLOCK]) {
    let b = absmax(x) / (6.0 * tensor_scale);
    let s = e4m3::encode(if b == 0.0 { 1.0 } else { b.clamp(e4m3::MIN_POSITIVE, e4m3::MAX) });
    let factor = e4m3::decode(s) * tensor_scale;
    // With a subnormal tensor scale the factor can be 0: every code stands for 0 then, and 0/0 takes the largest.
    let nibbles = x.map(|x| if (x / factor).is_nan() { 7 } else { signed_code(x / factor) });
    (s, nibbles)
}

fn compressed_tensors(x: &[f32; BLOCK], divisor: f32, round: impl Fn(f32) -> f32) -> (u8, [u8; BLOCK]) {
    let b = divisor * round(absmax(x) / 6.0);
    let s = match e4m3::encode(b.min(e4m3::MAX)) {
        0 => e4m3::encode(0.125),
        s => s,
    };
    let factor = e4m3::decode(s) / divisor;
    (s, x.map(|x| signed_code(x / factor)))
}

fn four_over_six(x: &[f32; BLOCK], absmax_of_tensor: f32) -> (u8, [u8; BLOCK]) {
    // Far from 1 the squares below would leave the range of f32: a power of two brings the tensor back, exactly.
    let shift = four_over_six_shift(absmax_of_tensor);
    let x = x.map(|x| x * shift);
    let absmax_of_tensor = absmax_of_tensor * shift;
    let encode = 1536.0 / absmax_of_tensor;
    let decode = 1.0 / encode;
    let six = absmax(&x) / 6.0 * encode;
    let [six, four] = [six, six * 1.5].map(|b| {
        let s = e4m3::encode(b);
        let scale = e4m3::decode(s);
        let inverse = if s == 0 { 0.0 } else { 1.0 / (decode * scale) };
        let nibbles = x.map(|x| code(x * inverse));
        let mut squares = [0.0; BLOCK];
        for ((square, &x), &nibble) in squares.iter_mut().zip(&x).zip(&nibbles) {
            let error = e2m1::decode(nibble) * scale * absmax_of_tensor / 1536.0 - x;
            *square = error * error;
        }
        (fold(squares), s, nibbles)
    });
    let best = if four.0 < six.0 { four } else { six };
    (best.1, best.2)
}

/// The power of two that brings a tensor whose largest magnitude is far from 1 near to it; 1 elsewhere.
pub fn four_over_six_shift(absmax_of_tensor: f32) -> f32 {
    match absmax_of_tensor {
        a if a < 2f32.powi(-90) => 2f32.powi(100),
        a if a < 2f32.powi(-40) => 2f32.powi(50),
        a if a > 2f32.powi(90) => 2f32.powi(-100),
        a if a > 2f32.powi(40) => 2f32.powi(-50),
        _ => 1.0,
    }
}

/// Sum of sixteen by halving: `i + (i+8)`, then `i + (i+4)`, `i + (i+2)`, `i + (i+1)`.
fn fold(mut x: [f32; BLOCK]) -> f32 {
    for half in [8, 4, 2, 1] {
        for i in 0..half {
            x[i] += x[i + half];
        }
    }
    x[0]
}

/// Magnitudes above this count as this: far beyond the largest value (2688) and still apart from it in a square.
pub const SWEEP_LIMIT: f32 = 65536.0;

/// The scale of least squared error among all positive ones, the smallest among equals.
///
/// The search runs on `u = x/S`, where a candidate `s` offers the values `e·s`. These are exact in f32 (six bits), so an
/// error `u − e·s` is rounded once, and candidates that offer the same values tie exactly.
fn sweep(x: &[f32; BLOCK], tensor_scale: f32) -> (u8, [u8; BLOCK]) {
    let u = x.map(|x| (x / tensor_scale).clamp(-SWEEP_LIMIT, SWEEP_LIMIT));
    let mut best = (f32::INFINITY, 0);
    for s in 1..=126 {
        let scale = e4m3::decode(s);
        let mut sum = 0.0;
        for u in u {
            let error = u.abs() - e2m1::decode(e2m1::encode(u.abs() / scale)) * scale;
            sum += error * error;
        }
        if sum < best.0 {
            best = (sum, s);
        }
    }
    (best.1, u.map(|u| code(u / e4m3::decode(best.1))))
}

pub fn dequantize<T: Element>(codes: &[u8], block_scales: &[u8], factor: Factor, out: &mut [T]) {
    for ((out, codes), &s) in out.chunks_exact_mut(BLOCK).zip(codes.chunks_exact(BLOCK / 2)).zip(block_scales) {
        let scale = factor.of(e4m3::decode(s));
        for (pair, &byte) in out.chunks_exact_mut(2).zip(codes) {
            pair[0] = T::from_f32(e2m1::decode(byte) * scale);
            pair[1] = T::from_f32(e2m1::decode(byte >> 4) * scale);
        }
    }
}
