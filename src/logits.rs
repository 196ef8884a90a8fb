//! Statistics of one position's logits: maximum, log-sum-exp, entropy in nats.
//!
//! With `m = max x`, `Z = Σ exp(x − m)` and `W = Σ (x − m)·exp(x − m)`, one pass over the vocabulary gives
//!
//! ```text
//! log-sum-exp = m + ln Z          entropy H = −Σ p ln p = ln Z − W / Z
//! ```
//!
//! Both terms of `H` are sums of values of one sign, so nothing cancels. Language models are often sure of the next token:
//! then `Z` is 1 plus almost nothing, and that nothing is the whole answer. So the sums hold `Z − 1` and use `ln(1 + ·)`,
//! which keeps a relative error near 10⁻⁶ down to entropies of 10⁻³⁰.
//!
//! The pass works on fixed chunks of [`CHUNK`] ids and adds them up in order: the result depends on the logits and the
//! instruction set, never on threads. `−inf` logits contribute nothing; NaN, `+inf` or no finite logit at all is an error,
//! since a model that produces them must not go on producing tokens.

use crate::simd::Table;
use crate::simd::logits::CHUNK;
use crate::simd::logits::Mass;
use crate::simd::logits::Partial;

/// Logits that are no distribution.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum InvalidLogits {
    /// NaN or `+inf`.
    #[error("logit {index} is {value}")]
    NotALogit {
        /// Its id.
        index: usize,
        /// Its value.
        value: f32,
    },
    /// Every id has probability zero.
    #[error("all {len} logits are −inf")]
    Empty {
        /// Number of ids.
        len: usize,
    },
}

/// The softmax statistics of one position.
#[derive(Clone, Debug, PartialEq)]
pub struct LogitStats {
    /// The largest logit.
    pub max: f32,
    /// `ln Σ exp x`.
    pub log_sum_exp: f64,
    /// Entropy of the softmax, in nats; never negative.
    pub entropy: f64,
    /// The id of the largest logit, the lowest one of equals.
    pub argmax: u32,
    /// The largest logit of each chunk of [`CHUNK`] ids, `[chunks(vocab)]`: what comes after can pass over most of them.
    pub chunk_maxima: Vec<f32>,
    /// `ln Σ exp(x − max)`: precise where the distribution is peaked.
    log_partition: f64,
}

impl LogitStats {
    /// Statistics of `logits`, `[vocab]`.
    pub fn of(table: &Table, logits: &[f32]) -> Result<Self, InvalidLogits> {
        Self::joined(table, logits, logits.chunks(CHUNK).map(table.logits.partial))
    }

    /// The same from the sums of its chunks, `[chunks(vocab)]`, which [`partial`] took in any order and on any threads.
    pub fn of_partials(table: &Table, logits: &[f32], partials: &[Partial]) -> Result<Self, InvalidLogits> {
        debug_assert_eq!(partials.len(), chunks(logits.len()));
        Self::joined(table, logits, partials.iter().copied())
    }

    fn joined(table: &Table, logits: &[f32], partials: impl Iterator<Item = Partial>) -> Result<Self, InvalidLogits> {
        let mut sums = Sums::default();
        let mut chunk_maxima = Vec::with_capacity(chunks(logits.len()));
        for (number, partial) in partials.enumerate() {
            chunk_maxima.push(partial.max);
            if partial.sum.is_nan() || partial.max == f32::INFINITY {
                return Err(offender(logits, number * CHUNK));
            }
            sums.add(&partial, number);
        }
        sums.finish(table, logits, chunk_maxima)
    }

    /// Log-probability of an id with this logit, in nats.
    pub fn logprob(&self, logit: f32) -> f64 {
        (f64::from(logit) - f64::from(self.max)) - self.log_partition
    }
}

/// Chunks of a vocabulary.
pub fn chunks(vocab: usize) -> usize {
    vocab.div_ceil(CHUNK)
}

/// Sums of chunk `chunk` of `logits`, for [`LogitStats::of_partials`].
pub fn partial(table: &Table, logits: &[f32], chunk: usize) -> Partial {
    let first = chunk * CHUNK;
    (table.logits.partial)(&logits[first..logits.len().min(first + CHUNK)])
}

fn offender(logits: &[f32], from: usize) -> InvalidLogits {
    let bad = |x: &f32| x.is_nan() || *x == f32::INFINITY;
    let index = from + logits[from..].iter().position(bad).unwrap_or(0);
    InvalidLogits::NotALogit { index, value: logits[index] }
}

