//! The activations part of `common.cuh`: rounding, forms, places.

use half::f16;

use super::warp::{LANES, Register, shuffle_xor};
use crate::numeric::{e2m1, e4m3};
use crate::simd;
use crate::simd::linear::{ACTIVATION_SCALE, ActivationTile, TILE};

/// How activations are written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Form {
    Static(f32),
    Dynamic,
    Float,
}

/// Activations of one group in operand order.
#[derive(Debug)]
pub struct Prepared {
    pub pieces: Vec<[u32; 4]>,
    pub row_scales: Vec<f32>,
    pub columns: usize,
    pub terms: usize,
    chunks: usize,
}

impl Prepared {
    /// What element `k` of a token stands for.
    pub fn value(&self, token: usize, k: usize) -> f64 {
        let term = |term: usize| {
            let piece = self.pieces[piece_of(token, term, k / 8 * 8, self.columns, self.terms, self.chunks)];
            f16::from_bits((piece[k % 8 / 2] >> (16 * (k % 2))) as u16).to_f64()
        };
        let value = if self.terms == 2 { term(0) + term(1) / 2048.0 } else { term(0) };
        value * f64::from(self.row_scales[token])
    }
}

fn round_e4m3(x: f32) -> f32 {
    if x.is_nan() {
        return x;
    }
    let x = x.min(448.0);
    if x < 0.015_625 {
        return (x * 512.0).round_ties_even() * 0.001_953_125;
    }
    let bits = x.to_bits();
    f32::from_bits((bits + 0x0007_FFFF + (bits >> 20 & 1)) & 0xFFF0_0000)
}

fn round_e2m1(x: f32) -> f32 {
    let a = x.abs();
    let (per_step, step) = if a < 2.0 {
        (2.0, 0.5)
    } else if a < 4.0 {
        (1.0, 1.0)
    } else {
        (0.5, 2.0)
    };
    ((a * per_step).round_ties_even() * step).copysign(x)
}

fn e4m3_to_f32(bits: u32) -> f32 {
    let magnitude = bits & 0x7F;
    let value = if magnitude < 8 { magnitude as f32 * 0.001_953_125 } else { f32::from_bits((magnitude + (120 << 3)) << 20) };
    let value = if magnitude == 0x7F { f32::from_bits(0x7FC0_0000) } else { value };
    f32::from_bits(value.to_bits() | (bits & 0x80) << 24)
}

fn e2m1_to_f32(code: u32) -> f32 {
    let magnitude = code & 7;
    let value = if magnitude < 2 { 0.5 * magnitude as f32 } else { f32::from_bits((magnitude + (126 << 1)) << 22) };
    f32::from_bits(value.to_bits() | (code & 8) << 28)
}

pub fn piece_of(token: usize, term: usize, k: usize, columns: usize, terms: usize, chunks: usize) -> usize {
    let tokens = columns / terms;
    let (group, column) = (token / tokens, token % tokens + term * tokens);
    let (chunk, h, t, octet) = (k / 128, k / 64 % 2, k / 16 % 4, k / 8 % 2);
    (((group * chunks + chunk) * 4 + h * 2 + octet) * columns + column) * 4 + t
}

/// `quantize_block` for the 32 lanes of a warp, eight blocks.
fn quantize_block(v: &[[f32; 4]; LANES], divisor: f32) -> [[f32; 4]; LANES] {
    let mut magnitude: Register = std::array::from_fn(|lane| v[lane].iter().map(|x| x.to_bits() & 0x7FFF_FFFF).max().unwrap_or(0));
    for mask in [1, 2] {
        let other = shuffle_xor(&magnitude, mask);
        magnitude = std::array::from_fn(|lane| magnitude[lane].max(other[lane]));
    }
    std::array::from_fn(|lane| {
        if magnitude[lane] >= 0x7F80_0000 {
            return [f32::NAN; 4];
        }
        let multiplier = 1.0 / divisor;
        let scale = round_e4m3(divisor * (f32::from_bits(magnitude[lane]) * (1.0 / 6.0)));
        let inverse = 1.0 / (scale * multiplier);
        if inverse.is_finite() { v[lane].map(|x| round_e2m1((x * inverse).clamp(-6.0, 6.0)) * scale) } else { [0.0; 4] }
    })
}

