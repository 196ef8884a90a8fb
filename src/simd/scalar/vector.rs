//! Norms, attention and elementwise loops over f32. The specification, and the text the other tables are compiled from.

use half::bf16;

use crate::numeric::{e2m1, e4m3};
use crate::simd::vector::Ops;

pub const OPS: Ops = Ops {
    absmax,
    add,
    mul,
    rms_norm,
    rope,
    silu_mul,
    dots,
    max,
    exp_sum,
    weighted_sum,
    dots_bf16,
    weighted_sums_bf16,
    widen_bf16,
    narrow_bf16,
    widen_e4m3,
    widen_nvfp4,
};

/// Partial sums of every reduction: one AVX-512 register, two of AVX2, four of NEON.
const LANES: usize = 16;

type Lanes = [f32; LANES];

/// The lanes as one number, halving: (0+8, 1+9, …), then (0+4, …), and so on.
#[inline(always)]
fn tree(mut lanes: Lanes, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] = combine(lanes[i], lanes[i + width]);
        }
        width /= 2;
    }
    lanes[0]
}

/// Folds `x` into 16 lanes and those into one number, in the one order that all tables share.
#[inline(always)]
fn reduce(x: &[f32], start: f32, step: impl Fn(f32, f32) -> f32, combine: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes: Lanes = [start; LANES];
    let (whole, rest) = x.as_chunks::<LANES>();
    for chunk in whole {
        for i in 0..LANES {
            lanes[i] = step(lanes[i], chunk[i]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane = step(*lane, x);
    }
    tree(lanes, combine)
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[inline(always)]
pub fn absmax(x: &[f32]) -> f32 {
    reduce(x, 0.0, |m, x| larger(m, x.abs()), larger)
}

#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    reduce(x, f32::NEG_INFINITY, larger, larger)
}

#[inline(always)]
pub fn add(x: &mut [f32], y: &[f32]) {
    for (x, &y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

#[inline(always)]
pub fn mul(x: &[f32], y: &[f32], out: &mut [f32]) {
    for (out, (&x, &y)) in out.iter_mut().zip(x.iter().zip(y)) {
        *out = x * y;
    }
}

#[inline(always)]
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    let sum = reduce(x, 0.0, |sum, x| x.mul_add(x, sum), |a, b| a + b);
    let factor = 1.0 / (sum / x.len() as f32 + eps).sqrt();
    for (out, (&x, &weight)) in out.iter_mut().zip(x.iter().zip(weight)) {
        *out = weight * (x * factor);
    }
}

#[inline(always)]
pub fn rope(x: &mut [f32], cos: &[f32], sin: &[f32]) {
    let (low, high) = x.split_at_mut(x.len() / 2);
    for ((low, high), (&cos, &sin)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
        (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
    }
}

/// exp, relative error below 1 ulp where the result is normal.
///
/// `x = n·ln 2 + r` with `|r| ≤ ln 2 / 2`, the split of ln 2 exact under fused multiply-adds; then
/// `exp(r) = 1 + r + r²·p(r)` with a minimax `p` of degree 4 (error 3.3e-9), times 2ⁿ in two factors so that subnormal
/// results and overflow come out right. No branch, so a loop of it becomes vector code.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³: adding it rounds to an integer, held in the low mantissa bits
    let x = if x < -104.0 { -104.0 } else { x }; // exp(−104) rounds to 0
    let x = if x > 89.0 { 89.0 } else { x }; // exp(89) is infinite
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = n.mul_add(-0.693_115_23, x);
    let r = n.mul_add(-3.194_618_3e-5, r);
    let p = 0.001_381_314_5_f32.mul_add(r, 0.008_369_419).mul_add(r, 0.041_668_456).mul_add(r, 0.166_665_15).mul_add(r, 0.499_999_94);
    let y = (r * r).mul_add(p, r) + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
    let half = exponent >> 1;
    let power = |n: i32| f32::from_bits((n.wrapping_add(127) as u32) << 23);
    y * power(half) * power(exponent.wrapping_sub(half))
}

#[inline(always)]
pub fn exp_sum(x: &mut [f32], max: f32) -> f32 {
    for x in x.iter_mut() {
        *x = exp(*x - max);
    }
    reduce(x, 0.0, |sum, x| sum + x, |a, b| a + b)
}

#[inline(always)]
pub fn silu_mul(gate: &mut [f32], up: &[f32]) {
    for (gate, &up) in gate.iter_mut().zip(up) {
        *gate = *gate / (1.0 + exp(-*gate)) * up;
    }
}

/// `N` dot products at once, so that their chains of additions overlap; each has the order of one alone.
#[inline(always)]
fn dot_block<const N: usize>(query: &[f32], keys: [&[f32]; N]) -> [f32; N] {
    let mut sums: [Lanes; N] = [[0.0; LANES]; N];
    let (whole, rest) = query.as_chunks::<LANES>();
    for (c, q) in whole.iter().enumerate() {
        for n in 0..N {
            let key: &Lanes = keys[n][c * LANES..][..LANES].try_into().expect("a whole chunk");
            for i in 0..LANES {
                sums[n][i] = q[i].mul_add(key[i], sums[n][i]);
            }
        }
    }
    for n in 0..N {
        let key = &keys[n][whole.len() * LANES..];
        for i in 0..rest.len() {
            sums[n][i] = rest[i].mul_add(key[i], sums[n][i]);
        }
    }
    sums.map(|lanes| tree(lanes, |a, b| a + b))
}

#[inline(always)]
pub fn dots(query: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) {
    let d = query.len();
    let key = |n: usize| &keys[n * d..(n + 1) * d];
    let whole = scores.len() / 4 * 4;
    for n in (0..whole).step_by(4) {
        let four = dot_block(query, [key(n), key(n + 1), key(n + 2), key(n + 3)]);
        for i in 0..4 {
            scores[n + i] = four[i] * scale;
        }
    }
    for (n, score) in scores.iter_mut().enumerate().skip(whole) {
        *score = dot_block(query, [key(n)])[0] * scale;
    }
}

/// Columns `first .. first + WIDTH` of [`weighted_sum`], which stay in registers while all values pass by.
#[inline(always)]
fn weighted_columns<const WIDTH: usize>(out: &mut [f32], first: usize, rescale: f32, weights: &[f32], values: &[f32]) {
    let d = out.len();
    let out: &mut [f32; WIDTH] = (&mut out[first..first + WIDTH]).try_into().expect("WIDTH columns");
    let mut sums = *out;
    for sum in &mut sums {
        *sum *= rescale;
    }
    for (n, &weight) in weights.iter().enumerate() {
        let value: &[f32; WIDTH] = values[n * d + first..][..WIDTH].try_into().expect("WIDTH columns");
        for i in 0..WIDTH {
            sums[i] = weight.mul_add(value[i], sums[i]);
        }
    }
    *out = sums;
}

#[inline(always)]
pub fn weighted_sum(out: &mut [f32], rescale: f32, weights: &[f32], values: &[f32]) {
    // Each element is one chain of additions: the more columns at once, the more chains overlap.
    let d = out.len();
    let mut first = 0;
    while first + 4 * LANES <= d {
        weighted_columns::<{ 4 * LANES }>(out, first, rescale, weights, values);
        first += 4 * LANES;
    }
    if first + 2 * LANES <= d {
        weighted_columns::<{ 2 * LANES }>(out, first, rescale, weights, values);
        first += 2 * LANES;
    }
    if first + LANES <= d {
        weighted_columns::<LANES>(out, first, rescale, weights, values);
        first += LANES;
    }
    for i in first..d {
        weighted_columns::<1>(out, i, rescale, weights, values);
    }
}

/// Elements that are widened together: few enough to stay in the first-level cache.
const WIDE: usize = 4096;

/// [`DotsBf16`](crate::simd::vector::DotsBf16) by way of [`Ops::widen_bf16`] and [`Ops::dots`].
pub fn dots_widened(widened: &Ops, queries: &[f32], keys: &[bf16], d: usize, scale: f32, scores: &mut [f32], stride: usize) {
    assert!((1..=WIDE).contains(&d), "heads of 1 to {WIDE}");
    let mut wide = [0.0; WIDE];
    let some = WIDE / d;
    for (first, keys) in (0..).step_by(some).zip(keys.chunks(some * d)) {
        let wide = &mut wide[..keys.len()];
        (widened.widen_bf16)(keys, wide);
        for (query, scores) in queries.chunks_exact(d).zip(scores.chunks_mut(stride)) {
            (widened.dots)(query, wide, scale, &mut scores[first..][..keys.len() / d]);
        }
    }
}

/// [`WeightedSumsBf16`](crate::simd::vector::WeightedSumsBf16) by way of [`Ops::widen_bf16`] and [`Ops::weighted_sum`].
pub fn weighted_sums_widened(widened: &Ops, out: &mut [f32], rescale: &[f32], weights: &[f32], stride: usize, values: &[bf16]) {
    let d = out.len() / rescale.len();
    assert!((1..=WIDE).contains(&d), "heads of 1 to {WIDE}");
    let mut wide = [0.0; WIDE];
    let some = WIDE / d;
    for (first, values) in (0..).step_by(some).zip(values.chunks(some * d)) {
        let wide = &mut wide[..values.len()];
        (widened.widen_bf16)(values, wide);
        for ((out, &rescale), weights) in out.chunks_exact_mut(d).zip(rescale).zip(weights.chunks(stride)) {
            // The second time on there is nothing to rescale: times 1 changes no bit.
            let rescale = if first == 0 { rescale } else { 1.0 };
            (widened.weighted_sum)(out, rescale, &weights[first..][..values.len() / d], wide);
        }
    }
}

fn dots_bf16(queries: &[f32], keys: &[bf16], d: usize, scale: f32, scores: &mut [f32], stride: usize, _ahead: &[bf16]) {
    dots_widened(&OPS, queries, keys, d, scale, scores, stride);
}

fn weighted_sums_bf16(out: &mut [f32], rescale: &[f32], weights: &[f32], stride: usize, values: &[bf16], _ahead: &[bf16]) {
    weighted_sums_widened(&OPS, out, rescale, weights, stride, values);
}

#[inline(always)]
pub fn widen_bf16(x: &[bf16], out: &mut [f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = f32::from_bits(u32::from(x.to_bits()) << 16);
    }
}

#[inline(always)]
pub fn narrow_bf16(x: &[f32], out: &mut [bf16]) {
    for (out, &x) in out.iter_mut().zip(x) {
        let bits = x.to_bits();
        let rounded = bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16;
        let kept = bits >> 16 | 0x40; // a quiet NaN stays one
        *out = bf16::from_bits(if bits & 0x7FFF_FFFF > 0x7F80_0000 { kept } else { rounded } as u16);
    }
}

#[inline(always)]
pub fn widen_e4m3(x: &[u8], scale: f32, out: &mut [f32]) {
    for (out, &bits) in out.iter_mut().zip(x) {
        let magnitude = u32::from(bits & 0x7F);
        let normal = f32::from_bits((magnitude + (120 << 3)) << 20); // bias 7 → bias 127
        let value = if magnitude < 8 { magnitude as f32 * e4m3::MIN_POSITIVE } else { normal };
        let value = if magnitude == 0x7F { f32::NAN } else { value };
        *out = f32::from_bits(value.to_bits() | u32::from(bits & 0x80) << 24) * scale;
    }
}

#[inline(always)]
pub fn widen_nvfp4(codes: &[u8], block_scales: &[u8], tensor_scale: f32, out: &mut [f32]) {
    let (codes, _) = codes.as_chunks::<8>();
    let (out, _) = out.as_chunks_mut::<16>();
    for ((out, codes), &scale) in out.iter_mut().zip(codes).zip(block_scales) {
        let factor = e4m3::decode(scale) * tensor_scale;
        for i in 0..8 {
            out[2 * i] = e2m1::decode(codes[i]) * factor;
            out[2 * i + 1] = e2m1::decode(codes[i] >> 4) * factor;
        }
    }
}
