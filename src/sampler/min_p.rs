//! Min-p: keeps ids whose probability is at least a share of the largest one.

use super::Entry;
use super::Filters;
use super::Kept;

/// The filter's line in [`super::FILTERS`].
pub const ENTRY: Entry =
    Entry { name: "min_p", summary: "Keeps ids at least this probable relative to the most probable one, after temperature.", narrow };

/// `p ≥ min_p · p_max` is `x ≥ max + T·ln min_p`; no sum is needed.
fn narrow(filters: &Filters, kept: &mut Kept) {
    let Some(share) = filters.min_p().filter(|&p| p > 0.0) else { return };
    let exact = f64::from(kept.max) + kept.temperature * share.ln();
    let near = exact as f32;
    kept.raise(if f64::from(near) < exact { near.next_up() } else { near });
}
