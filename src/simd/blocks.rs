//! The block loops of `scalar/codec.rs`, sixteen lanes at a time, for every instruction set alike.
//!
//! Blocks go through in groups of sixteen. A lane is a *block* while scales are found (sixteen maxima, sixteen
//! divisions at once), an *element* while codes are, and a *candidate scale* in the sweep. The last group is padded with
//! zeros in a copy.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::numeric::{e2m1, e4m3};
use crate::simd::codec::{Factor, Recipe};
use crate::simd::lanes::Lanes;
use crate::simd::scalar::codec::{SWEEP_LIMIT, four_over_six_shift};

/// Elements of a block, and blocks of a group.
const N: usize = 16;

/// A dtype that sixteen lanes can load, round to and store.
pub trait Element<L: Lanes>: Copy {
    const ZERO: Self;
    fn load(x: &[Self; N]) -> L::F;
    /// Nearest number of this type, ties to even, as f32.
    fn round(x: L::F) -> L::F;
    /// Stores numbers of this type.
    fn store(x: L::F, out: &mut [Self; N]);
    fn absmax(x: &[Self]) -> f32;
}

impl<L: Lanes> Element<L> for f32 {
    const ZERO: Self = 0.0;
    #[inline(always)]
    fn load(x: &[Self; N]) -> L::F {
        L::load_f32(x)
    }
    #[inline(always)]
    fn round(x: L::F) -> L::F {
        x
    }
    #[inline(always)]
    fn store(x: L::F, out: &mut [Self; N]) {
        L::store_f32(x, out);
    }
    #[inline(always)]
    fn absmax(x: &[Self]) -> f32 {
        f32::from_bits(L::absmax_f32(x))
    }
}

impl<L: Lanes> Element<L> for f16 {
    const ZERO: Self = f16::ZERO;
    #[inline(always)]
    fn load(x: &[Self; N]) -> L::F {
        L::load_f16(x)
    }
    #[inline(always)]
    fn round(x: L::F) -> L::F {
        L::round_f16(x)
    }
    #[inline(always)]
    fn store(x: L::F, out: &mut [Self; N]) {
        L::store_f16(x, out);
    }
    #[inline(always)]
    fn absmax(x: &[Self]) -> f32 {
        f16::from_bits(L::absmax_16(x.reinterpret_cast())).to_f32()
    }
}

impl<L: Lanes> Element<L> for bf16 {
    const ZERO: Self = bf16::ZERO;
    #[inline(always)]
    fn load(x: &[Self; N]) -> L::F {
        L::load_bf16(x)
    }
    #[inline(always)]
    fn round(x: L::F) -> L::F {
        // The upper half of the f32, after adding just under half of the lower: finite numbers only, which all are here.
        let bits = L::bits(x);
        let odd = L::and(L::shr::<16>(bits), L::splat_int(1));
        let rounded = L::add_int(L::add_int(bits, L::splat_int(0x7FFF)), odd);
        // A dequantized number may overflow to infinity, never beyond.
        L::float(L::and(rounded, L::splat_int(-0x1_0000)))
    }
    #[inline(always)]
    fn store(x: L::F, out: &mut [Self; N]) {
        L::store_bf16(x, out);
    }
    #[inline(always)]
    fn absmax(x: &[Self]) -> f32 {
        bf16::from_bits(L::absmax_16(x.reinterpret_cast())).to_f32()
    }
}

/// See [`Ops`](crate::simd::codec::Ops).
#[inline(always)]
pub fn absmax<L: Lanes, T: Element<L>>(x: &[T]) -> f32 {
    T::absmax(x)
}

/// See [`Ops`](crate::simd::codec::Ops).
#[inline(always)]
pub fn quantize<L: Lanes, T: Element<L>>(x: &[T], recipe: Recipe, codes: &mut [u8], block_scales: &mut [u8]) {
    let (groups, rest) = x.as_chunks::<N>().0.as_chunks::<N>();
    let (code_groups, code_rest) = codes.as_chunks_mut::<8>().0.as_chunks_mut::<N>();
    let (scale_groups, scale_rest) = block_scales.as_chunks_mut::<N>();
    for ((x, codes), scales) in groups.iter().zip(code_groups).zip(scale_groups) {
        group::<L, T>(x, recipe, codes, scales);
    }
    if !rest.is_empty() {
        let mut padded = [[T::ZERO; N]; N];
        padded[..rest.len()].copy_from_slice(rest);
        let (mut codes, mut scales) = ([[0; 8]; N], [0; N]);
        group::<L, T>(&padded, recipe, &mut codes, &mut scales);
        code_rest.copy_from_slice(&codes[..rest.len()]);
        scale_rest.copy_from_slice(&scales[..rest.len()]);
    }
}

