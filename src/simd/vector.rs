//! Norms, attention and elementwise loops over f32.
//!
//! All of them are written once, over arrays of 16 lanes ([`crate::simd::scalar`]), and compiled again for each
//! instruction set: every sum has one fixed order (16 partial sums, then a tree) and every product-sum is one fused
//! multiply-add, so the tables agree bit for bit, and a model's logits do not depend on the machine's vector width.
//!
//! Attention reads keys and values as f32 rows, or as bf16 rows that it widens in registers, once for all query heads that
//! share them. Other storage formats are widened a chunk at a time into a buffer that stays in the first-level cache:
//!
//! ```text
//! dots          scores[n] = scale · Σ_d query[d] · keys[n, d]
//! exp_sum       scores[n] ← exp(scores[n] − max), returns their sum
//! weighted_sum  out[d]    ← out[d] · rescale + Σ_n weights[n] · values[n, d]
//! ```

use half::bf16;

/// `scores[g, n] = scale · queries[g] · keys[n]`: `queries` is `[g, d]`, `keys` `[n, d]`, `scores` `[g, stride]`, of whose rows the
/// first `n` are written. Each result has the bits of [`Ops::dots`]. `ahead` is what will be read next: it is fetched meanwhile.
pub type DotsBf16 = fn(queries: &[f32], keys: &[bf16], d: usize, scale: f32, scores: &mut [f32], stride: usize, ahead: &[bf16]);

/// `out[g] = out[g] · rescale[g] + Σ_n weights[g, n] · values[n]`: `out` is `[g, d]`, `weights` `[g, stride]`, of whose rows the first
/// `n` are read, `values` `[n, d]`. Each result has the bits of [`Ops::weighted_sum`]. `ahead` as in [`DotsBf16`].
pub type WeightedSumsBf16 = fn(out: &mut [f32], rescale: &[f32], weights: &[f32], stride: usize, values: &[bf16], ahead: &[bf16]);

/// The functions of this family.
#[derive(Clone, Copy, Debug)]
pub struct Ops {
    /// `max |x|`, 0 of nothing; NaN is skipped.
    pub absmax: fn(x: &[f32]) -> f32,
    /// `x += y`.
    pub add: fn(x: &mut [f32], y: &[f32]),
    /// `out = x · y`, elementwise.
    pub mul: fn(x: &[f32], y: &[f32], out: &mut [f32]),
    /// `out = weight · (x / √(mean(x²) + eps))`.
    pub rms_norm: fn(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]),
    /// Rotates the pairs `(x[i], x[i + d/2])` by the angles whose cosines and sines are given, `[d / 2]` each.
    pub rope: fn(x: &mut [f32], cos: &[f32], sin: &[f32]),
    /// `gate = gate / (1 + exp(−gate)) · up`.
    pub silu_mul: fn(gate: &mut [f32], up: &[f32]),
    /// `scores[n] = scale · query · keys[n]`; `query` is `[d]`, `keys` is `[n, d]`.
    pub dots: fn(query: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]),
    /// Largest element, −∞ of nothing; NaN is skipped.
    pub max: fn(x: &[f32]) -> f32,
    /// `x = exp(x − max)`, and the sum of it.
    pub exp_sum: fn(x: &mut [f32], max: f32) -> f32,
    /// `out = out · rescale + Σ_n weights[n] · values[n]`; `out` is `[d]`, `values` is `[n, d]`.
    pub weighted_sum: fn(out: &mut [f32], rescale: f32, weights: &[f32], values: &[f32]),
    /// `dots` of several queries with bf16 keys.
    pub dots_bf16: DotsBf16,
    /// `weighted_sum` of several heads over bf16 values.
    pub weighted_sums_bf16: WeightedSumsBf16,
    /// bf16 → f32, exact.
    pub widen_bf16: fn(x: &[bf16], out: &mut [f32]),
    /// f32 → bf16, ties to even, NaN kept.
    pub narrow_bf16: fn(x: &[f32], out: &mut [bf16]),
    /// E4M3 → f32 times `scale`.
    pub widen_e4m3: fn(x: &[u8], scale: f32, out: &mut [f32]),
    /// NVFP4 → f32: `codes` is `[n / 2]` (low nibble first), `block_scales` is `[n / 16]` E4M3 bits, `out` is `[n]`.
    pub widen_nvfp4: fn(codes: &[u8], block_scales: &[u8], tensor_scale: f32, out: &mut [f32]),
}

