//! Work on runs of blocks, spread over threads.
//!
//! Threads live for one call only. A pool would save some twenty microseconds per call, and would hang a process that
//! was forked after the pool came up; tensors worth more than one thread take milliseconds. Which thread gets which run is
//! left to chance, and no result depends on it: each run writes its own part of the output.

use std::sync::{Mutex, PoisonError};
use std::thread;

/// Blocks per run: 64 KiB of bf16, small enough to balance, large enough to hide the queue.
pub const RUN: usize = 2048;

/// Calls `work` on every item, on up to one thread per core.
pub fn for_each<T: Send>(items: impl ExactSizeIterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    if threads <= 1 {
        items.for_each(work);
        return;
    }
    let queue = Mutex::new(items);
    let drain = || {
        loop {
            // The guard ends with the statement: the lock is never held while working.
            let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(item) = next else { return };
            work(item);
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(drain);
        }
        drain();
    });
}
