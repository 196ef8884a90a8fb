//! A model ready to run: sizes, weights in a backend's form, the format of its cache.

use std::sync::Arc;

use crate::backend::cpu::Cpu;
use crate::backend::{Backend, KvSpec, Row};
use crate::decode::PREFILL_CHUNK;
use crate::decode::block::Buffers;
use crate::error::{Error, Result};
use crate::model::{ModelSpec, Weights};

/// A model on a backend. Shared by its decoders; never changed after loading.
#[derive(Debug)]
pub struct Model<B: Backend = Cpu> {
    /// Sizes.
    pub spec: ModelSpec,
    /// Weights.
    pub weights: Weights<B::Linear>,
    /// Where it runs.
    pub backend: B,
    /// Format of keys and values.
    pub kv: Arc<KvSpec>,
    /// What was chosen while loading.
    pub report: Report,
}

/// What was chosen while loading, in the words of the options.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Storage of the blocks' linear layers: `nvfp4` if any is, else their common format.
    pub weights: &'static str,
    /// Storage of the head.
    pub lm_head: &'static str,
    /// `float` or `nvfp4`.
    pub activations: &'static str,
    /// Storage of keys and values.
    pub kv: &'static str,
    /// Where input scales come from: `checkpoint`, `measured`, `dynamic`; empty with float activations.
    pub calibration: &'static str,
    /// Where the scales of a quantized cache come from: `checkpoint`, `measured`, `one`; empty for a float cache.
    pub kv_scales: &'static str,
    /// Linear layers that stay unquantized because their columns do not fill blocks of 16.
    pub unquantized: Vec<String>,
}

/// Bytes per part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// The embedding; 0 where the head's rows serve.
    pub embedding: usize,
    /// Query, key, value and output projections.
    pub attention: usize,
    /// Gate, up and down projections.
    pub mlp: usize,
    /// Norm weights.
    pub norms: usize,
    /// The head.
    pub lm_head: usize,
    /// One position of one sequence in the cache.
    pub kv_per_position: usize,
}

impl Footprint {
    /// All weights.
    pub fn weights(&self) -> usize {
        self.embedding + self.attention + self.mlp + self.norms + self.lm_head
    }
}

impl<B: Backend> Model<B> {
    /// Raw logits at every position, `[ids.len(), vocabulary]`.
    pub fn logits(&self, ids: &[u32]) -> Result<Vec<f32>> {
        self.logits_with(ids, || Ok(()))
    }

    /// The same; `pause` is called after every chunk of [`PREFILL_CHUNK`] positions and may end the work with an error.
    pub fn logits_with<E: From<Error>>(&self, ids: &[u32], mut pause: impl FnMut() -> Result<(), E>) -> Result<Vec<f32>, E> {
        let mut out = Vec::with_capacity(ids.len() * self.spec.vocab_size);
        self.visit_logits(ids, |_, logits| {
            out.extend_from_slice(logits);
            pause()
        })?;
        Ok(out)
    }

    /// Shows `visit` the raw logits of every position, chunk by chunk: the chunk's first position and `[positions, vocabulary]`. Memory
    /// holds [`PREFILL_CHUNK`] positions at most; an error from `visit` ends the work.
    pub fn visit_logits<E: From<Error>>(&self, ids: &[u32], mut visit: impl FnMut(usize, &[f32]) -> Result<(), E>) -> Result<(), E> {
        self.check_ids(0, ids)?;
        let positions = ids.len().min(PREFILL_CHUNK);
        let mut logits = vec![0.0; positions * self.spec.vocab_size];
        let mut buffers = Buffers::new(self, positions);
        let mut caches = [self.backend.cache(&self.kv)];
        let mut rows = Vec::with_capacity(positions);
        for (chunk, ids) in ids.chunks(PREFILL_CHUNK).enumerate() {
            let first = chunk * PREFILL_CHUNK;
            rows.clear();
            rows.extend((0..ids.len()).map(|i| Row { sequence: 0, position: first + i }));
            self.forward(&mut buffers, &mut caches, &rows, ids, &mut None)?;
            let logits = &mut logits[..ids.len() * self.spec.vocab_size];
            self.head(&mut buffers, ids.len(), logits, &mut None)?;
            visit(first, logits)?;
        }
        Ok(())
    }

    /// Refuses ids outside the vocabulary, and sequences of `before` tokens and these that are longer than the model allows.
    pub fn check_ids(&self, before: usize, ids: &[u32]) -> Result<()> {
        let wrong = |found: String, allowed: String| Error::Argument { option: "token_ids", found, allowed };
        if ids.is_empty() {
            return Err(wrong("[]".to_owned(), "at least one token is needed".to_owned()));
        }
        if let Some(index) = ids.iter().position(|&id| id as usize >= self.spec.vocab_size) {
            let allowed = format!("ids of this model are below {}", self.spec.vocab_size);
            return Err(wrong(format!("{} at index {index}", ids[index]), allowed));
        }
        let (length, most) = (before + ids.len(), self.spec.max_positions);
        if length > most {
            let problem = format!("the sequence would have {length} tokens, the model was made for at most {most}; shorten it");
            return Err(Error::config("max_position_embeddings", problem));
        }
        Ok(())
    }

    /// Bytes per part.
    pub fn footprint(&self) -> Footprint {
        let backend = &self.backend;
        let mut sum = Footprint {
            embedding: self.weights.embedding.as_ref().map_or(0, |e| backend.nbytes(e)),
            lm_head: backend.nbytes(&self.weights.lm_head),
            norms: 4 * self.weights.norm.len(),
            kv_per_position: backend.bytes_per_position(&self.kv),
            ..Footprint::default()
        };
        for layer in &self.weights.layers {
            let [q, k, v, o, gate, up, down] = layer.linears().map(|(_, linear)| backend.nbytes(linear));
            sum.attention += q + k + v + o;
            sum.mlp += gate + up + down;
            let heads = [&layer.query_norm, &layer.key_norm].into_iter().flatten().map(Vec::len).sum::<usize>();
            sum.norms += 4 * (layer.attention_norm.len() + layer.mlp_norm.len() + heads);
        }
        sum
    }
}
