//! Models with random weights at the sizes of real ones, made in memory: what benchmarks run on.
//!
//! Speed does not depend on the values of weights, and a benchmark that needs no download runs anywhere.

use std::sync::Arc;
use std::time::Instant;

use half::bf16;
use serde_json::{Value, json};

use crate::backend::{Backend, Inputs, KvFormat, KvSpec, LinearParts};
use crate::decode::{Decoder, Model, Report};
use crate::error::{Error, Result};
use crate::model::{Layer, ModelSpec, Weights};
use crate::nvfp4::{Nvfp4Matrix, TensorScale};
use crate::tensor::{Dense, Matrix};

/// Sizes of a published model.
#[derive(Debug)]
pub struct Shape {
    /// Name as options spell it.
    pub name: &'static str,
    architecture: &'static str,
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    kv_heads: usize,
    head_dim: usize,
    vocabulary: usize,
    tied: bool,
}

macro_rules! shape {
    ($name:literal, $architecture:literal, $($size:expr),+; $tied:literal) => {{
        let [hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary] = [$($size),+];
        Shape { name: $name, architecture: $architecture, hidden, intermediate, layers, heads, kv_heads, head_dim, vocabulary, tied: $tied }
    }};
}

/// Sizes to choose from.
pub const SHAPES: &[Shape] = &[
    shape!("tiny", "Qwen3ForCausalLM", 64, 128, 2, 4, 2, 32, 512; true),
    shape!("qwen3-0.6b", "Qwen3ForCausalLM", 1024, 3072, 28, 16, 8, 128, 151_936; true),
    shape!("qwen3-1.7b", "Qwen3ForCausalLM", 2048, 6144, 28, 16, 8, 128, 151_936; true),
    shape!("qwen3-4b", "Qwen3ForCausalLM", 2560, 9728, 36, 32, 8, 128, 151_936; true),
    shape!("qwen3-8b", "Qwen3ForCausalLM", 4096, 12_288, 36, 32, 8, 128, 151_936; false),
    shape!("qwen3-14b", "Qwen3ForCausalLM", 5120, 17_408, 40, 40, 8, 128, 151_936; false),
    shape!("qwen3-32b", "Qwen3ForCausalLM", 5120, 25_600, 64, 64, 8, 128, 151_936; false),
    shape!("r1-distill-qwen-1.5b", "Qwen2ForCausalLM", 1536, 8960, 28, 12, 2, 128, 151_936; false),
    shape!("r1-distill-qwen-7b", "Qwen2ForCausalLM", 3584, 18_944, 28, 28, 4, 128, 152_064; false),
    shape!("r1-distill-qwen-14b", "Qwen2ForCausalLM", 5120, 13_824, 48, 40, 8, 128, 152_064; false),
    shape!("llama-3.2-1b", "LlamaForCausalLM", 2048, 8192, 16, 32, 8, 64, 128_256; true),
];

impl Shape {
    /// The shape called `name`.
    pub fn named(name: &str) -> Result<&'static Self> {
        SHAPES.iter().find(|s| s.name == name).ok_or_else(|| Error::Argument {
            option: "shape",
            found: format!("\"{name}\""),
            allowed: format!("choose one of {}", SHAPES.iter().map(|s| s.name).collect::<Vec<_>>().join(", ")),
        })
    }

    pub(super) fn config(&self) -> Value {
        json!({
            "architectures": [self.architecture], "hidden_size": self.hidden, "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_dim, "vocab_size": self.vocabulary, "tie_word_embeddings": self.tied,
            "max_position_embeddings": 131_072, "rope_theta": 1e6,
        })
    }

    pub(super) fn spec(&self) -> Result<ModelSpec> {
        ModelSpec::from_config(&self.config())
    }
}

/// Formats of a synthetic model.
#[derive(Clone, Copy, Debug)]
pub struct Formats {
    /// Linear layers of the blocks as NVFP4, else bf16.
    pub nvfp4_weights: bool,
    /// The head as NVFP4, else bf16.
    pub nvfp4_head: bool,
    /// NVFP4 layers with quantized inputs, else with float ones.
    pub nvfp4_activations: bool,
    /// Keys and values.
    pub kv: KvFormat,
}

/// Reproducible bits (`SplitMix64`).
pub(super) struct Bits(u64);

