//! Top-p: keeps the most probable ids until their mass reaches p.
//!
//! Sorted downwards, the masses are added up until the sum first reaches `p` of the total; every id whose logit is at least
//! the one reached stays, ties included. Probabilities are those after temperature, over the ids that top-k kept.
//!
//! Nothing is sorted but one bucket. Ids so improbable that all of them together cannot matter are only summed; the masses of
//! the others are added up in buckets by logit, the bucket where the sum reaches `p` is found, and only its members are
//! collected and put in order. So the vocabulary's exponentials are taken once, and none is stored.

use super::Entry;
use super::Filters;
use super::Kept;
use crate::simd::logits::Buckets;
use crate::simd::logits::MAX_BUCKETS;

/// The filter's line in [`super::FILTERS`].
pub const ENTRY: Entry = Entry {
    name: "top_p",
    summary: "Keeps the most probable ids until their probabilities sum to this (ties with the last one stay).",
    narrow,
};

/// Ids in reach to a bucket: with fewer the buckets cost more than the sorting that they save.
const PER_BUCKET: usize = 128;

fn narrow(filters: &Filters, kept: &mut Kept) {
    let Some(p) = filters.top_p().filter(|&p| p < 1.0) else { return };
    if p == 0.0 {
        return kept.raise(kept.max);
    }
    // Ids further behind than ln(n / (1 − p)) hold at most 1 − p of the maximum's own mass between them.
    let depth = (kept.logits.len() as f64 / (1.0 - p)).ln() + 1e-3;
    let from = kept.from.max(kept.behind(depth));
    let count = (kept.in_reach(from) / PER_BUCKET).clamp(1, MAX_BUCKETS);
    let buckets = Buckets::new(from, kept.max, 1.0 / kept.temperature, count);
    let (found, masses) = masses(kept, &buckets);
    let listed: f64 = masses.iter().sum();
    if from == kept.from || found == kept.ids() {
        return kept.raise(select(kept, &buckets, &masses, p * listed).0);
    }
    // Further down there is a tail. Of chunks without a listed id a bound on it mostly is enough.
    let near = kept.mass_in_reach(from, from).1;
    let (mut lowest, sum) = select(kept, &buckets, &masses, p * (listed + near));
    if sum < p * (listed + near + kept.mass_out_of_reach(from)) {
        lowest = select(kept, &buckets, &masses, p * (listed + kept.mass(from).1)).0;
    }
    kept.raise(lowest);
}

/// The logit at which the mass, added up downwards, first reaches `target`, and the mass there.
fn select(kept: &Kept, buckets: &Buckets, masses: &[f64], target: f64) -> (f32, f64) {
    let (mut sum, mut reached) = (0.0, 0);
    for mass in &masses[..masses.len() - 1] {
        if sum + mass >= target {
            break;
        }
        sum += mass;
        reached += 1;
    }
    let ops = &kept.table.logits;
    let mut members = kept.gather(buckets.from, |logits, members| (ops.in_bucket)(logits, buckets, reached, members));
    members.sort_unstable_by(|a, b| b.total_cmp(a));
    let mut weights = vec![0.0; members.len()];
    (ops.weights_into)(&members, buckets.max, buckets.scale, &mut weights);
    let mut lowest = kept.from;
    for (x, weight) in members.into_iter().zip(weights) {
        lowest = x;
        sum += weight;
        if sum >= target {
            break;
        }
    }
    (lowest, sum)
}

/// How many ids are in the buckets, and the mass of each bucket.
fn masses(kept: &Kept, buckets: &Buckets) -> (usize, Vec<f64>) {
    let parts = kept.on_parts(buckets.from, (0, Vec::new()), |(found, masses), pieces| {
        let mut sums = vec![[0.0; 4]; buckets.count()];
        for ids in pieces {
            *found += (kept.table.logits.bucket_masses)(&kept.logits[ids], buckets, &mut sums);
        }
        masses.extend(sums.iter().map(|[a, b, c, d]| (a + b) + (c + d)));
    });
    let mut joined = (0, vec![0.0; buckets.count()]);
    for (found, masses) in parts {
        joined.0 += found;
        joined.1.iter_mut().zip(masses).for_each(|(sum, mass)| *sum += mass);
    }
    joined
}
