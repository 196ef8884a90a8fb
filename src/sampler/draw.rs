//! The draw: the kept id with the largest `x / T − ln E`; the lower id wins a tie.
//!
//! Few ids need a random number. If `S` is the best score so far, an id wins only with `E < exp(x/T − S)`, and `E` is never
//! below 2⁻³³, so an id more than 22.9 nats behind `S` cannot win. The race starts from the most probable id's own score
//! and goes through the vocabulary in chunks; a vectorized test in [`crate::simd::logits`] passes on every id that might
//! beat `S` (and few others), and only those are scored exactly. The result is that of scoring every id.

use super::Banned;
use super::Entry;
use super::FILTERS;
use super::Filters;
use super::kept::Kept;
use super::kept::Scratch;
use super::rng::DrawKey;
use crate::error::Error;
use crate::error::Result;
use crate::logits::LogitStats;
use crate::simd::Table;
use crate::simd::logits::CHUNK;
use crate::simd::logits::Race;

/// Up to this temperature the most probable id is taken, the lowest of equals.
pub const GREEDY_TEMPERATURE: f64 = 1e-6;

/// `−ln` of the smallest exponential draw, 2⁻³³, rounded up.
const LARGEST_GUMBEL: f64 = 22.88;

/// Slack of the vectorized test, in octaves: far more than its f32 roundings (10⁻⁵), far less than what it saves.
const MARGIN: f64 = 1e-3;

/// One token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Draw {
    /// Its id.
    pub token: u32,
    /// Its log-probability in the raw distribution, in nats.
    pub logprob: f64,
    /// Its log-probability in the distribution it was drawn from: after temperature and filters. 0 when greedy.
    pub sampling_logprob: f64,
}

/// Draws tokens; keeps buffers between draws.
#[derive(Debug, Default)]
pub struct Sampler {
    scratch: Scratch,
}

impl Sampler {
    /// A sampler without state: it only saves allocations.
    pub fn new() -> Self {
        Self::default()
    }

    /// Draws one token.
    ///
    /// `logits` are raw, `[vocab]`, and `stats` are theirs. `banned` ids are never drawn and count in no filter.
    #[allow(clippy::too_many_arguments, reason = "each is a different kind of thing")]
    pub fn draw(
        &mut self,
        table: &Table,
        logits: &[f32],
        stats: &LogitStats,
        temperature: f64,
        filters: &Filters,
        key: DrawKey,
        banned: &Banned,
    ) -> Result<Draw> {
        if !(temperature >= 0.0 && temperature.is_finite()) {
            let allowed = "it has to be a finite number, 0 or more".to_owned();
            return Err(Error::Argument { option: "temperature", found: temperature.to_string(), allowed });
        }
        let (max, argmax) = most_probable(table, logits, stats, banned)?;
        if temperature <= GREEDY_TEMPERATURE {
            return Ok(Draw { token: argmax, logprob: stats.logprob(max), sampling_logprob: 0.0 });
        }
        let mut kept = Kept { table, logits, banned, temperature, max, from: f32::MIN, scratch: &mut self.scratch };
        for Entry { narrow, .. } in FILTERS {
            narrow(filters, &mut kept);
        }
        let token = race(&kept, argmax, key);
        let logit = logits[token as usize];
        let (at_max, rest) = kept.mass(f32::INFINITY);
        let log_partition = ((at_max as f64 - 1.0) + rest).ln_1p();
        let sampling_logprob = (f64::from(logit) - f64::from(max)) / temperature - log_partition;
        Ok(Draw { token, logprob: stats.logprob(logit), sampling_logprob })
    }
}

/// The largest logit that is not banned, and its lowest id.
fn most_probable(table: &Table, logits: &[f32], stats: &LogitStats, banned: &Banned) -> Result<(f32, u32)> {
    if !banned.contains(stats.argmax) {
        return Ok((stats.max, stats.argmax));
    }
    let ranges = banned.allowed(logits.len());
    let max = ranges.clone().map(|ids| (table.logits.max)(&logits[ids])).fold(f32::NEG_INFINITY, f32::max);
    let first = ranges.flatten().find(|&id| logits[id] == max && max > f32::NEG_INFINITY);
    let Some(first) = first else {
        let found = "no id with a probability left".to_owned();
        return Err(Error::Argument { option: "banned", found, allowed: "at least one id with a finite logit has to stay".into() });
    };
    Ok((max, first as u32))
}

/// The kept id with the largest `(x − max)/T − ln E`. Leaving out `max / T` changes no order and keeps the scores small.
fn race(kept: &Kept, argmax: u32, key: DrawKey) -> u32 {
    let score = |id: u32| (f64::from(kept.logits[id as usize]) - f64::from(kept.max)) / kept.temperature - key.exponential(id).ln();
    let mut best = (score(argmax), argmax);
    let (philox_key, counter) = key.words();
    let scale = (std::f64::consts::LOG2_E / kept.temperature) as f32;
    let mut contenders = [0; CHUNK];
    for ids in kept.ranges() {
        for start in ids.clone().step_by(CHUNK) {
            let chunk = &kept.logits[start..ids.end.min(start + CHUNK)];
            let race = Race {
                key: philox_key,
                counter,
                max: kept.max,
                scale,
                from: kept.from.max(kept.behind(LARGEST_GUMBEL - best.0)),
                best: (best.0 * std::f64::consts::LOG2_E - MARGIN) as f32,
            };
            let found = (kept.table.logits.contenders)(chunk, start as u32, &race, &mut contenders);
            for &id in &contenders[..found] {
                let own = score(id);
                if own > best.0 || (own == best.0 && id < best.1) {
                    best = (own, id);
                }
            }
        }
    }
    best.1
}
