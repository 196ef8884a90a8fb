//! The draw: the kept id with the largest `x / T − ln E`; the lower id wins a tie.
//!
//! Few ids need a random number. If `S` is the best score so far, an id wins only with `E < exp(x/T − S)`, and `E` is never
//! below 2⁻³³, so an id more than 22.9 nats behind `S` cannot win. The race starts from the most probable id's own score
//! and goes through the vocabulary in chunks; a vectorized test in [`crate::simd::logits`] passes on every id that might
//! beat `S` (and few others), and only those are scored exactly. Each part of the vocabulary holds a race of its own, and
//! the winners are compared. The result is that of scoring every id.

use std::ops::Range;

use super::Banned;
use super::Entry;
use super::FILTERS;
use super::Filters;
use super::kept::Kept;
use super::rng::DrawKey;
use crate::error::Error;
use crate::error::Result;
use crate::logits::LogitStats;
use crate::parallel::Pool;
use crate::simd::Table;
use crate::simd::logits::CHUNK;
use crate::simd::logits::Race;

/// Up to this temperature the most probable id is taken, the lowest of equals.
pub const GREEDY_TEMPERATURE: f64 = 1e-6;

/// `−ln` of the smallest exponential draw, 2⁻³³, rounded up.
const LARGEST_GUMBEL: f64 = 22.88;

/// Slack of the vectorized test, in octaves: far more than its f32 roundings (10⁻⁵), far less than what it saves.
const MARGIN: f64 = 1e-3;

/// Ids of the first heat, see [`race`].
const SPRINT: usize = 128;

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

/// Draws one token; `pool` shares the passes over a large vocabulary, and the result does not depend on it.
///
/// `logits` are raw, `[vocab]`, and `stats` are theirs. `banned` ids are never drawn and count in no filter.
#[expect(clippy::too_many_arguments, reason = "each is a different kind of thing")]
pub fn draw(
    pool: &Pool,
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
    let chunk_maxima = &stats.chunk_maxima;
    let mut kept = Kept { pool, table, logits, chunk_maxima, banned, temperature, max, from: f32::MIN };
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

/// A score and whose it is.
type Scored = (f64, u32);

/// The winner of two; the lower id of equals.
fn better(a: Scored, b: Scored) -> Scored {
    if b.0 > a.0 || (b.0 == a.0 && b.1 < a.1) { b } else { a }
}

/// The kept id with the largest `(x − max)/T − ln E`. Leaving out `max / T` changes no order and keeps the scores small.
fn race(kept: &Kept, argmax: u32, key: DrawKey) -> u32 {
    let score = |id: u32| (f64::from(kept.logits[id as usize]) - f64::from(kept.max)) / kept.temperature - key.exponential(id).ln();
    let (philox_key, counter) = key.words();
    let scale = (std::f64::consts::LOG2_E / kept.temperature) as f32;
    let in_reach = |best: Scored| kept.from.max(kept.behind(LARGEST_GUMBEL - best.0));
    // The best of `best` and the ids of one chunk.
    let run = |best: Scored, ids: Range<usize>, contenders: &mut [u32; CHUNK]| {
        let race = Race {
            key: philox_key,
            counter,
            max: kept.max,
            scale,
            from: in_reach(best),
            best: (best.0 * std::f64::consts::LOG2_E - MARGIN) as f32,
        };
        let found = (kept.table.logits.contenders)(&kept.logits[ids.clone()], ids.start as u32, &race, contenders);
        contenders[..found].iter().fold(best, |best, &id| better(best, (score(id), id)))
    };
    // Every part starts from the same score. A good one, from a growing number of ids, saves each of them scoring many.
    let mut start = (score(argmax), argmax);
    let first = argmax as usize / CHUNK * CHUNK;
    for ids in kept.banned.allowed_among(first..kept.logits.len().min(first + CHUNK)) {
        let (mut at, mut step) = (ids.start, SPRINT);
        while at < ids.end {
            let end = ids.end.min(at + step);
            start = run(start, at..end, &mut [0; CHUNK]);
            (at, step) = (end, 2 * step);
        }
    }
    let parts = kept.on_parts(in_reach(start), start, |best, pieces| {
        let mut contenders = [0; CHUNK];
        for ids in pieces {
            *best = run(*best, ids, &mut contenders);
        }
    });
    parts.into_iter().fold(start, better).1
}