impl Bits {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| self.next().to_le_bytes()).collect();
        bytes.truncate(count);
        bytes
    }

    /// bf16 numbers in ±`size`.
    fn bf16(&mut self, count: usize, size: f32) -> Vec<bf16> {
        self.bytes(count).into_iter().map(|b| bf16::from_f32((f32::from(b) / 128.0 - 1.0) * size)).collect()
    }

    /// The same as a file holds them.
    pub(super) fn bf16_bytes(&mut self, count: usize, size: f32) -> Vec<u8> {
        self.bf16(count, size).into_iter().flat_map(bf16::to_le_bytes).collect()
    }

    /// A matrix whose products with a normalized vector stay of order 1.
    fn matrix(&mut self, rows: usize, cols: usize, nvfp4: bool) -> Result<Matrix> {
        let size = 1.0 / (cols as f32).sqrt();
        if nvfp4 {
            let codes = self.bytes(rows * cols / 2);
            // E4M3 of 0.5 to 1.875; E2M1 codes are 2.6 in the quadratic mean.
            let block_scales = self.bytes(rows * cols / 16).into_iter().map(|b| 0x30 + (b & 15)).collect();
            return Ok(Matrix::Nvfp4(Nvfp4Matrix::new(codes, block_scales, TensorScale::Multiplier(size / 3.0), rows, cols)?));
        }
        Ok(Matrix::Bf16(Dense { data: self.bf16(rows * cols, size).into(), rows, cols }))
    }
}

/// A model of random weights.
pub fn model<B: Backend>(shape: &Shape, formats: Formats, backend: B) -> Result<Model<B>> {
    let spec = shape.spec()?;
    let mut bits = Bits::new(1);
    let mut made = Vec::new(); // by kind, where copies are quicker
    let mut linear = |rows: usize, cols: usize, bias: bool, nvfp4: bool| {
        let kind = (rows, cols, bias, nvfp4);
        if let Some(copy) = made.iter().find(|(known, _)| *known == kind).and_then(|(_, first)| backend.again(first)) {
            return copy;
        }
        let inputs = if formats.nvfp4_activations { Inputs::Static(8.0 / 2688.0) } else { Inputs::Float };
        let inputs = if nvfp4 { inputs } else { Inputs::Float };
        let bias = bias.then(|| vec![0.125; rows]);
        let layer = backend.linear(LinearParts { weight: bits.matrix(rows, cols, nvfp4)?, bias, pre_quant_scale: None, inputs })?;
        match backend.again(&layer) {
            None => Ok(layer),
            Some(copy) => {
                made.push((kind, layer));
                copy
            }
        }
    };
    let nvfp4 = formats.nvfp4_weights;
    let head_norm = || spec.qk_norm.then(|| vec![1.0; spec.head_dim]);
    let mut layers = Vec::with_capacity(spec.layers);
    for _ in 0..spec.layers {
        let mut layer = Layer {
            attention_norm: vec![1.0; spec.hidden_size],
            query: linear(spec.query_size(), spec.hidden_size, spec.bias.qkv, nvfp4)?,
            key: linear(spec.kv_size(), spec.hidden_size, spec.bias.qkv, nvfp4)?,
            value: linear(spec.kv_size(), spec.hidden_size, spec.bias.qkv, nvfp4)?,
            query_norm: head_norm(),
            key_norm: head_norm(),
            output: linear(spec.hidden_size, spec.query_size(), false, nvfp4)?,
            mlp_norm: vec![1.0; spec.hidden_size],
            gate: linear(spec.intermediate_size, spec.hidden_size, false, nvfp4)?,
            up: linear(spec.intermediate_size, spec.hidden_size, false, nvfp4)?,
            down: linear(spec.hidden_size, spec.intermediate_size, false, nvfp4)?,
            kv_scales: None,
        };
        backend.join(&mut [&mut layer.query, &mut layer.key, &mut layer.value])?;
        backend.join(&mut [&mut layer.gate, &mut layer.up])?;
        layers.push(layer);
    }
    let embedding = if spec.tied { None } else { Some(linear(spec.vocab_size, spec.hidden_size, false, false)?) };
    let lm_head = linear(spec.vocab_size, spec.hidden_size, false, formats.nvfp4_head)?;
    let norm = vec![1.0; spec.hidden_size];
    let scale = if formats.kv == KvFormat::Fp8 || formats.kv == KvFormat::Nvfp4 { 0.05 } else { 1.0 };
    let kv = KvSpec { format: formats.kv, heads: spec.kv_heads, head_dim: spec.head_dim, scales: vec![[scale; 2]; spec.layers] };
    let report = Report {
        weights: if nvfp4 { "nvfp4" } else { "bf16" },
        lm_head: backend.format(&lm_head),
        activations: if formats.nvfp4_activations && (nvfp4 || formats.nvfp4_head) { "nvfp4" } else { "float" },
        kv: formats.kv.name(),
        ..Report::default()
    };
    Ok(Model { spec, weights: Weights { embedding, layers, norm, lm_head }, backend, kv: Arc::new(kv), report })
}