/// The sums over the chunks so far, relative to the largest logit so far.
struct Sums {
    max: f32,
    /// The first chunk that holds it.
    peak: usize,
    /// That chunk's `W`.
    peak_weighted: f64,
    /// That chunk's `Z`, good enough while it is not the last word.
    peak_sum: f64,
    /// `Z` and `W` of the other chunks.
    others: (f64, f64),
}

impl Default for Sums {
    fn default() -> Self {
        Self { max: f32::NEG_INFINITY, peak: 0, peak_weighted: 0.0, peak_sum: 0.0, others: (0.0, 0.0) }
    }
}

impl Sums {
    fn add(&mut self, part: &Partial, chunk: usize) {
        if part.max > self.max {
            let so_far = (self.others.0 + self.peak_sum, self.others.1 + self.peak_weighted);
            let others = rebase(self.max, part.max, so_far);
            *self = Self { max: part.max, peak: chunk, peak_weighted: part.weighted, peak_sum: part.sum, others };
        } else {
            let (z, w) = rebase(part.max, self.max, (part.sum, part.weighted));
            self.others = (self.others.0 + z, self.others.1 + w);
        }
    }

    fn finish(self, table: &Table, logits: &[f32], chunk_maxima: Vec<f32>) -> Result<LogitStats, InvalidLogits> {
        let Self { max, peak, .. } = self;
        if max == f32::NEG_INFINITY {
            return Err(InvalidLogits::Empty { len: logits.len() });
        }
        let first = peak * CHUNK;
        let chunk = &logits[first..logits.len().min(first + CHUNK)];
        // Once more over the one chunk, for what it holds beside its maximum.
        let (ties, rest) = (table.logits.mass)(chunk, &Mass { max, scale: 1.0, from: f32::MIN, below: f32::INFINITY });
        let excess = self.others.0 + (ties as f64 - 1.0) + rest;
        let weighted = self.others.1 + self.peak_weighted;
        let log_partition = excess.ln_1p();
        let offset = chunk.iter().position(|&x| x == max).unwrap_or(0);
        Ok(LogitStats {
            max,
            log_sum_exp: f64::from(max) + log_partition,
            entropy: (log_partition - weighted / (1.0 + excess)).max(0.0),
            argmax: (first + offset) as u32,
            chunk_maxima,
            log_partition,
        })
    }
}

