//! A decode step of a small model, its sequences shared out to threads.
//!
//! Sharing out each operation costs the threads some twenty joins a step, which for a model of a few million weights is as
//! long as the step. Here each thread takes some of the sequences through the whole step, with buffers of its own, and there
//! is one join. A sequence's logits are the same bits either way.

use std::sync::{Mutex, PoisonError};

use crate::backend::{Backend, Row};
use crate::decode::block::Buffers;
use crate::decode::{DECODE_GROUP, Decoder, Model, SequenceId};
use crate::error::Result;

/// What one thread needs to take its sequences through a step.
#[derive(Debug)]
pub(super) struct Share<B: Backend> {
    buffers: Buffers<B>,
    caches: Vec<B::Cache>, // of the sequences at hand while a step runs, else empty ones
    rows: Vec<Row>,
    ids: Vec<u32>,
}

impl<B: Backend> Decoder<B> {
    /// Appends one token to each of several sequences, which were checked, in `shares` shares.
    pub(super) fn decode_shares(&mut self, steps: &[(SequenceId, u32)], shares: usize) -> Result<()> {
        let Self { model, caches, places, logits, shares: all, .. } = self;
        let each = steps.len().div_ceil(shares);
        while all.len() < steps.len().div_ceil(each) {
            let (caches, rows, ids) = Default::default();
            all.push(Share { buffers: Buffers::new(model, DECODE_GROUP), caches, rows, ids });
        }
        let vocabulary = model.spec.vocab_size;
        let mut works = Vec::with_capacity(shares);
        for ((share, steps), logits) in all.iter_mut().zip(steps.chunks(each)).zip(logits.chunks_mut(each * vocabulary)) {
            share.rows.clear();
            share.ids.clear();
            share.caches.resize_with(steps.len().max(share.caches.len()), || model.backend.cache(&model.kv));
            for (sequence, &(id, token)) in steps.iter().enumerate() {
                let place = &mut places[id.index];
                std::mem::swap(&mut caches[id.index], &mut share.caches[sequence]);
                share.rows.push(Row { sequence, position: place.length });
                share.ids.push(token);
                place.length += 1;
            }
            works.push(Mutex::new((share, logits, Ok(()))));
        }
        model.backend.run_shares(works.len(), &|number| {
            let (share, logits, result) = &mut *works[number].lock().unwrap_or_else(PoisonError::into_inner);
            *result = share.run(model, logits);
        });
        let results = works.into_iter().map(|work| work.into_inner().unwrap_or_else(PoisonError::into_inner).2);
        let result = results.collect::<Result<()>>();
        for (share, steps) in all.iter_mut().zip(steps.chunks(each)) {
            for (cache, (id, _)) in share.caches.iter_mut().zip(steps) {
                std::mem::swap(&mut caches[id.index], cache);
            }
        }
        result
    }
}

impl<B: Backend> Share<B> {
    /// One step of this share's sequences; `logits` is `[sequences, vocabulary]` at least.
    fn run(&mut self, model: &Model<B>, logits: &mut [f32]) -> Result<()> {
        let Self { buffers, caches, rows, ids } = self;
        let vocabulary = model.spec.vocab_size;
        let groups = rows.chunks(DECODE_GROUP).zip(ids.chunks(DECODE_GROUP));
        for ((rows, ids), logits) in groups.zip(logits.chunks_mut(DECODE_GROUP * vocabulary)) {
            model.forward(buffers, caches, rows, ids, &mut None)?;
            model.head(buffers, rows.len(), &mut logits[..rows.len() * vocabulary], &mut None)?;
        }
        Ok(())
    }
}
