//! The way back to the host: a ring of records in pinned memory, written by the device, read without a synchronization.
//!
//! ```text
//! slot (token number mod slots), row:   word 0 … word n-1      upper half of word n-1: the serial = token number + 1, written last
//! ```
//!
//! Rows are independent: each holds one sequence, whose tokens are numbered from the one it starts with. A kernel writes a record, then
//! its serial, with a system-wide fence or a release between the two; the host sees the serial, then reads the words. A slot whose serial
//! belongs to a later token was overwritten before it was read: the host let the device run more than `slots` steps ahead.
//! [`Ring::room`] says how far it may.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::backend::cuda::buffer::Pinned;
use crate::backend::cuda::device::Device;
use crate::backend::cuda::problem::Problem;
use crate::error::Result;

/// A ring of `slots` tokens for each of `rows` sequences, in records of `words` 64-bit words.
#[derive(Debug)]
pub struct Ring {
    memory: Pinned,
    device: Device,
    slots: u64,
    words: usize,
    taken: Vec<u64>, // per row: the number of the next token
}

impl Ring {
    /// An empty ring.
    pub fn new(device: &Device, slots: usize, rows: usize, words: usize) -> Result<Self> {
        let (slots, words) = (slots.max(1), words.max(1));
        let memory = Pinned::new(device, slots * rows * words)?;
        Ok(Self { memory, device: device.clone(), slots: slots as u64, words, taken: vec![0; rows] })
    }

    /// The address on the device: records `[slots, rows]`.
    pub fn pointer(&self) -> u64 {
        self.memory.pointer()
    }

    /// Tokens of a row that the ring holds.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The number of the next token to be taken from `row`.
    pub fn taken(&self, row: usize) -> u64 {
        self.taken[row]
    }

    /// How many more tokens of `row` may be started when `started` have been, so that none is overwritten unread.
    pub fn room(&self, row: usize, started: u64) -> u64 {
        (self.taken[row] + self.slots).saturating_sub(started)
    }

    /// Gives `row` to another sequence, whose next token has the number `first`. The device must not be writing to the row.
    pub fn restart(&mut self, row: usize, first: u64) {
        for slot in 0..self.slots {
            self.record(slot, row)[self.words - 1].store(0, Ordering::Release);
        }
        self.taken[row] = first;
    }

    /// The record of the next token of `row` into `out`, `[words]`, if it has arrived. Does not wait.
    pub fn take(&mut self, row: usize, out: &mut [u64]) -> Result<bool> {
        let number = self.taken[row];
        match read(self.record(number % self.slots, row), number as u32 + 1, out) {
            Arrival::NotYet => Ok(false),
            Arrival::Whole => {
                self.taken[row] += 1;
                Ok(true)
            }
            Arrival::Overwritten { serial } => {
                let found = format!("token {number} of row {row} was overwritten by token {} before the host read it", serial - 1);
                Err(self.device.error(Problem::new(found, format!("start no more than {} steps ahead", self.slots))))
            }
        }
    }

    fn record(&self, slot: u64, row: usize) -> &[AtomicU64] {
        let first = (slot as usize * self.taken.len() + row) * self.words;
        &self.memory.words()[first..first + self.words]
    }
}

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrival {
    NotYet,
    Whole,
    Overwritten { serial: u32 },
}

/// The record with this serial, into `out`.
fn read(record: &[AtomicU64], serial: u32, out: &mut [u64]) -> Arrival {
    let last = &record[record.len() - 1];
    let serial_of = |word: u64| (word >> 32) as u32;
    match serial_of(last.load(Ordering::Acquire)) {
        found if found == serial => {}
        // Empty, or the record of one turn before.
        found if found < serial => return Arrival::NotYet,
        found => return Arrival::Overwritten { serial: found },
    }
    for (word, out) in record.iter().zip(out) {
        *out = word.load(Ordering::Relaxed);
    }
    // The words are of this token only if the serial still is.
    fence(Ordering::Acquire);
    match serial_of(last.load(Ordering::Relaxed)) {
        found if found == serial => Arrival::Whole,
        found => Arrival::Overwritten { serial: found },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(words: &[u64]) -> Vec<AtomicU64> {
        words.iter().copied().map(AtomicU64::new).collect()
    }

    #[test]
    fn a_record_counts_when_it_has_its_serial() {
        let mut out = [0; 3];
        let last = |serial: u64| serial << 32 | 5;
        assert_eq!(read(&record(&[1, 2, last(7)]), 7, &mut out), Arrival::Whole);
        assert_eq!(out, [1, 2, last(7)]);
        assert_eq!(read(&record(&[1, 2, last(4)]), 7, &mut out), Arrival::NotYet, "of a turn before");
        assert_eq!(read(&record(&[0; 3]), 1, &mut out), Arrival::NotYet, "empty");
        assert_eq!(read(&record(&[1, 2, last(10)]), 7, &mut out), Arrival::Overwritten { serial: 10 });
    }

    /// A writer that follows the rule, at full speed beside the reader: what is taken is whole and in order.
    #[test]
    fn a_reader_beside_a_writer_takes_whole_records() {
        const WORDS: u64 = 5;
        const TOKENS: u64 = 2_000;
        let memory = record(&[0; WORDS as usize]);
        let taken = AtomicU64::new(0);
        let word = |token: u64, w: u64| token * 8 + w + if w == WORDS - 1 { (token + 1) << 32 } else { 0 };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for token in 0..TOKENS {
                    while taken.load(Ordering::Acquire) < token {
                        std::thread::yield_now();
                    }
                    for w in 0..WORDS {
                        let order = if w == WORDS - 1 { Ordering::Release } else { Ordering::Relaxed };
                        memory[w as usize].store(word(token, w), order);
                    }
                }
            });
            let mut out = [0; WORDS as usize];
            for token in 0..TOKENS {
                while read(&memory, token as u32 + 1, &mut out) == Arrival::NotYet {
                    std::thread::yield_now();
                }
                assert!((0..WORDS).all(|w| out[w as usize] == word(token, w)), "token {token}: {out:?}");
                taken.store(token + 1, Ordering::Release);
            }
        });
    }
}