/// `Z` and `W` taken relative to `from`, relative to `to` instead (`to` ≥ `from`).
fn rebase(from: f32, to: f32, (z, w): (f64, f64)) -> (f64, f64) {
    let d = f64::from(from) - f64::from(to);
    let scale = d.exp();
    // Where the scale vanishes, d may be infinite.
    if scale == 0.0 || z == 0.0 { (0.0, 0.0) } else { (scale * z, scale * (w + d * z)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd;

    fn all(logits: &[f32]) -> Vec<Result<LogitStats, InvalidLogits>> {
        simd::available().into_iter().map(|table| LogitStats::of(table, logits)).collect()
    }

    /// Entropy and log-partition in f64, by the definition `−Σ p ln p`.
    fn oracle(logits: &[f32]) -> (f64, f64) {
        let m = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        let finite = || logits.iter().filter(|x| x.is_finite()).map(|&x| f64::from(x) - m);
        let z: f64 = finite().map(f64::exp).sum();
        (finite().map(|d| -(d - z.ln()) * d.exp() / z).sum(), m + z.ln())
    }

    fn noise(len: usize, spread: f32) -> Vec<f32> {
        let mut state = 1u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            ((state >> 40) as f32) / 8_388_608.0 - 1.0
        };
        (0..len).map(|_| spread * (next() + next() + next())).collect()
    }

    #[test]
    fn sums_taken_chunk_by_chunk_give_the_same_bits() {
        for len in [1, CHUNK, CHUNK + 1, 5 * CHUNK + 7] {
            let mut logits = noise(len, 4.0);
            for bad in [None, Some(f32::NAN), Some(f32::INFINITY)] {
                logits[len / 2] = bad.unwrap_or(logits[len / 2]);
                for table in simd::available() {
                    let mut partials: Vec<_> = (0..chunks(len)).rev().map(|chunk| partial(table, &logits, chunk)).collect();
                    partials.reverse();
                    let (split, whole) = (LogitStats::of_partials(table, &logits, &partials), LogitStats::of(table, &logits));
                    assert_eq!(format!("{split:?}"), format!("{whole:?}"), "{} {len} {bad:?}", table.name);
                }
            }
        }
    }

    #[test]
    fn entropy_equals_the_definition_in_f64() {
        for len in [1, 2, 3, 31, 1023, 1024, 1025, 5000, 151_936] {
            for spread in [0.01, 1.0, 4.0, 12.0, 100.0] {
                let logits = noise(len, spread);
                let (entropy, log_sum_exp) = oracle(&logits);
                for stats in all(&logits) {
                    let stats = stats.expect("finite logits");
                    assert!((stats.entropy - entropy).abs() <= 1e-6 * entropy.max(1e-3), "{len} {spread}: {} {entropy}", stats.entropy);
                    assert!((stats.log_sum_exp - log_sum_exp).abs() <= 1e-6, "{len} {spread}");
                }
            }
        }
    }

    #[test]
    fn small_entropies_keep_their_digits() {
        // Two ids, the second d nats behind: H = ln(1 + e) + d·e/(1 + e) with e = exp(−d).
        for d in [1.0, 10.0, 20.0, 40.0, 60.0, 80.0] {
            let e = f64::exp(-d);
            let exact = e.ln_1p() + d * e / (1.0 + e);
            for place in [1, 1500] {
                let mut logits = vec![f32::NEG_INFINITY; 3000];
                (logits[0], logits[place]) = (5.0, 5.0 - d as f32);
                for stats in all(&logits) {
                    let stats = stats.expect("finite logits");
                    assert!((stats.entropy - exact).abs() <= 1e-6 * exact, "{d}: {} {exact}", stats.entropy);
                    assert!((stats.logprob(5.0) + e.ln_1p()).abs() <= 1e-6 * e, "{d}");
                }
            }
        }
    }

    #[test]
    fn one_id_has_entropy_zero_and_equal_ids_ln_n() {
        for n in [1, 2, 1024, 1025, 4096] {
            let mut logits = vec![-3.25; n];
            logits.extend([f32::NEG_INFINITY; 1500]);
            for stats in all(&logits) {
                let stats = stats.expect("finite logits");
                assert!((stats.entropy - (n as f64).ln()).abs() < 1e-12, "{n}");
                assert_eq!((stats.argmax, stats.max), (0, -3.25));
            }
        }
    }

    #[test]
    fn every_chunk_has_its_maximum() {
        for len in [1, CHUNK, CHUNK + 1, 3 * CHUNK + 7] {
            let mut logits = noise(len, 4.0);
            logits[len / 2..len - 1].fill(f32::NEG_INFINITY);
            let expected: Vec<f32> = logits.chunks(CHUNK).map(|c| c.iter().copied().fold(f32::NEG_INFINITY, f32::max)).collect();
            for stats in all(&logits) {
                assert_eq!(stats.expect("finite logits").chunk_maxima, expected, "{len}");
            }
        }
    }

    #[test]
    fn the_lowest_id_wins_a_tie() {
        let mut logits = noise(9000, 2.0);
        for id in [8999, 5000, 4100] {
            logits[id] = 50.0;
            for stats in all(&logits) {
                assert_eq!(stats.expect("finite logits").argmax as usize, id);
            }
        }
    }

    #[test]
    fn zeros_of_either_sign_tie() {
        for stats in all(&[-1.0, -0.0, 0.0]) {
            assert_eq!(stats.expect("finite logits").argmax, 1);
        }
    }

    #[test]
    fn broken_logits_are_named() {
        for (value, at) in [(f32::NAN, 0), (f32::NAN, 2500), (f32::INFINITY, 1024), (f32::INFINITY, 2999)] {
            for others in [1.0, f32::NEG_INFINITY] {
                let mut logits = vec![others; 3000];
                logits[at] = value;
                for stats in all(&logits) {
                    let message = stats.expect_err("not a distribution").to_string();
                    assert_eq!(message, format!("logit {at} is {value}"));
                }
            }
        }
        for len in [0, 1, 3000] {
            for stats in all(&vec![f32::NEG_INFINITY; len]) {
                assert_eq!(stats, Err(InvalidLogits::Empty { len }));
            }
        }
    }

    #[test]
    fn the_largest_floats_do_not_overflow() {
        for stats in all(&[f32::MAX, f32::MIN, f32::MAX, -1e30]) {
            let stats = stats.expect("finite logits");
            assert!((stats.entropy - 2f64.ln()).abs() < 1e-12);
        }
    }
}
