//! From token ids to logits: prefill, decode, the key-value cache.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # fn run(model: Arc<reset::decode::Model>) -> reset::Result<()> {
//! let mut decoder = reset::decode::Decoder::new(model);
//! let prompt = decoder.prefill(&[1, 403, 407])?; // the logits of the last token
//! let sample = decoder.fork(prompt)?; // shares the prompt's keys and values
//! decoder.decode(&[(prompt, 261), (sample, 378)])?; // one token each
//! let (first, second) = (decoder.logits(0), decoder.logits(1));
//! # Ok(())
//! # }
//! ```
//!
//! A sequence's logits are the same bits whatever the batch, the row in it and the number of threads.

mod block;
#[cfg(feature = "cuda")]
mod device;
mod measure;
mod model;
mod shares;

use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::Row;
use crate::backend::cpu::Cpu;
use crate::error::{Error, Result};

use block::Buffers;
pub use measure::Measured;
pub use model::{Footprint, Model, Report};
use shares::Share;

/// Positions of a prompt computed at once.
pub const PREFILL_CHUNK: usize = 64;
/// Sequences computed at once; more go in groups of so many.
pub const DECODE_GROUP: usize = 64;

/// A sequence held by a [`Decoder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId {
    index: usize,
    generation: u64,
}

/// Sequences being decoded with one model.
#[derive(Debug)]
pub struct Decoder<B: Backend = Cpu> {
    model: Arc<Model<B>>,
    caches: Vec<B::Cache>,
    places: Vec<Place>,
    buffers: Buffers<B>,
    rows: Vec<Row>,
    ids: Vec<u32>,
    logits: Vec<f32>, // [rows of the last step, vocabulary]
    shares: Vec<Share<B>>,
    weight_bytes: usize,
    generation: u64,
}

/// What a slot of `caches` holds.
#[derive(Clone, Copy, Debug)]
struct Place {
    generation: u64,
    length: usize,
    taken: bool,
}

impl<B: Backend> Decoder<B> {
    /// A decoder without sequences.
    pub fn new(model: Arc<Model<B>>) -> Self {
        let buffers = Buffers::new(&model, DECODE_GROUP.max(PREFILL_CHUNK));
        let weight_bytes = model.footprint().weights();
        let (caches, places, rows, ids, logits, shares) = Default::default();
        Self { model, caches, places, buffers, rows, ids, logits, shares, weight_bytes, generation: 0 }
    }

    /// The model.
    pub fn model(&self) -> &Arc<Model<B>> {
        &self.model
    }

    /// A new sequence without tokens.
    pub fn start(&mut self) -> SequenceId {
        let cache = self.model.backend.cache(&self.model.kv);
        self.insert(cache, 0)
    }

    /// A new sequence of `length` positions whose keys and values are zero: a context for benchmarks.
    pub fn start_blank(&mut self, length: usize) -> Result<SequenceId> {
        self.model.check_ids(length, &[0])?;
        let cache = self.model.backend.cache(&self.model.kv);
        Ok(self.insert(cache, length))
    }

    /// A new sequence with the tokens of a prompt; [`Self::logits`]`(0)` are those of its last token.
    pub fn prefill(&mut self, ids: &[u32]) -> Result<SequenceId> {
        self.model.check_ids(0, ids)?;
        let id = self.start();
        self.extend(id, ids)?;
        Ok(id)
    }

    /// [`Self::prefill`] that asks before each chunk; None, and no sequence, once `go_on` says no.
    pub fn prefill_while(&mut self, ids: &[u32], go_on: &mut dyn FnMut() -> bool) -> Result<Option<SequenceId>> {
        self.model.check_ids(0, ids)?;
        let id = self.start();
        for chunk in ids.chunks(PREFILL_CHUNK) {
            if !go_on() {
                self.remove(id);
                return Ok(None);
            }
            self.append(self.index(id)?, chunk)?;
        }
        self.last_logits()?;
        Ok(Some(id))
    }

    /// Appends several tokens to one sequence; [`Self::logits`]`(0)` are those of the last.
    pub fn extend(&mut self, id: SequenceId, ids: &[u32]) -> Result<()> {
        let index = self.index(id)?;
        self.model.check_ids(self.places[index].length, ids)?;
        for chunk in ids.chunks(PREFILL_CHUNK) {
            self.append(index, chunk)?;
        }
        self.last_logits()
    }