#[inline(always)]
fn group<L: Lanes, T: Element<L>>(x: &[[T; N]; N], recipe: Recipe, codes: &mut [[u8; 8]; N], scales: &mut [u8; N]) {
    match recipe {
        Recipe::ModelOpt { tensor_scale } => {
            let b = L::div(maxima::<L, T>(x), L::splat(6.0 * tensor_scale));
            let b = L::float(L::select_lt(L::splat(0.0), b, L::bits(b), L::bits(L::splat(1.0))));
            let b = L::max(L::min(b, L::splat(e4m3::MAX)), L::splat(e4m3::MIN_POSITIVE));
            let (s, scale) = encode_scales::<L>(b);
            *scales = L::pack_bytes(s);
            nearest::<L, T>(x, L::mul(scale, L::splat(tensor_scale)), codes);
        }
        Recipe::CompressedTensors { divisor } => {
            let b = L::mul(L::splat(divisor), T::round(L::div(maxima::<L, T>(x), L::splat(6.0))));
            let (s, _) = encode_scales::<L>(L::min(b, L::splat(e4m3::MAX)));
            // 0x20 is 0.125.
            let s = L::select_lt(L::to_float(s), L::splat(0.5), L::splat_int(0x20), s);
            *scales = L::pack_bytes(s);
            nearest::<L, T>(x, L::div(decode_scales::<L>(s), L::splat(divisor)), codes);
        }
        Recipe::FourOverSix { absmax } => four_over_six::<L, T>(x, absmax, codes, scales),
        Recipe::Sweep { tensor_scale } => {
            for ((x, codes), scale) in x.iter().zip(codes).zip(scales) {
                (*codes, *scale) = sweep::<L, T>(x, tensor_scale);
            }
        }
    }
}

/// The largest magnitude of each block.
#[inline(always)]
fn maxima<L: Lanes, T: Element<L>>(x: &[[T; N]; N]) -> L::F {
    let mut maxima = [0.0; N];
    for (max, x) in maxima.iter_mut().zip(x) {
        *max = L::largest(L::abs(T::load(x)));
    }
    L::load_f32(&maxima)
}

/// E4M3 bits and value of numbers from 0 to 448: `e4m3::encode`, `e4m3::decode`.
#[inline(always)]
fn encode_scales<L: Lanes>(x: L::F) -> (L::I, L::F) {
    let bits = L::bits(x);
    let odd = L::and(L::shr::<20>(bits), L::splat_int(1));
    let rounded = L::shr::<20>(L::add_int(L::add_int(bits, L::splat_int(0x7_FFFF)), odd));
    let normal = L::sub_int(rounded, L::splat_int((127 - 7) << 3));
    let subnormal = L::to_int(L::mul(x, L::splat(512.0)));
    let s = L::select_lt(x, L::splat(0.015_625), subnormal, normal);
    (s, decode_scales::<L>(s))
}

/// Value of E4M3 bits without sign.
#[inline(always)]
fn decode_scales<L: Lanes>(s: L::I) -> L::F {
    let count = L::to_float(s);
    let normal = L::shl::<20>(L::add_int(s, L::splat_int((127 - 7) << 3)));
    let subnormal = L::mul(count, L::splat(e4m3::MIN_POSITIVE));
    L::float(L::select_lt(count, L::splat(8.0), L::bits(subnormal), normal))
}

/// Codes of all blocks, `e2m1(x / factor)`.
#[inline(always)]
fn nearest<L: Lanes, T: Element<L>>(x: &[[T; N]; N], factors: L::F, codes: &mut [[u8; 8]; N]) {
    let mut factor = [0.0; N];
    L::store_f32(factors, &mut factor);
    for ((x, codes), &factor) in x.iter().zip(codes).zip(&factor) {
        let q = L::div(T::load(x), L::splat(factor));
        let sign = L::select_lt(q, L::splat(0.0), L::splat_int(8), L::splat_int(0));
        *codes = L::pack_nibbles(L::or(magnitude::<L>(q), sign));
    }
}

