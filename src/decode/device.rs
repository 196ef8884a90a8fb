//! A model as a CUDA device's decode step reads it.

use crate::backend::cuda::engine::Cuda;
use crate::backend::cuda::engine::step::{Block, Network, Step};
use crate::decode::Model;
use crate::error::Result;

impl Model<Cuda> {
    /// A step of `rows` rows, which may run `slots` tokens ahead of the host.
    pub fn device_step(&self, rows: usize, slots: usize) -> Result<Step> {
        self.with_network(|network| Step::new(&self.backend, network, rows, self.spec.max_positions, slots))
    }

    /// Lends `use_it` the weights in the order of a step.
    pub fn with_network<T>(&self, use_it: impl FnOnce(&Network<'_>) -> T) -> T {
        let (spec, weights) = (&self.spec, &self.weights);
        let angles = |position: usize, cos: &mut [f32], sin: &mut [f32]| spec.rope.angles_into(position, cos, sin);
        let blocks = weights.layers.iter().zip(&spec.windows).map(|(layer, &window)| Block {
            attention_norm: &layer.attention_norm,
            qkv: [&layer.query, &layer.key, &layer.value],
            head_norms: [layer.query_norm.as_deref(), layer.key_norm.as_deref()],
            output: &layer.output,
            mlp_norm: &layer.mlp_norm,
            gate_up: [&layer.gate, &layer.up],
            down: &layer.down,
            window,
        });
        use_it(&Network {
            blocks: blocks.collect(),
            norm: &weights.norm,
            head: &weights.lm_head,
            embedding: weights.embedding.as_ref().unwrap_or(&weights.lm_head),
            heads: spec.heads,
            eps: spec.rms_norm_eps,
            angles: &angles,
        })
    }
}
