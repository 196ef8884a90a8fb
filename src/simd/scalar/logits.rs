//! Passes over the logits of one position. The specification, and the text that every other table compiles again.
//!
//! Each loop runs over [`LANES`] independent lanes with no branch inside, so that the compiler turns lanes into
//! registers. `FUSED` picks fused multiply-add where the instruction set has it (without it, `mul_add` is a library call).

#![allow(clippy::needless_bitwise_bool, clippy::manual_range_contains, reason = "lanes have no branches, and NaN takes its own side")]

use crate::simd::logits::Buckets;
use crate::simd::logits::CHUNK;
use crate::simd::logits::GROUP;
use crate::simd::logits::LANES;
use crate::simd::logits::Mass;
use crate::simd::logits::Ops;
use crate::simd::logits::Partial;
use crate::simd::logits::Race;

pub const OPS: Ops = Ops {
    partial: |x| partial::<false>(x),
    max: |x| max(x),
    group_maxima: |x, out| group_maxima(x, out),
    at_least: |x, from, out| at_least(x, from, out),
    mass: |x, range| mass::<false>(x, range),
    bucket_masses: |x, buckets, sums| bucket_masses::<false>(x, buckets, sums),
    in_bucket: |x, buckets, number, out| in_bucket(x, buckets, number, out),
    weights_into: |x, max, scale, out| weights_into::<false>(x, max, scale, out),
    contenders: |x, first, race, out| contenders(x, first, race, out),
};

#[inline(always)]
fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Here [`exp`] gives exactly zero, as it does from −87.7 down: the power of two leaves the range of normal floats.
const EXP_FLOOR: f32 = -88.0;

/// `e^x` for `x` from [`EXP_FLOOR`] to 0, exact at 0, relative error near 2⁻²³; NaN stays NaN.
///
/// `x = n·ln 2 + r` with |r| ≤ ln 2 / 2; `n` is found by adding 1.5·2²³, which leaves it in the low mantissa bits. The
/// polynomial (near-minimax in relative error, 3·10⁻⁹) is `1 + r·(1 + r·q(r))`.
#[inline(always)]
fn exp<const FUSED: bool>(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4; // 355/512: nine bits, so that n·LN2_HIGH is exact
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let shifted = multiply_add::<FUSED>(x, std::f32::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    // A fused product is not rounded, and ln 2 in one f32 is off by 2·10⁻⁹ only; otherwise ln 2 takes two parts.
    let r = if FUSED { n.mul_add(-std::f32::consts::LN_2, x) } else { (x - n * LN2_HIGH) - n * LN2_LOW };
    let q = multiply_add::<FUSED>(1.381_459_9e-3, r, 8.368_717e-3);
    let q = multiply_add::<FUSED>(q, r, 4.166_839e-2);
    let q = multiply_add::<FUSED>(q, r, 1.666_652_1e-1);
    let q = multiply_add::<FUSED>(q, r, 4.999_999_4e-1);
    let e = multiply_add::<FUSED>(multiply_add::<FUSED>(q, r, 1.0), r, 1.0);
    e * f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0f32.to_bits()))
}

/// `e^x` for `x` ≤ 0 in f64, exact at 0, relative error below 2⁻⁵⁰; zero below −700.
///
/// The same scheme as [`exp`] with the Taylor polynomial of degree 13, whose remainder at ln 2 / 2 is 4·10⁻¹⁸.
#[inline(always)]
pub fn exp_f64<const FUSED: bool>(x: f64) -> f64 {
    const ROUND: f64 = 6_755_399_441_055_744.0;
    const LN2_HIGH: f64 = 0.693_147_180_369_123_8; // 33 bits: n·LN2_HIGH is exact
    const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const fn reciprocal_factorial(n: u32) -> f64 {
        let (mut product, mut i) = (1.0, 2);
        while i <= n {
            product *= i as f64;
            i += 1;
        }
        1.0 / product
    }
    /// 1/2!, 1/3! … 1/13!
    const C: [f64; 12] = {
        let (mut c, mut i) = ([0.0; 12], 0);
        while i < 12 {
            c[i] = reciprocal_factorial(i as u32 + 2);
            i += 1;
        }
        c
    };
    let multiply_add = |a: f64, b: f64, c: f64| if FUSED { a.mul_add(b, c) } else { a * b + c };
    let clamped = if x > -700.0 { x } else { -700.0 };
    let shifted = multiply_add(clamped, std::f64::consts::LOG2_E, ROUND);
    let n = shifted - ROUND;
    let r = multiply_add(n, -LN2_LOW, multiply_add(n, -LN2_HIGH, clamped));
    // By pairs, fours and eights, so that few operations wait for each other.
    let (r2, r4) = (r * r, (r * r) * (r * r));
    let pair = |i: usize| multiply_add(C[i + 1], r, C[i]);
    let four = |i: usize| multiply_add(pair(i + 2), r2, pair(i));
    let q = multiply_add(four(8), r4 * r4, multiply_add(four(4), r4, four(0)));
    let e = multiply_add(q, r2, r) + 1.0;
    let scaled = e * f64::from_bits((shifted.to_bits() << 52).wrapping_add(1.0f64.to_bits()));
    if x > -700.0 { scaled } else { 0.0 }
}