fn float_row_scale(magnitude: u32) -> f32 {
    match magnitude {
        0 => 1.0,
        0x7F80_0000.. => f32::NAN,
        _ => f32::from_bits((((magnitude >> 23) as i32 - 127 - 13).max(-126) + 127) as u32 * (1 << 23)),
    }
}

/// Prepares `x`, `[tokens, cols]`, as one group or, with `columns`, as groups of so many operand columns.
pub fn prepare(x: &[f32], tokens: usize, cols: usize, form: Form, columns: Option<usize>) -> Prepared {
    let terms = if form == Form::Float { 2 } else { 1 };
    let columns = columns.unwrap_or(terms * tokens);
    let chunks = cols.div_ceil(128);
    let groups = tokens.div_ceil(columns / terms);
    let mut pieces = vec![[0x7E00_7E00; 4]; groups * chunks * 16 * columns]; // poisoned with NaN
    let mut row_scales = Vec::new();
    for (token, row) in x.chunks_exact(cols).enumerate() {
        let magnitude = row.iter().map(|x| x.to_bits() & 0x7FFF_FFFF).max().unwrap_or(0);
        let row_scale = match form {
            Form::Static(scale) => scale,
            Form::Dynamic => f32::from_bits(magnitude) / 2688.0,
            Form::Float => float_row_scale(magnitude),
        };
        row_scales.push(row_scale);
        let at = |k: usize| row.get(k).copied().unwrap_or(0.0);
        for first in (0..chunks * 128).step_by(128) {
            let v: [[f32; 4]; LANES] = std::array::from_fn(|lane| std::array::from_fn(|i| at(first + 4 * lane + i)));
            let quantized = if form == Form::Float { v } else { quantize_block(&v, 1.0 / row_scale) };
            for lane in 0..LANES {
                let k = first + 4 * lane;
                let mut write = |term: usize, v: [f32; 4]| {
                    let [a, b, c, d] = v.map(|x| u32::from(f16::from_f32(x).to_bits()));
                    let piece = &mut pieces[piece_of(token, term, k / 8 * 8, columns, terms, chunks)];
                    (piece[k / 4 % 2 * 2], piece[k / 4 % 2 * 2 + 1]) = (a | b << 16, c | d << 16);
                };
                if form == Form::Float {
                    let down = 1.0 / row_scale;
                    let v = v[lane].map(|x| x * down);
                    write(0, v);
                    write(1, v.map(|x| (x - f16::from_f32(x).to_f32()) * 2048.0));
                } else {
                    write(0, quantized[lane]);
                }
            }
        }
    }
    Prepared { pieces, row_scales, columns, terms, chunks }
}

fn interesting() -> Vec<f32> {
    let mut found: Vec<f32> = (0..=u16::MAX).map(|bits| f16::from_bits(bits).to_f32()).filter(|x| x.is_finite()).collect();
    found.extend((0..=u16::MAX).map(|bits| f32::from_bits(u32::from(bits) << 16)).filter(|x| x.is_finite()));
    let near = |x: f32| [x.next_down(), x, x.next_up()];
    found.extend((0..126u8).flat_map(|bits| near(f32::midpoint(e4m3::decode(bits), e4m3::decode(bits + 1)))));
    found.extend([0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0].into_iter().flat_map(near).flat_map(|x| [x, -x]));
    found
}

#[test]
fn roundings_are_those_of_the_numeric_module() {
    for x in interesting() {
        if x >= 0.0 {
            assert_eq!(round_e4m3(x).to_bits(), e4m3::decode(e4m3::encode(x)).to_bits(), "{x}");
        }
        let clamped = x.clamp(-6.0, 6.0);
        assert_eq!(round_e2m1(clamped).to_bits(), e2m1::decode(e2m1::encode(clamped)).to_bits(), "{x}");
    }
    assert!(round_e4m3(f32::NAN).is_nan() && round_e4m3(f32::INFINITY) == 448.0);
}

#[test]
fn small_floats_decode_as_in_the_numeric_module() {
    for bits in 0..=255u8 {
        assert_eq!(e4m3_to_f32(u32::from(bits)).to_bits() & 0x7FFF_FFFF, e4m3::decode(bits).to_bits() & 0x7FFF_FFFF);
        assert_eq!(e4m3_to_f32(u32::from(bits)).is_nan(), e4m3::decode(bits).is_nan());
        assert!(e4m3::decode(bits).is_nan() || e4m3_to_f32(u32::from(bits)) == e4m3::decode(bits));
        assert_eq!(e2m1_to_f32(u32::from(bits & 15)).to_bits(), e2m1::decode(bits).to_bits());
    }
}

