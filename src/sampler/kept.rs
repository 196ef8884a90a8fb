//! The ids that may still be drawn, as one number: the smallest kept logit.

use super::Banned;
use crate::parallel::Pool;
use crate::simd::Table;
use crate::simd::logits::CHUNK;
use crate::simd::logits::Mass;

/// Tail masses below `e^−TAIL` of the largest id's do not show in f64 sums over any vocabulary.
const TAIL: f64 = 50.0;

/// Logits, what is banned, and how far the filters have got.
#[derive(Debug)]
pub struct Kept<'a> {
    /// Threads that share the passes over the vocabulary, see [`super::parts`].
    pub pool: &'a Pool,
    /// Inner loops.
    pub table: &'a Table,
    /// Raw logits, `[vocab]`.
    pub logits: &'a [f32],
    /// The largest logit of each chunk, banned ids included.
    pub chunk_maxima: &'a [f32],
    /// Ids out of the question.
    pub banned: &'a Banned,
    /// `T`, above the greedy limit.
    pub temperature: f64,
    /// The largest logit that is not banned; finite.
    pub max: f32,
    /// The smallest kept logit; finite, so that `−inf` never is kept.
    pub from: f32,
}

impl Kept<'_> {
    /// Raises the smallest kept logit. It never falls, and never passes the maximum.
    pub fn raise(&mut self, from: f32) {
        if from > self.from {
            self.from = from.min(self.max);
        }
    }

    /// Ids that are not banned.
    pub fn ids(&self) -> usize {
        self.banned.allowed(self.logits.len()).map(|ids| ids.len()).sum()
    }

    /// The logit `nats` below the maximum at this temperature, rounded down; finite.
    pub fn behind(&self, nats: f64) -> f32 {
        ((f64::from(self.max) - self.temperature * nats) as f32).next_down().max(f32::MIN)
    }

    /// `Σ exp((x − max)/T)` over kept ids below the logit `below`: how many are at the maximum, and the sum of the rest.
    pub fn mass(&self, below: f32) -> (u64, f64) {
        self.mass_in_reach(f32::MIN, below)
    }

    /// [`Kept::mass`] of the chunks that may hold a logit of at least `from`.
    pub fn mass_in_reach(&self, from: f32, below: f32) -> (u64, f64) {
        // `1/T` underflows to 0 only where every kept id has the same weight to f32 precision anyway.
        let range = Mass { max: self.max, scale: (1.0 / self.temperature) as f32, from: self.from.max(self.behind(TAIL)), below };
        let parts = self.on_parts(range.from.max(from), (0, 0.0), |(count, sum), pieces| {
            for ids in pieces {
                let (more, rest) = (self.table.logits.mass)(&self.logits[ids], &range);
                *count += more;
                *sum += rest;
            }
        });
        parts.iter().fold((0, 0.0), |(count, sum), part| (count + part.0, sum + part.1))
    }

    /// No less than the mass of the other chunks, from their maxima alone.
    pub fn mass_out_of_reach(&self, from: f32) -> f64 {
        let others = self.chunk_maxima.iter().filter(|&&max| max < from);
        let most = |&max: &f32| CHUNK as f64 * ((f64::from(max) - f64::from(self.max)) / self.temperature).exp();
        others.map(most).sum()
    }

    /// What `append` takes from the logits of chunks that may hold one of at least `from`, in order of ids.
    pub fn gather(&self, from: f32, append: impl Fn(&[f32], &mut Vec<f32>) + Sync) -> Vec<f32> {
        let parts = self.on_parts(from, Vec::new(), |values, pieces| pieces.for_each(|ids| append(&self.logits[ids], values)));
        parts.concat()
    }
}
