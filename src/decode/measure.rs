//! What the inputs of linear layers, and the keys and values, reach on given tokens: the base of static scales.

use std::collections::BTreeMap;

use crate::backend::Backend;
use crate::backend::Row;
use crate::decode::block::Buffers;
use crate::decode::{Model, PREFILL_CHUNK};
use crate::error::Result;

/// Largest magnitudes met while running with float activations.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measured {
    /// Input of each linear layer, by its name in the checkpoint (`model.layers.0.self_attn.q_proj`, `lm_head`).
    pub inputs: BTreeMap<String, f32>,
    /// Keys (after the rotation) and values of each layer.
    pub kv: Vec<[f32; 2]>,
}

/// Collects [`Measured`] during forward passes.
#[derive(Debug, Default)]
pub(super) struct Probe(Measured);

impl Probe {
    pub fn linear(&mut self, name: String, absmax: f32) {
        let known = self.0.inputs.entry(name).or_insert(0.0);
        *known = known.max(absmax);
    }

    pub fn kv(&mut self, layer: usize, key: f32, value: f32) {
        if self.0.kv.len() <= layer {
            self.0.kv.resize(layer + 1, [0.0; 2]);
        }
        let known = &mut self.0.kv[layer];
        *known = [known[0].max(key), known[1].max(value)];
    }
}

impl<B: Backend> Model<B> {
    /// Runs each text (token ids) with float activations and notes the largest magnitudes.
    pub fn measure(&self, texts: &[Vec<u32>]) -> Result<Measured> {
        for ids in texts {
            self.check_ids(0, ids)?;
        }
        let mut probe = Some(Probe::default());
        let longest = texts.iter().map(Vec::len).max().unwrap_or(0).clamp(1, PREFILL_CHUNK);
        let mut buffers = Buffers::new(self, longest);
        let mut logits = vec![0.0; self.spec.vocab_size];
        for ids in texts {
            let mut caches = [self.backend.cache(&self.kv)];
            for (chunk, ids) in ids.chunks(PREFILL_CHUNK).enumerate() {
                let rows: Vec<Row> = (0..ids.len()).map(|i| Row { sequence: 0, position: chunk * PREFILL_CHUNK + i }).collect();
                self.forward(&mut buffers, &mut caches, &rows, ids, &mut probe)?;
                // The head's input is measured on each chunk's last row: its logits cost as much as many blocks.
                self.keep_row(&mut buffers, rows.len() - 1)?;
                self.head(&mut buffers, 1, &mut logits, &mut probe)?;
            }
        }
        Ok(probe.map(|p| p.0).unwrap_or_default())
    }
}
