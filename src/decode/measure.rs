//! What the inputs of linear layers, and the keys and values, reach on given tokens: the base of static scales.

use std::collections::BTreeMap;

use crate::backend::Backend;
use crate::backend::Row;
use crate::decode::block::Buffers;
use crate::decode::{Model, PREFILL_CHUNK};
use crate::error::{Error, Result};

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
    /// Runs each text (token ids) with float activations and notes the largest magnitudes. A text longer than the model's context is
    /// cut into sequences of that length.
    pub fn measure(&self, texts: &[Vec<u32>]) -> Result<Measured> {
        self.measure_with(texts, &mut || Ok(()))
    }

    /// The same; `pause` is called before every chunk of [`PREFILL_CHUNK`] positions and may end the work with an error.
    pub fn measure_with<E: From<Error>>(&self, texts: &[Vec<u32>], pause: &mut dyn FnMut() -> Result<(), E>) -> Result<Measured, E> {
        // A text without tokens stays one, to be refused.
        let empty = |ids: &'_ Vec<u32>| ids.is_empty().then_some(&[][..]);
        let sequences = || texts.iter().flat_map(|ids| ids.chunks(self.spec.max_positions).chain(empty(ids)));
        for ids in sequences() {
            self.check_ids(0, ids)?;
        }
        let mut probe = Some(Probe::default());
        let longest = sequences().map(<[u32]>::len).max().unwrap_or(0).clamp(1, PREFILL_CHUNK);
        let mut buffers = Buffers::new(self, longest);
        let mut logits = vec![0.0; self.spec.vocab_size];
        for ids in sequences() {
            let mut caches = [self.backend.cache(&self.kv)];
            for (chunk, ids) in ids.chunks(PREFILL_CHUNK).enumerate() {
                pause()?;
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
