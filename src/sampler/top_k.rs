//! Top-k: keeps the k most probable ids, and those that tie with the last of them.
//!
//! The k-th largest of the maxima of fixed groups is not above the k-th largest logit, and there are 32 times fewer of
//! them. So it cuts off nearly everything before the exact selection.

use super::Entry;
use super::Filters;
use super::Kept;

/// The filter's line in [`super::FILTERS`].
pub const ENTRY: Entry = Entry { name: "top_k", summary: "Keeps this many most probable ids (ties with the last one stay).", narrow };

fn narrow(filters: &Filters, kept: &mut Kept) {
    let Some(k) = filters.top_k().filter(|&k| k < kept.logits.len()) else { return };
    let mut maxima = std::mem::take(&mut kept.scratch.values);
    maxima.clear();
    for ids in kept.ranges() {
        (kept.table.logits.group_maxima)(&kept.logits[ids], &mut maxima);
    }
    let bound = largest(&mut maxima, k).unwrap_or(f32::NEG_INFINITY);
    kept.scratch.values = maxima;
    kept.collect(bound.max(kept.from));
    if let Some(from) = largest(&mut kept.scratch.values, k) {
        kept.raise(from);
    }
}

/// The `k`-th largest value, where there are that many.
fn largest(values: &mut [f32], k: usize) -> Option<f32> {
    (k <= values.len()).then(|| *values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1)
}
