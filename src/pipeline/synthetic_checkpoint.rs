//! Checkpoints of bf16 weights drawn at random, at the sizes of published models: what benchmarks of loading read.

use std::path::Path;

use safetensors::Dtype;

use crate::checkpoint::write::{TensorSpec, Writer};
use crate::error::Result;
use crate::pipeline::synthetic::{Bits, Shape};

/// Weights drawn; tensors are made of this piece over and over.
const PIECE: usize = 1 << 20;
/// Largest weight; real ones are of this order.
const SIZE: f32 = 0.04;
const MAX_SHARD_BYTES: u64 = 5_000_000_000;

/// Writes the checkpoint of `shape` into the new directory `destination`.
pub fn write(shape: &Shape, destination: &Path) -> Result<()> {
    let spec = shape.spec()?;
    let tensor = |name: &str, shape: &[usize]| TensorSpec { name: name.to_owned(), dtype: Dtype::BF16, shape: shape.to_vec() };
    let mut units = vec![vec![tensor("model.embed_tokens.weight", &[spec.vocab_size, spec.hidden_size])]];
    for layer in 0..spec.layers {
        let mut unit = Vec::new();
        let mut add = |name: &str, shape: &[usize]| unit.push(tensor(&format!("model.layers.{layer}.{name}"), shape));
        add("input_layernorm.weight", &[spec.hidden_size]);
        add("post_attention_layernorm.weight", &[spec.hidden_size]);
        let (hidden, inner) = (spec.hidden_size, spec.intermediate_size);
        for (name, rows, cols, bias) in [
            ("self_attn.q_proj", spec.query_size(), hidden, spec.bias.qkv),
            ("self_attn.k_proj", spec.kv_size(), hidden, spec.bias.qkv),
            ("self_attn.v_proj", spec.kv_size(), hidden, spec.bias.qkv),
            ("self_attn.o_proj", hidden, spec.query_size(), spec.bias.output),
            ("mlp.gate_proj", inner, hidden, spec.bias.mlp),
            ("mlp.up_proj", inner, hidden, spec.bias.mlp),
            ("mlp.down_proj", hidden, inner, spec.bias.mlp),
        ] {
            add(&format!("{name}.weight"), &[rows, cols]);
            if bias {
                add(&format!("{name}.bias"), &[rows]);
            }
        }
        if spec.qk_norm {
            add("self_attn.q_norm.weight", &[spec.head_dim]);
            add("self_attn.k_norm.weight", &[spec.head_dim]);
        }
        units.push(unit);
    }
    units.push(vec![tensor("model.norm.weight", &[spec.hidden_size])]);
    if !spec.tied {
        units.push(vec![tensor("lm_head.weight", &[spec.vocab_size, spec.hidden_size])]);
    }
    let piece = Bits::new(1).bf16_bytes(PIECE, SIZE);
    let mut writer = Writer::create(destination, units.clone(), MAX_SHARD_BYTES)?;
    for tensor in units.iter().flatten() {
        let bytes = 2 * tensor.shape.iter().product::<usize>();
        let pieces = (0..bytes).step_by(piece.len()).map(|at| &piece[..piece.len().min(bytes - at)]);
        writer.write_chunks(&tensor.name, pieces)?;
    }
    writer.finish(&shape.config())
}