/// Runs `step` on every `N` logits, the last ones padded with `−inf`.
#[inline(always)]
fn each<const N: usize>(x: &[f32], mut step: impl FnMut(&[f32; N])) {
    let (blocks, tail) = x.as_chunks::<N>();
    for block in blocks {
        step(block);
    }
    if !tail.is_empty() {
        let mut padded = [f32::NEG_INFINITY; N];
        padded[..tail.len()].copy_from_slice(tail);
        step(&padded);
    }
}

/// [`each`] for a long `step`. It is called in one place, and so inlined whatever its length; a closure that is not would be
/// compiled without the features of its caller. Short ones do better above, with their sums in registers.
#[inline(always)]
fn each_long<const N: usize>(x: &[f32], mut step: impl FnMut(&[f32; N])) {
    let (blocks, tail) = x.as_chunks::<N>();
    let mut padded = [f32::NEG_INFINITY; N];
    padded[..tail.len()].copy_from_slice(tail);
    let padded = if tail.is_empty() { None } else { Some(&padded) };
    for block in blocks.iter().chain(padded) {
        step(block);
    }
}

/// The larger one; `b` where `a` is NaN.
#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

/// All lanes as one, by halves.
#[inline(always)]
fn reduce<T: Copy, const N: usize>(mut lanes: [T; N], op: impl Fn(T, T) -> T) -> T {
    let mut half = N / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = op(lanes[i], lanes[i + half]);
        }
        half /= 2;
    }
    lanes[0]
}

/// Lanes added up in f64.
#[inline(always)]
fn total<const N: usize>(lanes: [f32; N]) -> f64 {
    reduce(lanes.map(f64::from), |a, b| a + b)
}

#[inline(always)]
pub fn max(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 4 * LANES];
    each(x, |block: &[f32; 4 * LANES]| {
        for (lane, &x) in lanes.iter_mut().zip(block) {
            *lane = larger(x, *lane);
        }
    });
    reduce(lanes, larger)
}

#[inline(always)]
pub fn partial<const FUSED: bool>(x: &[f32]) -> Partial {
    assert!(x.len() <= CHUNK, "a partial covers one chunk");
    let max = max(x);
    if max == f32::NEG_INFINITY {
        let sum = if x.iter().any(|x| x.is_nan()) { f64::NAN } else { 0.0 };
        return Partial { max, sum, weighted: 0.0 };
    }
    let mut sum = [0f32; LANES];
    let mut weighted = [0f32; LANES];
    each(x, |block: &[f32; LANES]| {
        for i in 0..LANES {
            let d = block[i] - max;
            let d = if d < EXP_FLOOR { EXP_FLOOR } else { d }; // so that NaN reaches the sum
            let e = exp::<FUSED>(d);
            sum[i] += e;
            weighted[i] = multiply_add::<FUSED>(d, e, weighted[i]);
        }
    });
    Partial { max, sum: total(sum), weighted: total(weighted) }
}