/// A number that, added and taken away again, leaves `a` (0 to 6) on the grid of E2M1: its last bit is the grid's step.
/// Returned with it is the exponent part: the power of two at or below `a`, at least 1.
#[inline(always)]
fn grid<L: Lanes>(a: L::F) -> (L::F, L::I) {
    let power = L::max_int(L::and(L::bits(a), L::splat_int(0x7F80_0000)), L::bits(L::splat(1.0)));
    (L::float(L::add_int(power, L::splat_int(22 << 23))), power)
}

/// Code of the magnitude of `q`, NaN as the largest: `e2m1::encode`.
#[inline(always)]
fn magnitude<L: Lanes>(q: L::F) -> L::I {
    let a = L::min(L::abs(q), L::splat(6.0));
    let (magic, power) = grid::<L>(a);
    // Below 2 the sum counts halves, which are the codes; above, each doubling adds two codes.
    let steps = L::sub_int(L::bits(L::add(a, magic)), L::bits(magic));
    L::add_int(steps, L::shr::<22>(L::sub_int(power, L::bits(L::splat(1.0)))))
}

/// Value of the code of `a ≥ 0`.
#[inline(always)]
fn rounded<L: Lanes>(a: L::F) -> L::F {
    let a = L::min(a, L::splat(6.0));
    let (magic, _) = grid::<L>(a);
    L::sub(L::add(a, magic), magic)
}

/// Codes without the second zero.
#[inline(always)]
fn pack_without_minus_zero<L: Lanes>(q: L::F) -> [u8; 8] {
    let code = magnitude::<L>(q);
    let sign = L::select_lt(q, L::splat(0.0), L::splat_int(8), L::splat_int(0));
    // (code + 7) has bit 3 unless the code is 0.
    L::pack_nibbles(L::or(code, L::and(sign, L::add_int(code, L::splat_int(7)))))
}

/// Scales of sixteen blocks, and what their elements are multiplied by.
struct Candidate {
    bits: [u8; N],
    scale: [f32; N],
    inverse: [f32; N],
}

// No closures below: a closure is compiled without the instruction set unless it happens to be inlined.

#[inline(always)]
fn candidate<L: Lanes>(b: L::F, decode: f32) -> Candidate {
    let (bits, scale) = encode_scales::<L>(L::min(b, L::splat(e4m3::MAX)));
    let inverse = L::div(L::splat(1.0), L::mul(L::splat(decode), scale));
    let inverse = L::float(L::select_lt(L::splat(0.0), scale, L::bits(inverse), L::splat_int(0)));
    let mut candidate = Candidate { bits: L::pack_bytes(bits), scale: [0.0; N], inverse: [0.0; N] };
    L::store_f32(scale, &mut candidate.scale);
    L::store_f32(inverse, &mut candidate.inverse);
    candidate
}

/// Squared error of one block of magnitudes `a` under one candidate.
#[inline(always)]
fn squared_error<L: Lanes>(a: L::F, scale: f32, inverse: f32, absmax: f32) -> f32 {
    let value = L::mul(rounded::<L>(L::mul(a, L::splat(inverse))), L::splat(scale));
    let error = L::sub(L::div(L::mul(value, L::splat(absmax)), L::splat(1536.0)), a);
    L::fold(L::mul(error, error))
}

#[inline(always)]
fn four_over_six<L: Lanes, T: Element<L>>(x: &[[T; N]; N], absmax: f32, codes: &mut [[u8; 8]; N], scales: &mut [u8; N]) {
    let shift = four_over_six_shift(absmax);
    let absmax = absmax * shift;
    let encode = 1536.0 / absmax;
    let decode = 1.0 / encode;
    let shift = L::splat(shift);
    let mut maxima = [0.0; N];
    for (max, x) in maxima.iter_mut().zip(x) {
        *max = L::largest(L::abs(L::mul(T::load(x), shift)));
    }
    let b = L::mul(L::div(L::load_f32(&maxima), L::splat(6.0)), L::splat(encode));
    let six = candidate::<L>(b, decode);
    let four = candidate::<L>(L::mul(b, L::splat(1.5)), decode);
    for i in 0..N {
        let x = L::mul(T::load(&x[i]), shift);
        let a = L::abs(x);
        let error_six = squared_error::<L>(a, six.scale[i], six.inverse[i], absmax);
        let error_four = squared_error::<L>(a, four.scale[i], four.inverse[i], absmax);
        let best = if error_four < error_six { &four } else { &six };
        scales[i] = best.bits[i];
        codes[i] = pack_without_minus_zero::<L>(L::mul(x, L::splat(best.inverse[i])));
    }
}

