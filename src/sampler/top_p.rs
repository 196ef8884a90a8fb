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
    let tail = {
        let (at_max, rest) = kept.mass(from);
        at_max as f64 + rest
    };
    kept.collect(from);
    let max = kept.max;
    let scale = 1.0 / kept.temperature;
    let table = kept.table;
    let scratch = &mut *kept.scratch;
    let weigh = |values: &[f32], weights: &mut Vec<f64>| {
        weights.resize(values.len(), 0.0);
        (table.logits.weights_into)(values, max, scale, weights);
    };
    weigh(&scratch.values, &mut scratch.weights);

    let mut above = 0.0;
    let target;
    if scratch.values.len() <= BUCKETS {
        target = p * (scratch.weights.iter().sum::<f64>() + tail);
    } else {
        // Monotone in x, so equal logits share a bucket and buckets are in order.
        let width = BUCKETS as f32 / (max - from).max(f32::MIN_POSITIVE);
        let bucket = |x: f32| (((max - x) * width) as usize).min(BUCKETS - 1);
        scratch.buckets.clear();
        scratch.buckets.resize(BUCKETS, 0.0);
        for (&x, &w) in scratch.values.iter().zip(&scratch.weights) {
            scratch.buckets[bucket(x)] += w;
        }
        target = p * (scratch.buckets.iter().sum::<f64>() + tail);
        let mut reached = BUCKETS - 1;
        for (i, &w) in scratch.buckets.iter().enumerate() {
            if above + w >= target {
                reached = i;
                break;
            }
            above += w;
        }
        scratch.values.retain(|&x| bucket(x) == reached);
    }
    scratch.values.sort_unstable_by(|a, b| b.total_cmp(a));
    weigh(&scratch.values, &mut scratch.weights);
    let mut from = kept.from;
    for (&x, &w) in scratch.values.iter().zip(&scratch.weights) {
        from = x;
        above += w;
        if above >= target {
            break;
        }
    }
    kept.raise(from);
}
