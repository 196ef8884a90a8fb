//! Filters and the draw: from logits and a temperature to one token.
//!
//! ```text
//! logits / T → top-k → top-p → min-p → token = argmax over the kept ids of  x / T − ln E
//! ```
//!
//! Adding independent Gumbel noise (`−ln E` of an exponential `E`) and taking the largest is a draw from the softmax. It
//! needs no order and no cumulative sum, and the noise of an id depends on seed, stream, position and id alone ([`rng`]): a
//! token does not change with the batch, the padding of the vocabulary or the threads, and two models that share a seed
//! see the same luck.
//!
//! Every filter keeps the ids from some logit upwards, so all of them together are one number, the smallest logit kept.
//! Each file of [`FILTERS`] raises it; [`draw`] then runs the race among the ids that are left. The passes over the
//! vocabulary that this takes skip what cannot matter, and threads share what remains (`parts.rs`).

mod draw;
mod kept;
mod min_p;
mod parts;
pub mod rng;
mod statistics;
pub mod stream;
mod top_k;
mod top_p;

use std::ops::Range;

use crate::error::Error;
use crate::error::Result;
use crate::logits::InvalidLogits;

pub use draw::Draw;
pub use draw::GREEDY_TEMPERATURE;
pub use draw::draw;
pub use kept::Kept;
pub use parts::SHARED;
pub use rng::DrawKey;
pub use statistics::statistics;

/// A filter by name, in the order of application.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Name as options spell it.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Raises the smallest kept logit where the option is set.
    pub narrow: fn(&Filters, &mut Kept),
}

/// The filters, in the order they are applied.
pub const FILTERS: &[Entry] = &[top_k::ENTRY, top_p::ENTRY, min_p::ENTRY];

/// Which ids may be drawn. `None` is off.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Filters {
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f64>,
}

impl Filters {
    /// Checked options.
    pub fn new(top_k: Option<usize>, top_p: Option<f64>, min_p: Option<f64>) -> Result<Self> {
        if top_k == Some(0) {
            let allowed = "it has to be at least 1; leave it out to keep every id".into();
            return Err(Error::Argument { option: "top_k", found: "0".into(), allowed });
        }
        for (option, value) in [("top_p", top_p), ("min_p", min_p)] {
            if let Some(value) = value.filter(|p| !(0.0..=1.0).contains(p)) {
                let allowed = "it has to be a probability from 0 to 1; leave it out to switch the filter off".into();
                return Err(Error::Argument { option, found: value.to_string(), allowed });
            }
        }
        Ok(Self { top_k, top_p, min_p })
    }

    /// Number of most probable ids kept; ties with the last one stay.
    pub fn top_k(&self) -> Option<usize> {
        self.top_k
    }

    /// Probability mass kept, most probable ids first; ties with the last one stay.
    pub fn top_p(&self) -> Option<f64> {
        self.top_p
    }

    /// Smallest probability kept, relative to the largest.
    pub fn min_p(&self) -> Option<f64> {
        self.min_p
    }
}

/// Ids that are never drawn and take part in no filter: those a tokenizer cannot decode, the padding of a vocabulary.
///
/// The model gave them probability all the same, so entropy and raw log-probabilities still count them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Banned {
    /// Disjoint, ascending, none empty.
    ranges: Vec<Range<u32>>,
}

impl Banned {
    /// Nothing is banned.
    pub fn none() -> Self {
        Self::default()
    }

    /// These ids, in any order.
    pub fn new(ids: impl IntoIterator<Item = u32>) -> Self {
        let mut ids: Vec<u32> = ids.into_iter().collect();
        ids.sort_unstable();
        ids.dedup();
        let mut ranges: Vec<Range<u32>> = Vec::new();
        for id in ids {
            match ranges.last_mut() {
                Some(last) if last.end == id => last.end = id.saturating_add(1),
                _ => ranges.push(id..id.saturating_add(1)),
            }
        }
        Self { ranges }
    }

    /// Whether `id` is banned.
    pub fn contains(&self, id: u32) -> bool {
        let after = self.ranges.partition_point(|r| r.start <= id);
        after > 0 && id < self.ranges[after - 1].end
    }

    /// The ids below `vocab` that may be drawn, as ascending ranges.
    pub fn allowed(&self, vocab: usize) -> impl Iterator<Item = Range<usize>> + Clone {
        self.allowed_among(0..vocab)
    }

    /// Those of `ids` that may be drawn, as ascending ranges.
    pub fn allowed_among(&self, ids: Range<usize>) -> impl Iterator<Item = Range<usize>> + Clone {
        let first = self.ranges.partition_point(|r| r.end as usize <= ids.start);
        let inside = self.ranges[first..].iter().take_while(move |r| (r.start as usize) < ids.end);
        let starts = std::iter::once(ids.start).chain(inside.clone().map(|r| r.end as usize));
        let ends = inside.map(|r| r.start as usize).chain([ids.end]);
        starts.zip(ends).map(|(start, end)| start..end).filter(|r| r.start < r.end)
    }
}

impl From<InvalidLogits> for Error {
    fn from(problem: InvalidLogits) -> Self {
        let allowed = "logits are finite or −inf, and at least one is finite; the model or its weights are broken".to_owned();
        Self::Argument { option: "logits", found: problem.to_string(), allowed }
    }
}

#[cfg(test)]
mod tests;