    /// One chunk at the end of the sequence at `index`.
    fn append(&mut self, index: usize, chunk: &[u32]) -> Result<()> {
        let first = self.places[index].length;
        self.rows.clear();
        self.rows.extend((0..chunk.len()).map(|i| Row { sequence: index, position: first + i }));
        self.model.forward(&mut self.buffers, &mut self.caches, &self.rows, chunk, &mut None)?;
        self.places[index].length += chunk.len();
        Ok(())
    }

    /// Logits of the last row appended.
    fn last_logits(&mut self) -> Result<()> {
        self.model.keep_row(&mut self.buffers, self.rows.len() - 1)?;
        self.logits.resize(self.logits.len().max(self.model.spec.vocab_size), 0.0);
        self.model.head(&mut self.buffers, 1, &mut self.logits[..self.model.spec.vocab_size], &mut None)?;
        Ok(())
    }

    /// A copy of a sequence, which shares what both have so far.
    pub fn fork(&mut self, id: SequenceId) -> Result<SequenceId> {
        let index = self.index(id)?;
        Ok(self.insert(self.caches[index].clone(), self.places[index].length))
    }

    /// Appends one token to each of several sequences; [`Self::logits`]`(i)` are those of the i-th.
    pub fn decode(&mut self, steps: &[(SequenceId, u32)]) -> Result<()> {
        for (number, &(id, token)) in steps.iter().enumerate() {
            self.model.check_ids(self.places[self.index(id)?].length, &[token])?;
            if steps[..number].iter().any(|(other, _)| *other == id) {
                return Err(Error::Argument {
                    option: "steps",
                    found: format!("the sequence of step {number} twice"),
                    allowed: "one token per sequence and step".to_owned(),
                });
            }
        }
        let vocabulary = self.model.spec.vocab_size;
        self.logits.resize(self.logits.len().max(steps.len() * vocabulary), 0.0);
        let shares = self.model.backend.shares(self.weight_bytes, steps.len());
        if shares > 1 {
            return self.decode_shares(steps, shares);
        }
        for (group, logits) in steps.chunks(DECODE_GROUP).zip(self.logits.chunks_mut(DECODE_GROUP * vocabulary)) {
            self.rows.clear();
            self.ids.clear();
            for &(id, token) in group {
                let place = &mut self.places[id.index];
                self.rows.push(Row { sequence: id.index, position: place.length });
                self.ids.push(token);
                place.length += 1;
            }
            self.model.forward(&mut self.buffers, &mut self.caches, &self.rows, &self.ids, &mut None)?;
            self.model.head(&mut self.buffers, group.len(), &mut logits[..group.len() * vocabulary], &mut None)?;
        }
        Ok(())
    }

    /// Raw logits of row `row` of the last step, `[vocabulary]`.
    pub fn logits(&self, row: usize) -> &[f32] {
        let vocabulary = self.model.spec.vocab_size;
        &self.logits[row * vocabulary..(row + 1) * vocabulary]
    }

    /// Tokens in a sequence.
    pub fn length(&self, id: SequenceId) -> Result<usize> {
        Ok(self.places[self.index(id)?].length)
    }

    /// The keys and values of a sequence, for what computes beside this decoder.
    pub fn cache_mut(&mut self, id: SequenceId) -> Result<&mut B::Cache> {
        let index = self.index(id)?;
        Ok(&mut self.caches[index])
    }

    /// Forgets a sequence and frees its keys and values; one that is already gone stays so.
    pub fn remove(&mut self, id: SequenceId) {
        if let Ok(index) = self.index(id) {
            self.caches[index] = self.model.backend.cache(&self.model.kv);
            self.places[index].taken = false;
        }
    }

    fn insert(&mut self, cache: B::Cache, length: usize) -> SequenceId {
        self.generation += 1;
        let place = Place { generation: self.generation, length, taken: true };
        let index = self.places.iter().position(|p| !p.taken).unwrap_or(self.places.len());
        if index == self.places.len() {
            self.caches.push(cache);
            self.places.push(place);
        } else {
            self.caches[index] = cache;
            self.places[index] = place;
        }
        SequenceId { index, generation: self.generation }
    }

    fn index(&self, id: SequenceId) -> Result<usize> {
        let known = self.places.get(id.index).is_some_and(|p| p.taken && p.generation == id.generation);
        known.then_some(id.index).ok_or_else(|| Error::Argument {
            option: "sequence",
            found: format!("{id:?}"),
            allowed: "a sequence that this decoder holds and that was not removed".to_owned(),
        })
    }
}