/// What a decode benchmark measured.
#[derive(Clone, Debug)]
pub struct Timing {
    /// Seconds of each step; a step gives one token to each of `batch` sequences.
    pub seconds: Vec<f64>,
    /// Bytes of weights read in a step.
    pub weight_bytes: usize,
    /// Bytes of keys and values read in the middle step.
    pub kv_bytes: usize,
}

impl Timing {
    /// Steps of `batch` sequences that held `context` positions before the first of them.
    pub fn new<B: Backend>(model: &Model<B>, seconds: Vec<f64>, batch: usize, context: usize) -> Self {
        let footprint = model.footprint();
        let kv_bytes = footprint.kv_per_position * batch * (context + seconds.len() / 2);
        Self { seconds, weight_bytes: footprint.weights() - footprint.embedding, kv_bytes }
    }
}

/// Times `steps` decode steps, logits included, of `batch` sequences that already hold `context` positions, after a few
/// warm-up steps.
pub fn time_decode<B: Backend>(model: &Arc<Model<B>>, batch: usize, context: usize, steps: usize) -> Result<Timing> {
    const WARM_UP: usize = 3;
    let mut decoder = Decoder::new(Arc::clone(model));
    let mut tokens = Vec::with_capacity(batch);
    for number in 0..batch {
        tokens.push((decoder.start_blank(context)?, number as u32));
    }
    let mut seconds = Vec::with_capacity(steps);
    for step in 0..WARM_UP + steps {
        let start = Instant::now();
        decoder.decode(&tokens)?;
        if step >= WARM_UP {
            seconds.push(start.elapsed().as_secs_f64());
        }
        for (_, token) in &mut tokens {
            *token = (*token + 7919) % model.spec.vocab_size as u32;
        }
    }
    Ok(Timing::new(model, seconds, batch, context + WARM_UP))
}

/// Times the prefill of `length` tokens, `runs` times.
pub fn time_prefill<B: Backend>(model: &Arc<Model<B>>, length: usize, runs: usize) -> Result<Vec<f64>> {
    let mut decoder = Decoder::new(Arc::clone(model));
    let ids: Vec<u32> = (0..length).map(|i| (i * 31 % model.spec.vocab_size) as u32).collect();
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            let sequence = decoder.prefill(&ids)?;
            let seconds = start.elapsed().as_secs_f64();
            decoder.remove(sequence);
            Ok(seconds)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::cpu::Cpu;

    #[test]
    fn synthetic_models_run_in_every_format() {
        for nvfp4 in [false, true] {
            for kv in [KvFormat::F32, KvFormat::Bf16, KvFormat::Fp8, KvFormat::Nvfp4] {
                let formats = Formats { nvfp4_weights: nvfp4, nvfp4_head: nvfp4, nvfp4_activations: nvfp4, kv };
                let model = Arc::new(model(Shape::named("tiny").unwrap(), formats, Cpu::best(Some(2))).unwrap());
                let logits = model.logits(&[1, 2, 3]).unwrap();
                assert!(logits.iter().all(|x| x.is_finite()) && logits.iter().any(|&x| x != logits[0]));
                let timing = time_decode(&model, 3, 200, 4).unwrap();
                assert_eq!(timing.seconds.len(), 4);
                assert!(timing.weight_bytes > 0 && timing.kv_bytes > 0);
                assert_eq!(time_prefill(&model, 70, 2).unwrap().len(), 2);
            }
        }
    }
}
