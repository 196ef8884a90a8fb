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
    let mut maxima = kept.gather(kept.from, kept.table.logits.group_maxima);
    let from = kept.from.max(largest(&mut maxima, k).unwrap_or(f32::NEG_INFINITY));
    let mut values = kept.gather(from, |logits, values| (kept.table.logits.at_least)(logits, from, values));
    if let Some(from) = largest(&mut values, k) {
        kept.raise(from);
    }
}

/// The `k`-th largest value, where there are that many.
fn largest(values: &mut [f32], k: usize) -> Option<f32> {
    (k <= values.len()).then(|| *values.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1)
}
