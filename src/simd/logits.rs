//! Passes over the logits of one position.
//!
//! A vocabulary is long (151,936 for Qwen3) and a decode step visits it a handful of times, so every visit is one
//! vectorized loop. All of them are written once, as plain Rust over groups of [`LANES`] independent lanes
//! (`scalar/logits.rs`), and compiled again under each instruction set by [`instantiate`]: the compiler does the
//! vectorizing, and tables with fused multiply-add agree with each other bit for bit.
//!
//! A `−inf` logit is an id of probability zero: no pass counts it.

/// Independent lanes of every sum: wide enough for one AVX-512 register, two of AVX2, four of NEON.
pub const LANES: usize = 16;

/// Ids per call of [`Ops::partial`] and [`Ops::contenders`], and per flush of [`Ops::mass`] into f64.
pub const CHUNK: usize = 2048;

/// Ids per entry of [`Ops::group_maxima`].
pub const GROUP: usize = 32;

/// Most buckets that [`Buckets`] has.
pub const MAX_BUCKETS: usize = 1024;

/// What one chunk of logits adds to the softmax statistics, relative to its own maximum `m`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Partial {
    /// `m`, NaN entries skipped; `−inf` where the chunk holds nothing else.
    pub max: f32,
    /// `Σ exp(x − m)`; NaN where a logit is NaN.
    pub sum: f64,
    /// `Σ (x − m)·exp(x − m)`, never positive.
    pub weighted: f64,
}

/// The range and scale of [`Ops::mass`].
#[derive(Clone, Copy, Debug)]
pub struct Mass {
    /// The reference `m`, not below any logit of the slice that counts.
    pub max: f32,
    /// `1 / T`.
    pub scale: f32,
    /// Smallest logit that counts; finite.
    pub from: f32,
    /// Logits from here on do not count; `+inf` for no upper end.
    pub below: f32,
}

/// Buckets of logits for [`Ops::bucket_masses`] and [`Ops::in_bucket`]: equal widths from the maximum downwards.
#[derive(Clone, Copy, Debug)]
pub struct Buckets {
    /// The largest logit that counts, in bucket 0.
    pub max: f32,
    /// Smallest logit that counts; finite.
    pub from: f32,
    /// `1 / T`.
    pub scale: f64,
    last: u32,
    per_logit: f32,
}

impl Buckets {
    /// `count` buckets, at most [`MAX_BUCKETS`], over the logits `from..=max`.
    pub fn new(from: f32, max: f32, scale: f64, count: usize) -> Self {
        assert!((1..=MAX_BUCKETS).contains(&count), "{count} buckets");
        let last = count as u32 - 1;
        // Neither 0 nor infinite, so that no product is NaN.
        let per_logit = (last.max(1) as f32 / (max - from)).clamp(f32::MIN_POSITIVE, f32::MAX);
        Self { max, from, scale, last, per_logit }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.last as usize + 1
    }

    /// The bucket of `x`, at most the last one. Monotone, so equal logits share a bucket and buckets are in order.
    #[inline(always)]
    pub fn of(&self, x: f32) -> u32 {
        let place = (self.max - x) * self.per_logit;
        let last = self.last as f32;
        let place = if place < last { place } else { last };
        // Adding 2²³ leaves the rounded number in the low mantissa bits, which is quicker than a checked conversion.
        (place + 8_388_608.0).to_bits() & (MAX_BUCKETS as u32 - 1)
    }
}

/// The race of [`Ops::contenders`]: who could beat the best score so far, by the exponential draw of each id.
#[derive(Clone, Copy, Debug)]
pub struct Race {
    /// The Philox key: low and high word of the seed.
    pub key: [u32; 2],
    /// Words 1 to 3 of the Philox counter: position, low and high word of the stream.
    pub counter: [u32; 3],
    /// The largest logit that counts.
    pub max: f32,
    /// `log2(e) / T`.
    pub scale: f32,
    /// Logits below cannot win, or are filtered out; finite.
    pub from: f32,
    /// The best score so far less `max / T`, in octaves (times `log2(e)`), lowered by the caller's margin.
    pub best: f32,
}

