//! Work on runs of blocks, spread over threads by rayon.
//!
//! The pool lives for one call only. Rayon's global pool would save some tens of microseconds per call, and would hang a process that
//! was forked after the pool came up; tensors worth more than one thread take milliseconds. Which thread gets which run is
//! left to chance, and no result depends on it: each run writes its own part of the output.

use std::thread;

use rayon::ThreadPoolBuilder;

/// Blocks per run: 64 KiB of bf16, small enough to balance, large enough to hide the queue.
pub const RUN: usize = 2048;

/// Calls `work` on every item, on up to one thread per core.
pub fn for_each<T: Send>(items: impl ExactSizeIterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    // Where no thread can be had (a process limit), the caller does the work itself.
    let pool = (threads > 1).then(|| ThreadPoolBuilder::new().num_threads(threads).build().ok()).flatten();
    match pool {
        None => items.for_each(work),
        Some(pool) => pool.scope(|scope| {
            for item in items {
                scope.spawn(|_| work(item));
            }
        }),
    }
}
