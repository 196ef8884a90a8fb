//! The forward pass: token ids in, logits out. Read it top to bottom.
//!
//! ```text
//! x = embedding[id]
//! per block   x += output(attention(rotate(query(norm x)), rotate(key(norm x)), value(norm x)))
//!             x += down(silu(gate(norm x)) · up(norm x))
//! logits = head(norm x)
//! ```

use crate::backend::{Angles, Attention, Backend, Row};
use crate::decode::Model;
use crate::decode::measure::Probe;
use crate::error::Result;

/// Activations of one step, for at most `rows` rows. Made once, used for every step.
#[derive(Debug)]
pub struct Buffers<B: Backend> {
    residual: B::Tensor, // [rows, hidden]
    hidden: B::Tensor,   // [rows, hidden]
    query: B::Tensor,    // [rows, heads · head_dim]
    key: B::Tensor,      // [rows, kv_heads · head_dim]
    value: B::Tensor,    // [rows, kv_heads · head_dim]
    turned: B::Tensor,   // [rows, heads · head_dim]
    turned_key: B::Tensor,
    gate: B::Tensor, // [rows, intermediate]
    up: B::Tensor,   // [rows, intermediate]
    angles: Angles,
}

impl<B: Backend> Buffers<B> {
    /// Buffers for `rows` rows of `model`.
    pub fn new(model: &Model<B>, rows: usize) -> Self {
        let (spec, backend) = (&model.spec, &model.backend);
        let half = spec.head_dim / 2;
        let tensor = |width: usize| backend.tensor(rows * width);
        Self {
            residual: tensor(spec.hidden_size),
            hidden: tensor(spec.hidden_size),
            query: tensor(spec.query_size()),
            key: tensor(spec.kv_size()),
            value: tensor(spec.kv_size()),
            turned: tensor(spec.query_size()),
            turned_key: tensor(spec.kv_size()),
            gate: tensor(spec.intermediate_size),
            up: tensor(spec.intermediate_size),
            angles: Angles { half, cos: vec![0.0; rows * half], sin: vec![0.0; rows * half] },
        }
    }
}

impl<B: Backend> Model<B> {
    /// Runs all blocks for `rows` (token `ids`), appending to `caches`. The residual stream stays in `buffers`.
    pub(super) fn forward(
        &self,
        buffers: &mut Buffers<B>,
        caches: &mut [B::Cache],
        rows: &[Row],
        ids: &[u32],
        probe: &mut Option<Probe>,
    ) -> Result<()> {
        let (spec, backend, m) = (&self.spec, &self.backend, rows.len());
        let Buffers { residual: x, hidden: h, query: q, key: k, value: v, turned, turned_key, gate, up, angles, .. } = buffers;
        let (eps, exact) = (spec.rms_norm_eps, probe.is_some());

        for (row, (cos, sin)) in rows.iter().zip(angles.cos.chunks_exact_mut(angles.half).zip(angles.sin.chunks_exact_mut(angles.half))) {
            spec.rope.angles_into(row.position, cos, sin);
        }
        backend.embed(self.weights.embedding.as_ref().unwrap_or(&self.weights.lm_head), ids, x)?;

        for (index, layer) in self.weights.layers.iter().enumerate() {
            backend.rms_norm(x, &layer.attention_norm, eps, m, h)?;
            self.watch(probe, index, 0..3, h, m)?;
            backend.project([&layer.query, &layer.key, &layer.value], h, m, exact, [&mut *q, &mut *k, &mut *v])?;

            let (query_norm, key_norm) = (layer.query_norm.as_deref(), layer.key_norm.as_deref());
            backend.rotate(q, spec.query_size(), query_norm.map(|w| (w, eps)), angles, m, turned)?;
            backend.rotate(k, spec.kv_size(), key_norm.map(|w| (w, eps)), angles, m, turned_key)?;
            if let Some(probe) = probe {
                probe.kv(index, backend.absmax(turned_key, m * spec.kv_size())?, backend.absmax(v, m * spec.kv_size())?);
            }
            backend.store(caches, index, rows, turned_key, v)?;
            let attention = Attention { layer: index, heads: spec.heads, window: spec.windows[index] };
            backend.attend(caches, attention, rows, turned, q)?;

            self.watch(probe, index, 3..4, q, m)?;
            backend.project([&layer.output], q, m, exact, [&mut *h])?;
            backend.add(x, h, m * spec.hidden_size)?;

            backend.rms_norm(x, &layer.mlp_norm, eps, m, h)?;
            self.watch(probe, index, 4..6, h, m)?;
            backend.project([&layer.gate, &layer.up], h, m, exact, [&mut *gate, &mut *up])?;
            backend.silu_mul(gate, up, m * spec.intermediate_size)?;
            self.watch(probe, index, 6..7, gate, m)?;
            backend.project([&layer.down], gate, m, exact, [&mut *h])?;
            backend.add(x, h, m * spec.hidden_size)?;
        }
        Ok(())
    }

    /// Logits of the first `rows` rows that [`Self::forward`] left in `buffers`, into `out`, `[rows, vocabulary]`.
    pub(super) fn head(&self, buffers: &mut Buffers<B>, rows: usize, out: &mut [f32], probe: &mut Option<Probe>) -> Result<()> {
        let Buffers { residual: x, hidden: h, .. } = buffers;
        self.backend.rms_norm(x, &self.weights.norm, self.spec.rms_norm_eps, rows, h)?;
        if let Some(probe) = probe {
            probe.linear("lm_head".to_owned(), self.backend.input_absmax(&self.weights.lm_head, h, rows)?);
        }
        self.backend.logits(&self.weights.lm_head, h, rows, probe.is_some(), out)
    }

    /// Moves the residual stream of row `row` to the front.
    pub(super) fn keep_row(&self, buffers: &mut Buffers<B>, row: usize) -> Result<()> {
        let Buffers { residual: x, hidden: h, .. } = buffers;
        self.backend.take_row(x, row, self.spec.hidden_size, h)?;
        std::mem::swap(x, h);
        Ok(())
    }

    /// Notes the largest input of some of a block's linear layers, where someone measures.
    fn watch(&self, probe: &mut Option<Probe>, layer: usize, which: std::ops::Range<usize>, x: &B::Tensor, rows: usize) -> Result<()> {
        let Some(probe) = probe else { return Ok(()) };
        for (name, linear) in &self.weights.layers[layer].linears()[which] {
            probe.linear(format!("model.layers.{layer}.{name}"), self.backend.input_absmax(linear, x, rows)?);
        }
        Ok(())
    }
}