#[inline(always)]
pub fn group_maxima(x: &[f32], out: &mut Vec<f32>) {
    out.reserve(x.len().div_ceil(GROUP));
    each_long(x, |block: &[f32; GROUP]| {
        let mut lanes = [f32::NEG_INFINITY; 8];
        for part in block.as_chunks::<8>().0 {
            for (lane, &x) in lanes.iter_mut().zip(part) {
                *lane = larger(x, *lane);
            }
        }
        out.push(reduce(lanes, larger));
    });
}

/// How many logits of the block `stays` says yes to.
#[inline(always)]
fn count_if<const N: usize>(block: &[f32; N], stays: impl Fn(f32) -> bool) -> usize {
    block.iter().map(|&x| u32::from(stays(x))).sum::<u32>() as usize
}

/// Appends the logits that `stays` says yes to, in order; never to `−inf`.
#[inline(always)]
fn append(x: &[f32], out: &mut Vec<f32>, stays: impl Fn(f32) -> bool) {
    let mut kept = [0f32; 2 * LANES];
    each_long(x, |block: &[f32; 2 * LANES]| match count_if(block, &stays) {
        0 => {}
        all if all == block.len() => out.extend_from_slice(block),
        some => {
            let mut n = 0;
            for (i, &x) in block.iter().enumerate() {
                kept[n.min(i)] = x; // overwritten by the next one unless it stays
                n += usize::from(stays(x));
            }
            out.extend_from_slice(&kept[..some]);
        }
    });
}

#[inline(always)]
pub fn at_least(x: &[f32], from: f32, out: &mut Vec<f32>) {
    append(x, out, |x| x >= from);
}

#[inline(always)]
pub fn in_bucket(x: &[f32], buckets: &Buckets, number: u32, out: &mut Vec<f32>) {
    append(x, out, |x| (x >= buckets.from) & (buckets.of(x) == number));
}

#[inline(always)]
pub fn bucket_masses<const FUSED: bool>(x: &[f32], buckets: &Buckets, sums: &mut [[f64; 4]]) -> usize {
    let sums = &mut sums[..buckets.count()];
    let mut total = 0;
    each_long(x, |block: &[f32; 4 * LANES]| {
        let found = count_if(block, |x| x >= buckets.from);
        if found == 0 {
            return;
        }
        total += found;
        let (mut places, mut inside, mut weights) = ([0; 4 * LANES], [0.0; 4 * LANES], [0.0; 4 * LANES]);
        for i in 0..4 * LANES {
            places[i] = buckets.of(block[i]);
            inside[i] = if block[i] >= buckets.from { block[i] } else { f32::NEG_INFINITY }; // which weighs nothing
        }
        weights_into::<FUSED>(&inside, buckets.max, buckets.scale, &mut weights);
        for i in 0..4 * LANES {
            sums[places[i] as usize][i % 4] += weights[i];
        }
    });
    total
}

#[inline(always)]
pub fn mass<const FUSED: bool>(x: &[f32], range: &Mass) -> (u64, f64) {
    let below_max = if range.max < range.below { range.max } else { range.below };
    let mut count = 0u64;
    let mut sum = 0f64;
    for chunk in x.chunks(CHUNK) {
        let mut ties = [0u32; 4 * LANES];
        let mut rest = [0f32; 4 * LANES];
        each(chunk, |block: &[f32; 4 * LANES]| {
            if count_if(block, |x| x >= range.from) == 0 {
                return;
            }
            for i in 0..4 * LANES {
                let x = block[i];
                let s = (x - range.max) * range.scale;
                let e = exp::<FUSED>(if s > EXP_FLOOR { s } else { EXP_FLOOR });
                rest[i] += if (x >= range.from) & (x < below_max) { e } else { 0.0 };
                ties[i] += u32::from(x >= range.max);
            }
        });
        count += u64::from(reduce(ties, |a, b| a + b));
        sum += total(rest);
    }
    (if range.max < range.below { count } else { 0 }, sum)
}

#[inline(always)]
pub fn weights_into<const FUSED: bool>(x: &[f32], max: f32, scale: f64, out: &mut [f64]) {
    let max = f64::from(max);
    for (out, &x) in out.iter_mut().zip(x) {
        *out = exp_f64::<FUSED>((f64::from(x) - max) * scale);
    }
}

/// Ids covered by one step of [`contenders`]: 32 Philox counters, each good for four ids.
const RACERS: usize = 128;