/// The functions of this family.
#[derive(Clone, Copy, Debug)]
pub struct Ops {
    /// Statistics of at most [`CHUNK`] logits.
    pub partial: fn(&[f32]) -> Partial,
    /// The largest logit, NaN entries skipped; `−inf` for an empty slice.
    pub max: fn(&[f32]) -> f32,
    /// Appends the maximum of each [`GROUP`] consecutive logits.
    pub group_maxima: fn(&[f32], &mut Vec<f32>),
    /// Appends every logit that is at least the second argument, in order.
    pub at_least: fn(&[f32], f32, &mut Vec<f32>),
    /// `Σ exp((x − m)·scale)` over the logits in `from..below`. In f32 inside a chunk, f64 across chunks; the ids at `m`
    /// are counted and come first, the sum over the others second: in a peaked distribution the others are tiny, and adding
    /// them to one would round them away.
    pub mass: fn(&[f32], &Mass) -> (u64, f64),
    /// Adds `exp((x − m)·scale)` in f64 of every logit from `from` on to its bucket's sums, `[buckets][4]`, four to a bucket so that
    /// neighbours do not wait for each other. Returns how many logits that were.
    pub bucket_masses: fn(&[f32], &Buckets, &mut [[f64; 4]]) -> usize,
    /// Appends the logits of one bucket (the third argument), in order.
    pub in_bucket: fn(&[f32], &Buckets, u32, &mut Vec<f32>),
    /// `exp((x − m)·scale)` of every logit in f64 (the second and third argument are `m` and the scale).
    pub weights_into: fn(&[f32], f32, f64, &mut [f64]),
    /// Ids that may beat the best score, ascending, into the last argument: a superset of those that do.
    ///
    /// The slice holds the logits of the ids from the second argument on, at most [`CHUNK`] of them.
    pub contenders: fn(&[f32], u32, &Race, &mut [u32; CHUNK]) -> usize,
}