/// Compiles the plain loops again with the CPU features `$features`, as the table `COMPILED`; an instruction set's file
/// replaces those that the compiler does not keep in registers.
#[cfg(target_arch = "x86_64")]
macro_rules! recompile {
    ($features:literal) => {
        use $crate::simd::scalar::vector::{dots_widened, weighted_sums_widened};

        const COMPILED: Ops = Ops {
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
            dots_bf16: |queries, keys, d, scale, scores, stride, _| dots_widened(&OPS, queries, keys, d, scale, scores, stride),
            weighted_sums_bf16: |out, rescale, weights, stride, values, _| weighted_sums_widened(&OPS, out, rescale, weights, stride, values),
            widen_bf16,
            narrow_bf16,
            widen_e4m3,
            widen_nvfp4,
        };
        recompile!($features, absmax(x: &[f32]) -> f32);
        recompile!($features, add(x: &mut [f32], y: &[f32]) -> ());
        recompile!($features, mul(x: &[f32], y: &[f32], out: &mut [f32]) -> ());
        recompile!($features, rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) -> ());
        recompile!($features, rope(x: &mut [f32], cos: &[f32], sin: &[f32]) -> ());
        recompile!($features, silu_mul(gate: &mut [f32], up: &[f32]) -> ());
        recompile!($features, dots(query: &[f32], keys: &[f32], scale: f32, scores: &mut [f32]) -> ());
        recompile!($features, max(x: &[f32]) -> f32);
        recompile!($features, exp_sum(x: &mut [f32], max: f32) -> f32);
        recompile!($features, weighted_sum(out: &mut [f32], rescale: f32, weights: &[f32], values: &[f32]) -> ());
        recompile!($features, widen_bf16(x: &[bf16], out: &mut [f32]) -> ());
        recompile!($features, narrow_bf16(x: &[f32], out: &mut [bf16]) -> ());
        recompile!($features, widen_e4m3(x: &[u8], scale: f32, out: &mut [f32]) -> ());
        recompile!($features, widen_nvfp4(codes: &[u8], block_scales: &[u8], tensor_scale: f32, out: &mut [f32]) -> ());
    };
    ($features:literal, $name:ident($($argument:ident: $kind:ty),*) -> $returns:ty) => {
        fn $name($($argument: $kind),*) -> $returns {
            #[target_feature(enable = $features)]
            fn compiled($($argument: $kind),*) -> $returns {
                $crate::simd::scalar::vector::$name($($argument),*)
            }
            // SAFETY: this table is handed out only where the CPU has these features.
            unsafe { compiled($($argument),*) }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(super) use recompile;

#[cfg(test)]
mod tests {
    use half::bf16;

    use crate::numeric::{e2m1, e4m3};
    use crate::simd;

    /// Uniform in (−1, 1), reproducible.
    pub fn noise(seed: u64, n: usize) -> Vec<f32> {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        (0..n)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }

    /// Lengths around every vector width and unrolling.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..=70).chain([127, 128, 129])
    }

    fn ulps(a: f32, b: f64) -> f64 {
        let exact = b as f32;
        let ulp = if exact == 0.0 { f32::from_bits(1) } else { f32::from_bits(exact.abs().to_bits() + 1) - exact.abs() };
        (f64::from(a) - b).abs() / f64::from(ulp)
    }

    #[test]
    fn exp_is_within_one_ulp() {
        for table in simd::available() {
            let mut worst = 0.0f64;
            for start in -1030..=880 {
                let x: Vec<f32> = (0..100).map(|i| (start * 100 + i) as f32 * 1e-3 + 1e-5 * (i as f32)).collect();
                let mut y = x.clone();
                (table.vector.exp_sum)(&mut y, 0.0);
                for (&x, &y) in x.iter().zip(&y) {
                    worst = worst.max(ulps(y, f64::from(x).exp()));
                }
            }
            assert!(worst < 1.0, "{}: {worst} ulp", table.name);
            let mut special = [f32::NEG_INFINITY, -200.0, -104.0, 0.0, f32::NAN, f32::INFINITY, 1000.0];
            (table.vector.exp_sum)(&mut special, 0.0);
            assert_eq!(special[..4], [0.0, 0.0, 0.0, 1.0], "{}", table.name);
            assert!(special[4].is_nan() && special[5] == f32::INFINITY && special[6] == f32::INFINITY, "{}", table.name);
        }
    }

    #[test]
    fn exp_sum_adds_what_it_stores() {
        for table in simd::available() {
            for n in lengths() {
                let mut x = noise(n as u64, n);
                let sum = (table.vector.exp_sum)(&mut x, 0.5);
                let expected: f64 = x.iter().map(|&x| f64::from(x)).sum();
                assert!((f64::from(sum) - expected).abs() <= 1e-6 * expected.max(1.0), "{} {n}", table.name);
            }
        }
    }

    #[test]
    fn sums_match_f64() {
        for table in simd::available() {
            for d in lengths() {
                let (query, keys) = (noise(1, d), noise(2, d * 7));
                let mut scores = [0.0; 7];
                (table.vector.dots)(&query, &keys, 0.25, &mut scores);
                for (n, &score) in scores.iter().enumerate() {
                    let terms = query.iter().zip(&keys[n * d..]).map(|(&a, &b)| f64::from(a) * f64::from(b));
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                    assert!((f64::from(score) - 0.25 * sum).abs() <= 2e-6 * size + 1e-30, "{} {d}", table.name);
                }
                let weights = noise(3, 7);
                let mut out = noise(4, d);
                let before = out.clone();
                (table.vector.weighted_sum)(&mut out, 0.5, &weights, &keys);
                for i in 0..d {
                    let sum: f64 = weights.iter().enumerate().map(|(n, &w)| f64::from(w) * f64::from(keys[n * d + i])).sum();
                    assert!((f64::from(out[i]) - (0.5 * f64::from(before[i]) + sum)).abs() < 4e-6, "{} {d}", table.name);
                }
            }
        }
    }

    #[test]
    fn norms_and_elementwise_loops_match_f64() {
        for table in simd::available() {
            for n in lengths().filter(|&n| n > 0) {
                let (x, y) = (noise(5, n), noise(6, n));
                let mut out = vec![0.0; n];
                (table.vector.rms_norm)(&x, &y, 1e-6, &mut out);
                let mean = x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n as f64;
                for i in 0..n {
                    let exact = f64::from(y[i]) * f64::from(x[i]) / (mean + 1e-6).sqrt();
                    assert!((f64::from(out[i]) - exact).abs() <= 1e-6 * exact.abs() + 1e-12, "{} {n}", table.name);
                }
                let mut gate: Vec<f32> = x.iter().map(|x| x * 120.0).collect();
                let gates = gate.clone();
                (table.vector.silu_mul)(&mut gate, &y);
                for i in 0..n {
                    let g = f64::from(gates[i]);
                    let exact = g / (1.0 + (-g).exp()) * f64::from(y[i]);
                    assert!((f64::from(gate[i]) - exact).abs() <= 1e-6 * exact.abs() + 1e-30, "{} {n}: {g}", table.name);
                }
                (table.vector.mul)(&x, &y, &mut out);
                assert!(out.iter().zip(x.iter().zip(&y)).all(|(&o, (&x, &y))| o == x * y), "{}", table.name);
                (table.vector.add)(&mut out, &y);
                assert!(out.iter().zip(x.iter().zip(&y)).all(|(&o, (&x, &y))| o == x * y + y), "{}", table.name);
                assert_eq!((table.vector.absmax)(&x), x.iter().fold(0.0, |m: f32, x| m.max(x.abs())), "{}", table.name);
                assert_eq!((table.vector.max)(&x), x.iter().copied().fold(f32::NEG_INFINITY, f32::max), "{}", table.name);
            }
            assert_eq!(((table.vector.absmax)(&[]), (table.vector.max)(&[])), (0.0, f32::NEG_INFINITY));
        }
    }

    #[test]
    fn rope_rotates_half_split_pairs() {
        for table in simd::available() {
            for half in lengths() {
                let mut x = noise(7, 2 * half);
                let before = x.clone();
                let angles = noise(8, half);
                let cos: Vec<f32> = angles.iter().map(|a| a.cos()).collect();
                let sin: Vec<f32> = angles.iter().map(|a| a.sin()).collect();
                (table.vector.rope)(&mut x, &cos, &sin);
                for i in 0..half {
                    let (a, b) = (before[i], before[i + half]);
                    assert_eq!((x[i], x[i + half]), (a * cos[i] - b * sin[i], b * cos[i] + a * sin[i]), "{}", table.name);
                }
            }
        }
    }

    #[test]
    fn narrow_formats_widen_exactly() {
        let e4m3: Vec<u8> = (0..=255).collect();
        let halves: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        for table in simd::available() {
            let mut out = vec![0.0; 256];
            (table.vector.widen_e4m3)(&e4m3, 0.5, &mut out);
            for (&bits, &x) in e4m3.iter().zip(&out) {
                let expected = e4m3::decode(bits) * 0.5;
                assert!(x.to_bits() == expected.to_bits() || x.is_nan() && expected.is_nan(), "{} {bits:02x}", table.name);
            }
            let mut wide = vec![0.0; halves.len()];
            (table.vector.widen_bf16)(&halves, &mut wide);
            let mut back = vec![bf16::ZERO; halves.len()];
            (table.vector.narrow_bf16)(&wide, &mut back);
            for i in 0..halves.len() {
                let same = wide[i].to_bits() == halves[i].to_f32().to_bits() && back[i].to_bits() == halves[i].to_bits();
                assert!(same || wide[i].is_nan() && back[i].is_nan(), "{} {i:04x}", table.name);
            }
            let fine: Vec<f32> = (0..100_003u32).map(|i| f32::from_bits(i.wrapping_mul(42_953))).collect();
            let mut narrow = vec![bf16::ZERO; fine.len()];
            (table.vector.narrow_bf16)(&fine, &mut narrow);
            for (&x, &n) in fine.iter().zip(&narrow) {
                assert!(n.to_bits() == bf16::from_f32(x).to_bits() || n.is_nan() && x.is_nan(), "{} {x}", table.name);
            }
            for (n, scale) in lengths().zip([0.7, 1e-35, 3e34, 1.0].into_iter().cycle()) {
                let mut out = vec![7.0; n + 1];
                (table.vector.widen_e4m3)(&e4m3[100..100 + n], scale, &mut out[..n]);
                for (&bits, &x) in e4m3[100..].iter().zip(&out[..n]) {
                    let expected = e4m3::decode(bits) * scale;
                    assert!(x.to_bits() == expected.to_bits() || x.is_nan() && expected.is_nan(), "{} {n} {scale}", table.name);
                }
                assert_eq!(out[n], 7.0);
            }
            let codes: Vec<u8> = (0..=255).collect(); // 512 elements, 32 blocks
            let scales: Vec<u8> = (0..32).map(|i| i * 3 + 1).collect();
            let mut out = vec![0.0; 512];
            (table.vector.widen_nvfp4)(&codes, &scales, 0.75, &mut out);
            for (i, &x) in out.iter().enumerate() {
                let code = codes[i / 2] >> (4 * (i % 2)) & 15;
                let expected = e2m1::decode(code) * (e4m3::decode(scales[i / 16]) * 0.75);
                assert_eq!(x.to_bits(), expected.to_bits(), "{} {i}", table.name);
            }
        }
    }

    #[test]
    fn bf16_keys_and_values_give_the_bits_of_widened_ones() {
        for table in simd::available() {
            for (d, (heads, n)) in lengths().filter(|&d| d > 0).zip([(2, 32), (1, 7), (3, 1), (5, 33), (4, 5), (2, 4)].into_iter().cycle())
            {
                let stride = n + 3;
                let stored: Vec<bf16> = noise(21, n * d).into_iter().map(bf16::from_f32).collect();
                let wide: Vec<f32> = stored.iter().map(|x| x.to_f32()).collect();
                let (queries, weights, rescale) = (noise(22, heads * d), noise(23, heads * stride), noise(24, heads));
                let (mut scores, mut out) = (vec![7.0; heads * stride], noise(25, heads * d));
                let (mut scores_wide, mut out_wide) = (scores.clone(), out.clone());
                (table.vector.dots_bf16)(&queries, &stored, d, 0.25, &mut scores, stride, &stored[..n / 2 * d]);
                (table.vector.weighted_sums_bf16)(&mut out, &rescale, &weights, stride, &stored, &stored[..n / 3 * d]);
                for head in 0..heads {
                    let query = &queries[head * d..(head + 1) * d];
                    (simd::scalar().vector.dots)(query, &wide, 0.25, &mut scores_wide[head * stride..][..n]);
                    let out = &mut out_wide[head * d..(head + 1) * d];
                    (simd::scalar().vector.weighted_sum)(out, rescale[head], &weights[head * stride..][..n], &wide);
                }
                let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&scores), bits(&scores_wide), "{} d {d} heads {heads} n {n}", table.name);
                assert_eq!(bits(&out), bits(&out_wide), "{} d {d} heads {heads} n {n}", table.name);
            }
        }
    }

    #[test]
    fn every_table_agrees_bit_for_bit() {
        let run = |table: &simd::Table, n: usize| {
            let (x, y, many) = (noise(11, n), noise(12, n), noise(13, 5 * n));
            let mut all = Vec::new();
            let mut out = vec![0.0; n];
            (table.vector.rms_norm)(&x, &y, 1e-5, &mut out);
            all.extend_from_slice(&out);
            out.copy_from_slice(&x);
            (table.vector.silu_mul)(&mut out, &y);
            all.extend_from_slice(&out);
            let mut scores = vec![0.0; 5];
            (table.vector.dots)(&x, &many, 0.125, &mut scores);
            all.extend_from_slice(&scores);
            all.push((table.vector.exp_sum)(&mut out, 0.3));
            all.extend_from_slice(&out);
            (table.vector.weighted_sum)(&mut out, 0.9, &scores, &many);
            all.extend_from_slice(&out);
            all.iter().map(|x| x.to_bits()).collect::<Vec<_>>()
        };
        for table in simd::available() {
            for n in lengths().filter(|&n| n > 0) {
                assert_eq!(run(table, n), run(simd::scalar(), n), "{} {n}", table.name);
            }
        }
    }
}
