//! The way back to the host: a ring of records in pinned memory, written by the device, read without a synchronization.
//!
//! ```text
//! slot (step mod depth, row):   word 0 … word n-1, stamp        stamp = step + 1, written last
//! ```
//!
//! A kernel writes the words of its record, then the stamp with `st.release.sys`; the host sees the stamp, then reads the words. A slot
//! whose stamp belongs to a later step was overwritten before it was read: the host let the device run more than `depth` steps ahead.
//! [`Ring::room`] says how far it may.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::backend::cuda::buffer::Pinned;
use crate::backend::cuda::device::Device;
use crate::backend::cuda::problem::Problem;
use crate::error::Result;

/// A ring of `depth` steps, each of `rows` records of `words` 64-bit words.
#[derive(Debug)]
pub struct Ring {
    memory: Pinned,
    device: Device,
    depth: u64,
    rows: usize,
    words: usize,
    taken: u64,
}

impl Ring {
    /// An empty ring.
    pub fn new(device: &Device, depth: usize, rows: usize, words: usize) -> Result<Self> {
        let depth = depth.max(1);
        let memory = Pinned::new(device, depth * rows * (words + 1))?;
        Ok(Self { memory, device: device.clone(), depth: depth as u64, rows, words, taken: 0 })
    }

    /// The address on the device: words `[depth, rows, words + 1]`.
    pub fn pointer(&self) -> u64 {
        self.memory.pointer()
    }

    /// Steps the ring holds.
    pub fn depth(&self) -> u64 {
        self.depth
    }

    /// The next step to be taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// How many more steps may be started when `started` have been, so that none is overwritten unread.
    pub fn room(&self, started: u64) -> u64 {
        (self.taken + self.depth).saturating_sub(started)
    }

    /// The records of the next step into `out`, `[rows, words]`, if all of them have arrived. Does not wait.
    pub fn take(&mut self, out: &mut [u64]) -> Result<bool> {
        assert_eq!(out.len(), self.rows * self.words, "records of one step");
        let width = self.words + 1;
        let first = (self.taken % self.depth) as usize * self.rows * width;
        let slots = &self.memory.words()[first..first + self.rows * width];
        match read(slots, self.words, self.taken + 1, out) {
            Arrival::NotYet => Ok(false),
            Arrival::Whole => {
                self.taken += 1;
                Ok(true)
            }
            Arrival::Overwritten { stamp } => {
                let found = format!("step {} was overwritten by step {} before the host read it", self.taken, stamp.wrapping_sub(1));
                Err(self.device.error(Problem::new(found, format!("start no more than {} steps ahead", self.depth))))
            }
        }
    }
}

/// What a step's slots hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    NotYet,
    Whole,
    Overwritten { stamp: u64 },
}

/// The records of the step whose stamp is `stamp`, from its slots, `[rows, words + 1]`, into `out`, `[rows, words]`.
fn read(slots: &[AtomicU64], words: usize, stamp: u64, out: &mut [u64]) -> Arrival {
    let width = words + 1;
    for slot in slots.chunks_exact(width) {
        match slot[words].load(Ordering::Acquire) {
            found if found == stamp => {}
            // Empty, or the record of one turn before.
            found if found < stamp => return Arrival::NotYet,
            found => return Arrival::Overwritten { stamp: found },
        }
    }
    for (row, slot) in slots.chunks_exact(width).enumerate() {
        for (word, out) in slot.iter().zip(&mut out[row * words..(row + 1) * words]) {
            *out = word.load(Ordering::Relaxed);
        }
        // The words are of this step only if the stamp still is.
        fence(Ordering::Acquire);
        let found = slot[words].load(Ordering::Relaxed);
        if found != stamp {
            return Arrival::Overwritten { stamp: found };
        }
    }
    Arrival::Whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(words: &[u64]) -> Vec<AtomicU64> {
        words.iter().copied().map(AtomicU64::new).collect()
    }

    #[test]
    fn a_record_counts_when_every_row_has_its_stamp() {
        let mut out = [0; 4];
        assert_eq!(read(&slots(&[1, 2, 7, 3, 4, 7]), 2, 7, &mut out), Arrival::Whole);
        assert_eq!(out, [1, 2, 3, 4]);
        assert_eq!(read(&slots(&[1, 2, 7, 3, 4, 5]), 2, 7, &mut out), Arrival::NotYet, "the second row is of a turn before");
        assert_eq!(read(&slots(&[0; 6]), 2, 1, &mut out), Arrival::NotYet, "empty");
        assert_eq!(read(&slots(&[1, 2, 7, 3, 4, 9]), 2, 7, &mut out), Arrival::Overwritten { stamp: 9 });
        assert_eq!(read(&slots(&[7, 7]), 0, 7, &mut []), Arrival::Whole, "stamps alone");
    }

    /// A writer that follows the rule, at full speed beside the reader: what is taken is whole and in order.
    #[test]
    fn a_reader_beside_a_writer_takes_whole_records() {
        const WORDS: usize = 5;
        const STEPS: u64 = 20_000;
        let memory = slots(&[0; WORDS + 1]);
        let taken = AtomicU64::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for step in 0..STEPS {
                    while taken.load(Ordering::Acquire) < step {
                        std::thread::yield_now();
                    }
                    (0..WORDS).for_each(|w| memory[w].store(step * 8 + w as u64, Ordering::Relaxed));
                    memory[WORDS].store(step + 1, Ordering::Release);
                }
            });
            let mut out = [0; WORDS];
            for step in 0..STEPS {
                while read(&memory, WORDS, step + 1, &mut out) == Arrival::NotYet {
                    std::thread::yield_now();
                }
                assert!((0..WORDS).all(|w| out[w] == step * 8 + w as u64), "step {step}: {out:?}");
                taken.store(step + 1, Ordering::Release);
            }
        });
    }
}
