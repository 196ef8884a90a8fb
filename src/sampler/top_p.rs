//! Top-p: keeps the most probable ids until their mass reaches p.
//!
//! Sorted downwards, the masses are added up until the sum first reaches `p` of the total; every id whose logit is at least
//! the one reached stays, ties included. Probabilities are those after temperature, over the ids that top-k kept.
//!
//! Nothing is sorted but one bucket. Ids so improbable that all of them together cannot matter are summed, not collected;
//! the others go into buckets by logit, the bucket where the sum reaches `p` is found, and only its members are put in order.

use super::Entry;
use super::Filters;
use super::Kept;
use super::kept::Scratch;

/// The filter's line in [`super::FILTERS`].
pub const ENTRY: Entry = Entry {
    name: "top_p",
    summary: "Keeps the most probable ids until their probabilities sum to this (ties with the last one stay).",
    narrow,
};

/// Buckets by logit, and the number of ids from which they pay.
const BUCKETS: usize = 1024;

fn narrow(filters: &Filters, kept: &mut Kept) {
    let Some(p) = filters.top_p().filter(|&p| p < 1.0) else { return };
    if p == 0.0 {
        return kept.raise(kept.max);
    }
    // Ids further behind than ln(n / (1 − p)) hold at most 1 − p of the maximum's own mass between them.
    let depth = (kept.logits.len() as f64 / (1.0 - p)).ln() + 1e-3;
    let from = kept.from.max(kept.behind(depth));
    kept.collect(from);
    let everything = kept.scratch.values.len() == kept.ranges().map(|ids| ids.len()).sum::<usize>();
    let tail = if everything { 0.0 } else { kept.mass(from).1 };

    let (max, table, scale) = (kept.max, kept.table, 1.0 / kept.temperature);
    let Scratch { values, weights, buckets } = &mut *kept.scratch;
    let weigh = |values: &[f32], weights: &mut Vec<f64>| {
        weights.resize(values.len(), 0.0);
        (table.logits.weights_into)(values, max, scale, weights);
    };
    weigh(values, weights);
    let mut above = 0.0;
    let target;
    if values.len() <= BUCKETS {
        target = p * (weights.iter().sum::<f64>() + tail);
    } else {
        let bucket = Bucket::new(from, max);
        bucket.fill(values, weights, buckets);
        target = p * (buckets.iter().sum::<f64>() + tail);
        let mut reached = BUCKETS - 1;
        for (i, &w) in buckets.iter().enumerate() {
            if above + w >= target {
                reached = i;
                break;
            }
            above += w;
        }
        bucket.keep(reached as u32, values);
    }
    values.sort_unstable_by(|a, b| b.total_cmp(a));
    weigh(values, weights);
    let mut reached = kept.from;
    for (&x, &w) in values.iter().zip(weights.iter()) {
        reached = x;
        above += w;
        if above >= target {
            break;
        }
    }
    kept.raise(reached);
}

/// Which bucket a logit falls into: 0 at the maximum. Monotone, so equal logits share a bucket and buckets are in order.
struct Bucket {
    max: f32,
    per_logit: f32,
}

impl Bucket {
    fn new(from: f32, max: f32) -> Self {
        // Neither 0 nor infinite, so that no product is NaN.
        Self { max, per_logit: ((BUCKETS - 1) as f32 / (max - from)).clamp(f32::MIN_POSITIVE, f32::MAX) }
    }

    #[inline]
    fn of(&self, x: f32) -> u32 {
        let place = (self.max - x) * self.per_logit;
        let last = (BUCKETS - 1) as f32;
        let place = if place < last { place } else { last };
        // Adding 2²³ leaves the rounded number in the low mantissa bits, which is quicker than a checked conversion.
        (place + 8_388_608.0).to_bits() & (BUCKETS as u32 - 1)
    }

    /// Sums of the weights by bucket, in an order that depends on the values alone.
    fn fill(&self, values: &[f32], weights: &[f64], buckets: &mut Vec<f64>) {
        buckets.clear();
        buckets.resize(4 * BUCKETS, 0.0);
        // Four sums a bucket: neighbours in the list do not wait for each other.
        let (fours, rest) = values.as_chunks::<4>();
        let (weights, rest_weights) = weights.as_chunks::<4>();
        for (x, w) in fours.iter().zip(weights) {
            let place = x.map(|x| self.of(x) as usize);
            for i in 0..4 {
                buckets[i * BUCKETS + place[i]] += w[i];
            }
        }
        for (&x, &w) in rest.iter().zip(rest_weights) {
            buckets[self.of(x) as usize] += w;
        }
        for i in 0..BUCKETS {
            buckets[i] = (buckets[i] + buckets[BUCKETS + i]) + (buckets[2 * BUCKETS + i] + buckets[3 * BUCKETS + i]);
        }
        buckets.truncate(BUCKETS);
    }

    /// Keeps the values of one bucket.
    fn keep(&self, bucket: u32, values: &mut Vec<f32>) {
        let mut kept = 0;
        for start in (0..values.len()).step_by(32) {
            let block = start..values.len().min(start + 32);
            if values[block.clone()].iter().map(|&x| u32::from(self.of(x) == bucket)).sum::<u32>() > 0 {
                for i in block {
                    values[kept] = values[i];
                    kept += usize::from(self.of(values[i]) == bucket);
                }
            }
        }
        values.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_lose_nothing() {
        for (from, max) in [(-3.0, 1.5), (0.0, 0.0), (-1e-30, 1e-30), (f32::MIN, f32::MAX), (-1.0, 1e30)] {
            let bucket = Bucket::new(from, max);
            let values: Vec<f32> = (0..3001).map(|i| max - (max / 3000.0 - from / 3000.0) * i as f32).collect();
            assert_eq!(bucket.of(max), 0);
            assert!(values.windows(2).all(|w| w[0] < w[1] || bucket.of(w[0]) <= bucket.of(w[1])), "{from} {max}");
            let mut buckets = Vec::new();
            bucket.fill(&values, &vec![1.0; values.len()], &mut buckets);
            for i in 0..BUCKETS as u32 {
                let expected: Vec<f32> = values.iter().copied().filter(|&x| bucket.of(x) == i).collect();
                assert_eq!(buckets[i as usize], expected.len() as f64);
                let mut kept = values.clone();
                bucket.keep(i, &mut kept);
                assert_eq!(kept, expected);
            }
        }
    }
}
