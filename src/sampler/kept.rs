//! The ids that may still be drawn, as one number: the smallest kept logit.

use std::ops::Range;

use super::Banned;
use crate::simd::Table;
use crate::simd::logits::Mass;

/// Tail masses below `e^−TAIL` of the largest id's do not show in f64 sums over any vocabulary.
const TAIL: f64 = 50.0;

/// Logits, what is banned, and how far the filters have got.
pub struct Kept<'a> {
    /// Inner loops.
    pub table: &'a Table,
    /// Raw logits, `[vocab]`.
    pub logits: &'a [f32],
    /// Ids out of the question.
    pub banned: &'a Banned,
    /// `T`, above the greedy limit.
    pub temperature: f64,
    /// The largest logit that is not banned; finite.
    pub max: f32,
    /// The smallest kept logit; finite, so that `−inf` never is kept.
    pub from: f32,
    /// Buffers that outlive the draw.
    pub scratch: &'a mut Scratch,
}

/// Buffers of the filters.
#[derive(Debug, Default)]
pub struct Scratch {
    /// Logits.
    pub values: Vec<f32>,
    /// Their weights.
    pub weights: Vec<f64>,
    /// Sums of weights by bucket.
    pub buckets: Vec<f64>,
}

impl Kept<'_> {
    /// Raises the smallest kept logit. It never falls, and never passes the maximum.
    pub fn raise(&mut self, from: f32) {
        if from > self.from {
            self.from = from.min(self.max);
        }
    }

    /// Ranges of ids that are not banned.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + Clone + use<'_> {
        self.banned.allowed(self.logits.len())
    }

    /// The logit `nats` below the maximum at this temperature, rounded down; finite.
    pub fn behind(&self, nats: f64) -> f32 {
        ((f64::from(self.max) - self.temperature * nats) as f32).next_down().max(f32::MIN)
    }

    /// `Σ exp((x − max)/T)` over kept ids below the logit `below`: how many are at the maximum, and the sum of the rest.
    pub fn mass(&self, below: f32) -> (u64, f64) {
        // `1/T` underflows to 0 only where every kept id has the same weight to f32 precision anyway.
        let range = Mass { max: self.max, scale: (1.0 / self.temperature) as f32, from: self.from.max(self.behind(TAIL)), below };
        self.ranges().fold((0, 0.0), |(count, sum), ids| {
            let (more, rest) = (self.table.logits.mass)(&self.logits[ids], &range);
            (count + more, sum + rest)
        })
    }

    /// Fills `scratch.values` with the logits that are at least `from`.
    pub fn collect(&mut self, from: f32) {
        let mut values = std::mem::take(&mut self.scratch.values);
        values.clear();
        for ids in self.ranges() {
            (self.table.logits.at_least)(&self.logits[ids], from, &mut values);
        }
        self.scratch.values = values;
    }
}
