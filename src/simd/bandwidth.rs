//! What this machine's memory gives: the yardstick of every throughput in this crate.
//!
//! Reading sums a buffer much larger than the caches, once as it comes and once with lines fetched ahead as the weights are
//! (the better counts: one core alone does not keep memory busy); writing fills it with a constant. `threads` threads work on
//! disjoint parts, best of several rounds.

use std::hint::black_box;
use std::thread;
use std::time::Instant;

use crate::memory::advise_huge_pages;
use crate::simd::prefetch::prefetch;

/// Bytes per second.
#[derive(Clone, Copy, Debug)]
pub struct Bandwidth {
    /// Reading.
    pub read: f64,
    /// Writing.
    pub write: f64,
}

/// 64-bit words per buffer: 256 MiB.
const WORDS: usize = 32 << 20;
/// Rounds; the fastest counts, since anything else on the machine only slows a round.
const ROUNDS: usize = 5;

/// Measures with `threads` threads (at least one), in about half a second.
pub fn measure(threads: usize) -> Bandwidth {
    let mut buffer: Vec<u64> = Vec::with_capacity(WORDS);
    advise_huge_pages(&buffer);
    buffer.resize(WORDS, 1);
    let part = WORDS.div_ceil(threads.max(1));
    let bytes = (WORDS * 8) as f64;
    let mut best = Bandwidth { read: 0.0, write: 0.0 };
    for round in 0..ROUNDS {
        let started = Instant::now();
        thread::scope(|scope| {
            for part in buffer.chunks_mut(part) {
                scope.spawn(move || black_box(part).fill(round as u64));
            }
        });
        best.write = best.write.max(bytes / started.elapsed().as_secs_f64());
        for sum in [sum::<false>, sum::<true>] {
            let started = Instant::now();
            thread::scope(|scope| {
                for part in buffer.chunks(part) {
                    scope.spawn(move || black_box(sum(black_box(part))));
                }
            });
            best.read = best.read.max(bytes / started.elapsed().as_secs_f64());
        }
    }
    best
}

/// Sum in eight independent chains, so that the loop waits for memory alone.
fn sum<const AHEAD: bool>(words: &[u64]) -> u64 {
    let mut chains = [0_u64; 8];
    for words in words.chunks_exact(8) {
        if AHEAD {
            prefetch(words.as_ptr().cast(), 1);
        }
        for (chain, word) in chains.iter_mut().zip(words) {
            *chain = chain.wrapping_add(*word);
        }
    }
    chains.iter().fold(0, |sum, chain| sum.wrapping_add(*chain))
}

#[cfg(test)]
mod tests {
    #[test]
    fn memory_gives_something_between_a_floppy_and_a_cache() {
        let found = super::measure(2);
        for rate in [found.read, found.write] {
            assert!((1e8..1e13).contains(&rate), "{rate}");
        }
    }
}
