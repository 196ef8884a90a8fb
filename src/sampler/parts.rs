//! A pass over the vocabulary, in parts that threads share.
//!
//! Most passes look for logits from some value upwards, and the entropy pass left the largest logit of every chunk: chunks
//! that hold none are passed over. A language model that is sure of the next token leaves a handful of the 74 chunks of a
//! vocabulary of 151,936.
//!
//! ```text
//! chunks       0   1   2   3   4   5   6   7   8   9  10  11 …      each CHUNK ids
//! in reach     ×       ×   ×   ×           ×   ×           ×        its maximum is at least `from`
//! parts        └─── part 0 ────┘           └── part 1 … ───          PART chunks in reach, whatever their numbers
//! ```
//!
//! Which chunks make a part depends on the logits alone, and callers join what the parts found in order of ids: no result
//! depends on the number of threads. Nor does it on padding at the end of the vocabulary, which only adds chunks behind.

use std::ops::Range;

use super::Kept;
use crate::simd::logits::CHUNK;

/// Chunks of a part: few enough that two threads get nearly the same, enough that joining parts costs little.
const PART: usize = 4;

/// Ids in reach from which a pass is shared out. Below, starting and joining the threads takes as long as it saves.
pub const SHARED: usize = 8 * CHUNK;

/// The ids of a part that are not banned: ascending ranges, none over more than one chunk.
pub type Pieces<'a> = dyn Iterator<Item = Range<usize>> + 'a;

impl Kept<'_> {
    /// Runs `work` once for each part of the ids that may hold a logit of at least `from`, on a copy of `empty`; returns all
    /// of them in order of ids.
    pub fn on_parts<T: Clone + Send>(&self, from: f32, empty: T, work: impl Fn(&mut T, &mut Pieces<'_>) + Sync) -> Vec<T> {
        let in_reach: Vec<usize> = (0..self.chunk_maxima.len()).filter(|&chunk| self.chunk_maxima[chunk] >= from).collect();
        let mut found = vec![empty; in_reach.len().div_ceil(PART)];
        let share = |first: usize, found: &mut [T]| {
            for (found, chunks) in found.iter_mut().zip(in_reach.chunks(PART).skip(first)) {
                let ids = |chunk: usize| chunk * CHUNK..self.logits.len().min((chunk + 1) * CHUNK);
                work(found, &mut chunks.iter().flat_map(|&chunk| self.banned.allowed_among(ids(chunk))));
            }
        };
        if in_reach.len() * CHUNK < SHARED {
            share(0, &mut found);
        } else {
            self.pool.fill_items(&mut found, share);
        }
        found
    }

    /// Ids in chunks that may hold a logit of at least `from`.
    pub fn in_reach(&self, from: f32) -> usize {
        CHUNK * self.chunk_maxima.iter().filter(|&&max| max >= from).count()
    }
}