/// Value of each E4M3 code.
static SCALES: [f32; 128] = {
    let mut scales = [0.0; 128];
    let mut s = 0;
    while s < 127 {
        scales[s] = e4m3::decode(s as u8);
        s += 1;
    }
    scales
};

/// The search of the specification, without the scales that cannot win.
///
/// ```text
/// fit = the smallest s with 6·s ≥ max |u|:  |———— window of 16 ————|
///   … too small …   fit−8 … fit−1   fit … fit+7   ≥ 2·fit …
/// ```
///
/// *Above:* every value of the grid `2s` up to `6s` is on the grid `s` too. So where `s` holds the block, `2s` errs no less
/// in any element, rounding of f32 is monotone, sums in one order stay ordered, and among equals the smaller wins: from
/// `2·fit` on nothing can. (Halves of subnormal scales may not exist: the window starts at 1 there, and ends above 15.)
/// *Below:* the largest element alone errs `(max − 6s)²`, more the smaller `s`: once that exceeds the best sum, stop.
#[inline(always)]
fn sweep<L: Lanes, T: Element<L>>(x: &[T; N], tensor_scale: f32) -> ([u8; 8], u8) {
    let limit = L::splat(SWEEP_LIMIT);
    let q = L::div(T::load(x), L::splat(tensor_scale));
    let u = L::min(L::abs(q), limit);
    let mut elements = [0.0; N];
    L::store_f32(u, &mut elements);
    let largest = L::largest(u);

    let mut fit = usize::from(e4m3::encode(largest / 6.0)).clamp(1, 126);
    while fit < 126 && 6.0 * SCALES[fit] < largest {
        fit += 1;
    }
    while fit > 1 && 6.0 * SCALES[fit - 1] >= largest {
        fit -= 1;
    }
    let mut start = fit.saturating_sub(8).clamp(1, 126 - 15);
    let (mut least, place) = L::first_smallest(errors::<L>(&elements, start));
    let mut best = start + place;
    while start > 1 {
        let missing = largest - 6.0 * SCALES[start - 1];
        if missing * missing > least {
            break;
        }
        start = start.saturating_sub(N).max(1);
        let (sum, place) = L::first_smallest(errors::<L>(&elements, start));
        // At the lower end windows overlap: an equal sum is then the same scale, or a smaller one.
        if sum <= least {
            (least, best) = (sum, start + place);
        }
    }
    let signed = L::float(L::or(L::bits(u), L::and(L::bits(q), L::splat_int(i32::MIN))));
    (pack_without_minus_zero::<L>(L::div(signed, L::splat(SCALES[best]))), best as u8)
}

/// Sums of squared errors under the sixteen scales from `start`, in lanes.
#[inline(always)]
fn errors<L: Lanes>(elements: &[f32; N], start: usize) -> L::F {
    let scales: &[f32; N] = SCALES[start..].first_chunk().expect("the last window starts at 111");
    let scales = L::load_f32(scales);
    let mut sum = L::splat(0.0);
    for &u in elements {
        let u = L::splat(u);
        let error = L::sub(u, L::mul(rounded::<L>(L::div(u, scales)), scales));
        sum = L::add(sum, L::mul(error, error));
    }
    sum
}

/// See [`Ops`](crate::simd::codec::Ops).
#[inline(always)]
pub fn dequantize<L: Lanes, T: Element<L>>(codes: &[u8], block_scales: &[u8], factor: Factor, out: &mut [T]) {
    let values = L::load_f32(&e2m1::VALUES);
    for ((out, codes), &s) in out.as_chunks_mut::<N>().0.iter_mut().zip(codes.as_chunks::<8>().0).zip(block_scales) {
        // Eight products serve sixteen elements: they are rounded once here and looked up.
        let scale = factor.of(e4m3::decode(s));
        let products = T::round(L::mul(values, L::splat(scale)));
        let nibbles = L::unpack_nibbles(*codes);
        let sign = L::shl::<28>(L::and(nibbles, L::splat_int(8)));
        T::store(L::float(L::add_int(L::bits(L::lookup(products, nibbles)), sign)), out);
    }
}