/// The CPU's `quantize` and `quantize_block` on the same 64 values.
fn assert_same(x: &[f32; TILE], divisor: f32) {
    let mut tile = ActivationTile::ZERO;
    (simd::scalar().linear.quantize)(x, divisor, &mut tile);
    let lanes: [[f32; 4]; LANES] = std::array::from_fn(|lane| std::array::from_fn(|i| x.get(4 * lane + i).copied().unwrap_or(0.0)));
    let ours = quantize_block(&lanes, divisor);
    for (k, &code) in tile.codes.iter().enumerate() {
        let theirs = f32::from(code) / 2.0 * (tile.scales[k / 16] / ACTIVATION_SCALE);
        let ours = ours[k / 4][k % 4];
        assert!(ours == theirs || ours.is_nan() && theirs.is_nan(), "element {k} = {}, divisor {divisor}: {ours} {theirs}", x[k]);
    }
}

#[test]
fn blocks_are_quantized_as_on_the_cpu_bit_for_bit() {
    let mut state = 5u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    for divisor in [1.0, 40.0, 2688.0 / 3.0, 1e-3, 1e30, 1e-38, f32::INFINITY, 0.0, f32::NAN, f32::MAX] {
        for spread in [1e-30f32, 1e-3, 1.0, 100.0, 1e30] {
            for _ in 0..40 {
                let x: [f32; TILE] = std::array::from_fn(|_| ((next() as f32) / 2_147_483_648.0 - 1.0) * spread);
                assert_same(&x, divisor);
                assert_same(&x.map(|x| f32::from_bits(x.to_bits() & 0xFFFF_0000)), divisor);
            }
        }
        for _ in 0..200 {
            // Any bits at all: subnormals, infinities and NaN among them.
            assert_same(&std::array::from_fn(|_| f32::from_bits(next())), divisor);
        }
        assert_same(&[0.0; TILE], divisor);
        assert_same(&[-0.0; TILE], divisor);
    }
    // Midpoints of E2M1 under a scale of 1: the block's largest is 6.
    let mut x = [0.0; TILE];
    for (i, place) in x.iter_mut().enumerate() {
        *place = if i % 16 == 0 { 6.0 } else { [0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, -0.25][i % 8] };
    }
    assert_same(&x, 1.0);
}

#[test]
fn every_element_of_every_token_has_a_place_of_its_own() {
    for (tokens, columns, terms, cols) in [(1, 1, 1, 272), (8, 8, 1, 128), (5, 5, 1, 400), (3, 6, 2, 144), (19, 8, 1, 272), (10, 8, 2, 144)]
    {
        let chunks = cols_to_chunks(cols);
        let mut seen = std::collections::BTreeSet::new();
        let groups = usize::div_ceil(tokens, columns / terms);
        for token in 0..tokens {
            for (term, k) in (0..terms).flat_map(|term| (0..chunks * 128).step_by(8).map(move |k| (term, k))) {
                let place = piece_of(token, term, k, columns, terms, chunks);
                assert!(place < groups * chunks * 16 * columns && seen.insert(place));
            }
        }
    }
}

fn cols_to_chunks(cols: usize) -> usize {
    cols.div_ceil(128)
}

#[test]
fn floats_keep_22_bits() {
    let x: Vec<f32> = (0..512).map(|i| ((i * i) as f32).sin() * 10f32.powi(i % 9 - 4)).collect();
    for scale in [1.0, 1e-20, 1e20, 1e-38] {
        let x: Vec<f32> = x.iter().map(|x| x * scale).collect();
        let prepared = prepare(&x, 2, 256, Form::Float, None);
        for (token, row) in x.chunks_exact(256).enumerate() {
            let most = f64::from(row.iter().fold(0.0f32, |m, x| m.max(x.abs())));
            for (k, &x) in row.iter().enumerate() {
                let error = (prepared.value(token, k) - f64::from(x)).abs();
                assert!(error <= f64::from(x).abs() * 2f64.powi(-22) + most * 2f64.powi(-48), "{x}: {error}");
            }
        }
    }
}