/// Compiles the loops of `scalar/logits.rs` for one set of target features and fills an [`Ops`] with them.
///
/// Holding a table proves that the CPU has its features, which is what makes the calls sound.
#[allow(unused_macros, reason = "no other table exists on some targets")]
macro_rules! instantiate {
    ($features:literal) => {
        use crate::simd::logits::Buckets;
        use crate::simd::logits::CHUNK;
        use crate::simd::logits::Mass;
        use crate::simd::logits::Ops;
        use crate::simd::logits::Partial;
        use crate::simd::logits::Race;
        use crate::simd::scalar::logits as plain;

        pub const OPS: Ops = Ops { partial, max, group_maxima, at_least, mass, bucket_masses, in_bucket, weights_into, contenders };

        crate::simd::logits::instantiate!($features, partial::<true>(x: &[f32]) -> Partial);
        crate::simd::logits::instantiate!($features, max(x: &[f32]) -> f32);
        crate::simd::logits::instantiate!($features, group_maxima(x: &[f32], out: &mut Vec<f32>) -> ());
        crate::simd::logits::instantiate!($features, at_least(x: &[f32], from: f32, out: &mut Vec<f32>) -> ());
        crate::simd::logits::instantiate!($features, mass::<true>(x: &[f32], range: &Mass) -> (u64, f64));
        crate::simd::logits::instantiate!($features, bucket_masses::<true>(x: &[f32], buckets: &Buckets, sums: &mut [[f64; 4]]) -> usize);
        crate::simd::logits::instantiate!($features, in_bucket(x: &[f32], buckets: &Buckets, number: u32, out: &mut Vec<f32>) -> ());
        crate::simd::logits::instantiate!($features, weights_into::<true>(x: &[f32], max: f32, scale: f64, out: &mut [f64]) -> ());
        crate::simd::logits::instantiate!($features, contenders(x: &[f32], first: u32, race: &Race, out: &mut [u32; CHUNK]) -> usize);
    };
    ($features:literal, $name:ident $(::<$fused:literal>)? ($($arg:ident: $kind:ty),*) -> $result:ty) => {
        fn $name($($arg: $kind),*) -> $result {
            #[target_feature(enable = $features)]
            fn run($($arg: $kind),*) -> $result {
                plain::$name$(::<$fused>)?($($arg),*)
            }
            // SAFETY: this table is handed out only where the CPU has its features.
            unsafe { run($($arg),*) }
        }
    };
}
#[allow(unused_imports, reason = "no other table exists on some targets")]
pub(super) use instantiate;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;

    /// Numbers in −1..1 by a linear congruence: tests need no generator of quality.
    fn noise(seed: u64) -> impl FnMut() -> f32 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32) / 8_388_608.0 - 1.0
        }
    }

    fn lengths() -> impl Iterator<Item = usize> {
        (0..2 * LANES + 3).chain([GROUP - 1, GROUP, GROUP + 1, 4 * LANES + 1, 255, 1000, CHUNK - 1, CHUNK])
    }

    fn logits(len: usize, spread: f32, seed: u64) -> Vec<f32> {
        let mut next = noise(seed);
        (0..len).map(|i| if i % 7 == 3 { f32::NEG_INFINITY } else { spread * next() }).collect()
    }

    #[test]
    fn partial_sums_equal_sums_in_f64() {
        for table in simd::available() {
            for (len, spread) in lengths().flat_map(|n| [0.5, 8.0, 60.0, 1e4].map(|s| (n, s))) {
                let x = logits(len, spread, len as u64);
                let part = (table.logits.partial)(&x);
                let m = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                assert_eq!(part.max, m, "{} {len}", table.name);
                let finite = || x.iter().filter(|x| x.is_finite()).map(|&x| f64::from(x) - f64::from(m));
                let sum: f64 = finite().map(f64::exp).sum();
                let weighted: f64 = finite().map(|d| d * d.exp()).sum();
                assert!((part.sum - sum).abs() <= 1e-6 * sum, "{} {len} {spread}: {} {sum}", table.name, part.sum);
                assert!((part.weighted - weighted).abs() <= 1e-6 * weighted.abs() + 1e-35, "{} {len} {spread}", table.name);
            }
        }
    }

    #[test]
    fn a_nan_anywhere_reaches_the_sum() {
        for table in simd::available() {
            for len in lengths().filter(|&n| n > 0) {
                for at in [0, len / 2, len - 1] {
                    for others in [0.0, f32::NEG_INFINITY] {
                        let mut x = vec![others; len];
                        x[at] = f32::NAN;
                        assert!((table.logits.partial)(&x).sum.is_nan(), "{} {len} {at} {others}", table.name);
                    }
                }
            }
        }
    }

    #[test]
    fn maxima_are_exact() {
        for table in simd::available() {
            for len in lengths().chain([5000]) {
                let x = logits(len, 9.0, 3);
                let mut groups = vec![7.0];
                (table.logits.group_maxima)(&x, &mut groups);
                let expected: Vec<f32> = x.chunks(GROUP).map(|g| g.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
                assert_eq!(groups[1..], expected, "{} {len}", table.name);
                assert_eq!((table.logits.max)(&x), expected.iter().copied().fold(f32::NEG_INFINITY, f32::max), "{} {len}", table.name);
            }
        }
    }

    #[test]
    fn at_least_keeps_order_and_ties() {
        for table in simd::available() {
            for len in lengths().chain([5000]) {
                let x: Vec<f32> = logits(len, 4.0, 5).iter().map(|x| x.round()).collect();
                for from in [f32::MIN, -1.0, 2.0, 4.0, 5.0] {
                    let mut kept = vec![9.0];
                    (table.logits.at_least)(&x, from, &mut kept);
                    assert_eq!(kept[1..], x.iter().copied().filter(|&x| x >= from).collect::<Vec<_>>(), "{} {len} {from}", table.name);
                }
            }
        }
    }

    #[test]
    fn buckets_are_in_order_and_lose_nothing() {
        for (from, max) in [(-3.0, 1.5), (0.0, 0.0), (-1e-30, 1e-30), (f32::MIN, f32::MAX), (-1.0, 1e30)] {
            for count in [1, 2, 16, 100, MAX_BUCKETS] {
                let buckets = Buckets::new(from, max, 0.7, count);
                let mut x: Vec<f32> = (0..1501).map(|i| max - (max / 1500.0 - from / 1500.0) * i as f32).collect();
                assert!(buckets.of(max) == 0 && x.windows(2).all(|w| w[0] < w[1] || buckets.of(w[0]) <= buckets.of(w[1])));
                x.extend([from.next_down(), f32::NEG_INFINITY]);
                let counts = |x: f32, bucket| x >= from && buckets.of(x) as usize == bucket;
                for table in simd::available() {
                    let mut sums = vec![[0.0; 4]; count];
                    let found = (table.logits.bucket_masses)(&x, &buckets, &mut sums);
                    assert_eq!(found, x.iter().filter(|&&x| x >= from).count(), "{} {from} {max}", table.name);
                    for (bucket, sums) in sums.iter().enumerate() {
                        let expected: Vec<f32> = x.iter().copied().filter(|&x| counts(x, bucket)).collect();
                        let mass: f64 = expected.iter().map(|&x| ((f64::from(x) - f64::from(max)) * 0.7).exp()).sum();
                        let sum: f64 = sums.iter().sum();
                        assert!((sum - mass).abs() <= 1e-14 * mass + 1e-300, "{} {from} {max} {count}: {sum} {mass}", table.name);
                        let mut members = Vec::new();
                        (table.logits.in_bucket)(&x, &buckets, bucket as u32, &mut members);
                        assert_eq!(members, expected, "{} {from} {max} {count}", table.name);
                    }
                }
            }
        }
    }

    #[test]
    fn mass_equals_the_sum_in_f64() {
        for table in simd::available() {
            for len in lengths().chain([5000]) {
                let x: Vec<f32> = logits(len, 4.0, 6).iter().map(|x| (x * 8.0).round() / 8.0).collect();
                for (scale, from, below) in
                    [(1.0, f32::MIN, f32::INFINITY), (10.0, -1.0, 3.0), (0.3, 0.5, 4.0), (1e6, f32::MIN, f32::INFINITY)]
                {
                    let (count, sum) = (table.logits.mass)(&x, &Mass { max: 4.0, scale, from, below });
                    let inside = || x.iter().filter(|&&x| x >= from && x < below);
                    let rest: f64 = inside().filter(|&&x| x < 4.0).map(|&x| ((f64::from(x) - 4.0) * f64::from(scale)).exp()).sum();
                    assert_eq!(count as usize, inside().filter(|&&x| x == 4.0).count(), "{} {len}", table.name);
                    assert!((sum - rest).abs() <= 2e-6 * rest + 1e-37, "{} {len} {scale}: {sum} {rest}", table.name);
                }
            }
        }
    }

    #[test]
    fn weights_are_exponentials_in_f64() {
        for table in simd::available() {
            let x: Vec<f32> = (0..3000).map(|i| -0.37 * i as f32).collect();
            let mut w = vec![0.0; x.len()];
            (table.logits.weights_into)(&x, 0.0, 1.0, &mut w);
            for (&x, &w) in x.iter().zip(&w) {
                let exact = if x > -700.0 { f64::from(x).exp() } else { 0.0 };
                assert!((w - exact).abs() <= 5e-16 * exact, "{} {x}: {w} {exact}", table.name);
            }
            assert_eq!(w[0], 1.0);
        }
    }

    #[test]
    fn tables_with_fused_arithmetic_agree_bit_for_bit() {
        let fused: Vec<_> = simd::available().into_iter().filter(|t| t.name != "scalar").collect();
        let x = logits(CHUNK, 9.0, 11);
        let range = Mass { max: 9.0, scale: 1.7, from: -8.0, below: 8.0 };
        for pair in fused.windows(2) {
            assert_eq!((pair[0].logits.partial)(&x), (pair[1].logits.partial)(&x));
            assert_eq!((pair[0].logits.mass)(&x, &range), (pair[1].logits.mass)(&x, &range));
        }
    }
}