/// Up to this many ids in reach, listing them all is cheaper than 128 random numbers.
const FEW: usize = 4;

/// One block of Philox4x32-10 (`sampler/rng.rs` explains it). Words live in 64-bit lanes, where a 32 × 32 bit product is
/// one instruction.
#[inline(always)]
fn philox(counter: [u64; 4], [mut k0, mut k1]: [u32; 2]) -> [u64; 4] {
    const LOW: u64 = 0xffff_ffff;
    let [mut a, mut b, mut c, mut d] = counter;
    for _ in 0..10 {
        let p = (a & LOW) * 0xD251_1F53;
        let q = (c & LOW) * 0xCD9E_8D57;
        a = (q >> 32) ^ b ^ u64::from(k0);
        c = (p >> 32) ^ d ^ u64::from(k1);
        b = q & LOW;
        d = p & LOW;
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [a, b, c, d]
}

/// The random words of the ids from `id` on, a multiple of four. One counter is one round of the loop: the compiler gives
/// each its lane.
#[inline(always)]
fn random_words(id: u32, race: &Race) -> [u32; RACERS] {
    let [position, low, high] = race.counter.map(u64::from);
    let mut words = [0u32; RACERS];
    for (i, four) in words.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let counter = u64::from((id >> 2).wrapping_add(i as u32));
        *four = philox([counter, position, low, high], race.key).map(|w| w as u32);
    }
    words
}

/// At most `log2(v)` for the draw `v = (r + ½)·2⁻³²`, too low by less than 0.09 (plus 10⁻⁵ of rounding, which the margin
/// in [`Race::best`] covers). It reads the bits of a float as its logarithm, which a chord below the curve justifies.
#[inline(always)]
fn log2_below(r: u32) -> f32 {
    let v = ((r >> 1) as i32) as f32 * (1.0 / 2_147_483_648.0);
    (v.to_bits() as i32) as f32 * (1.0 / 8_388_608.0) - 127.0
}

/// The ids of one step that may win, appended to the first `found` of `out`; returns how many there are now.
#[inline(always)]
fn race_step(block: &[f32; RACERS], id: u32, race: &Race, out: &mut [u32; CHUNK], mut found: usize) -> usize {
    let in_reach = count_if(block, |x| x >= race.from);
    if in_reach == 0 {
        return found;
    }
    let mut may_win = block.map(|x| u32::from(x >= race.from));
    if in_reach > FEW {
        let words = random_words(id, race);
        for i in 0..RACERS {
            let behind = larger(block[i] - race.max, f32::MIN) * race.scale;
            // −ln E > S − x/T, and E ≥ v, so a winner has log2 v < (x/T − S)·log2 e.
            may_win[i] &= u32::from(log2_below(words[i]) + race.best < behind);
        }
        if may_win.iter().sum::<u32>() == 0 {
            return found;
        }
    }
    for (i, &may) in may_win.iter().enumerate() {
        if may != 0 {
            out[found] = id + i as u32;
            found += 1;
        }
    }
    found
}

#[inline(always)]
pub fn contenders(x: &[f32], first: u32, race: &Race, out: &mut [u32; CHUNK]) -> usize {
    assert!(x.len() <= CHUNK, "the race is run chunk by chunk");
    // A counter is good for an aligned four of ids; steps start at multiples of RACERS.
    let mut found = 0;
    let start = first as usize % RACERS;
    let (head, body) = x.split_at(((RACERS - start) % RACERS).min(x.len()));
    if !head.is_empty() {
        let mut block = [f32::NEG_INFINITY; RACERS];
        block[start..start + head.len()].copy_from_slice(head);
        found = race_step(&block, first - start as u32, race, out, found);
    }
    let (blocks, tail) = body.as_chunks::<RACERS>();
    let mut id = first + head.len() as u32;
    for block in blocks {
        found = race_step(block, id, race, out, found);
        id = id.wrapping_add(RACERS as u32);
    }
    if !tail.is_empty() {
        let mut block = [f32::NEG_INFINITY; RACERS];
        block[..tail.len()].copy_from_slice(tail);
        found = race_step(&block, id, race, out, found);
    }
    found
}
