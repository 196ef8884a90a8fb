//! Where a model runs.
//!
//! A [`Backend`] has the operations of a Llama block over its own tensors, weights and caches; [`crate::decode`] puts them
//! in order and knows nothing of instruction sets or devices. Every operation works on `rows` positions at once: those of
//! one prompt (prefill) or one of each of several sequences (decode). Each row's result is the same whatever the other
//! rows are.

pub mod cpu;
#[cfg(feature = "cuda")]
pub mod cuda;

use std::sync::Arc;

use crate::error::Result;
use crate::parallel::Pool;
use crate::tensor::Matrix;

/// Every backend: name as `device` spells it, and one sentence.
pub const BACKENDS: &[(&str, &str)] = &[("cpu", "this machine's CPU: its own thread pool, the best instruction set found at run time")];

/// A linear layer on its way into a backend: `y = (x · pre_quant_scale) · Wᵀ + bias`.
#[derive(Clone, Debug)]
pub struct LinearParts {
    /// `[rows, cols]`.
    pub weight: Matrix,
    /// `[rows]`.
    pub bias: Option<Vec<f32>>,
    /// `[cols]`.
    pub pre_quant_scale: Option<Vec<f32>>,
    /// How the input is computed.
    pub inputs: Inputs,
}

/// How a linear layer computes with its input.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Inputs {
    /// As floats.
    #[default]
    Float,
    /// Quantized to NVFP4 with one tensor scale, measured beforehand.
    Static(f32),
    /// Quantized to NVFP4 with one tensor scale per row.
    Dynamic,
}

/// Storage of keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvFormat {
    /// 32-bit floats: what attention computes with.
    F32,
    /// bfloat16.
    Bf16,
    /// E4M3 times one scale per layer for keys and one for values.
    Fp8,
    /// NVFP4 along `head_dim`: E2M1 codes, an E4M3 scale per 16, the layer's scale as tensor scale.
    Nvfp4,
}

impl KvFormat {
    /// Name as options and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Nvfp4 => "nvfp4",
        }
    }
}

/// Shape and format of a key and value cache.
#[derive(Clone, Debug, PartialEq)]
pub struct KvSpec {
    /// Storage.
    pub format: KvFormat,
    /// Key and value heads.
    pub heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Per layer: the scales of keys and of values (1 for float formats).
    pub scales: Vec<[f32; 2]>,
}

/// One position being computed: of which sequence, and where in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Index into the caches handed over with the rows.
    pub sequence: usize,
    /// Position in the sequence, from 0.
    pub position: usize,
}

/// Sizes of one attention layer.
#[derive(Clone, Copy, Debug)]
pub struct Attention {
    /// The layer whose keys and values are meant.
    pub layer: usize,
    /// Query heads; the cache knows the others.
    pub heads: usize,
    /// How many positions back a query sees, itself included.
    pub window: Option<usize>,
}

/// Cosines and sines of each row's position.
#[derive(Clone, Debug, Default)]
pub struct Angles {
    /// Pairs in a head: `head_dim / 2`.
    pub half: usize,
    /// `[rows, half]`.
    pub cos: Vec<f32>,
    /// `[rows, half]`.
    pub sin: Vec<f32>,
}

/// The operations of a block. Tensors hold `rows` rows of the width that each operation names.
///
/// A device may only queue an operation: what goes wrong in it then comes back from a later one, and from those that hand numbers to the
/// host at the latest.
pub trait Backend: Send + Sync {
    /// Activations, f32.
    type Tensor: Send + Sync + std::fmt::Debug;
    /// A linear layer in the layout the backend computes with.
    type Linear: Send + Sync + std::fmt::Debug;
    /// Keys and values of one sequence. A clone shares what both have in common.
    type Cache: Send + Sync + Clone + std::fmt::Debug;

    /// Where it is, as results name it: the instruction set or the device's architecture.
    fn table_name(&self) -> &str;

    /// The host's threads, for what a step does outside the model.
    fn pool(&self) -> &Pool;

    /// An uninitialized tensor of `len` elements.
    fn tensor(&self, len: usize) -> Self::Tensor;

    /// Brings a linear layer into the backend's layout.
    fn linear(&self, parts: LinearParts) -> Result<Self::Linear>;

    /// The same layer in memory of its own, where that is quicker than making it again.
    fn again(&self, _linear: &Self::Linear) -> Option<Result<Self::Linear>> {
        None
    }

    /// Changes how a layer computes with its input.
    fn set_inputs(&self, linear: &mut Self::Linear, inputs: Inputs);

    /// Lets layers that share their input lie together, where the backend computes them at once then.
    fn join(&self, _layers: &mut [&mut Self::Linear]) -> Result<()> {
        Ok(())
    }

    /// Storage format of a layer's weight, as [`Matrix::format`] spells it.
    fn format(&self, linear: &Self::Linear) -> &'static str;

    /// Bytes a layer holds.
    fn nbytes(&self, linear: &Self::Linear) -> usize;

    /// An empty cache.
    fn cache(&self, spec: &Arc<KvSpec>) -> Self::Cache;

    /// Bytes that one position takes in a cache.
    fn bytes_per_position(&self, spec: &KvSpec) -> usize;

    /// `out[r] = table[ids[r]]`; the table's width is the output's.
    fn embed(&self, table: &Self::Linear, ids: &[u32], out: &mut Self::Tensor) -> Result<()>;

    /// `out = weight · x / √(mean(x²) + eps)`, row by row.
    fn rms_norm(&self, x: &Self::Tensor, weight: &[f32], eps: f32, rows: usize, out: &mut Self::Tensor) -> Result<()>;

    /// Several linear layers of one input; `exact` computes with float inputs whatever the layers say.
    fn project<const N: usize>(
        &self,
        linears: [&Self::Linear; N],
        x: &Self::Tensor,
        rows: usize,
        exact: bool,
        out: [&mut Self::Tensor; N],
    ) -> Result<()>;

    /// Largest magnitude of the input that `linear` sees.
    fn input_absmax(&self, linear: &Self::Linear, x: &Self::Tensor, rows: usize) -> Result<f32>;

    /// Largest magnitude of the first `len` elements.
    fn absmax(&self, x: &Self::Tensor, len: usize) -> Result<f32>;

    /// Turns every head of `x`, `[rows, width]`, by its row's angles, after the heads' norm (weight, eps) if there is one.
    fn rotate(
        &self,
        x: &Self::Tensor,
        width: usize,
        norm: Option<(&[f32], f32)>,
        angles: &Angles,
        rows: usize,
        out: &mut Self::Tensor,
    ) -> Result<()>;

    /// Appends each row's key and value to its sequence's cache.
    fn store(&self, caches: &mut [Self::Cache], layer: usize, rows: &[Row], key: &Self::Tensor, value: &Self::Tensor) -> Result<()>;

    /// Softmax attention of each row's query heads over its sequence up to its position.
    fn attend(
        &self,
        caches: &[Self::Cache],
        attention: Attention,
        rows: &[Row],
        query: &Self::Tensor,
        out: &mut Self::Tensor,
    ) -> Result<()>;

    /// `gate = silu(gate) · up`, `len` elements.
    fn silu_mul(&self, gate: &mut Self::Tensor, up: &Self::Tensor, len: usize) -> Result<()>;

    /// `x += y`, `len` elements.
    fn add(&self, x: &mut Self::Tensor, y: &Self::Tensor, len: usize) -> Result<()>;

    /// The head's logits for `rows` rows of `x`, to the host.
    fn logits(&self, head: &Self::Linear, x: &Self::Tensor, rows: usize, exact: bool, out: &mut [f32]) -> Result<()>;

    /// In how many shares of rows a decode step of `rows` rows runs fastest, for weights of `weight_bytes`: 1 where each operation is
    /// better shared out by itself.
    fn shares(&self, weight_bytes: usize, rows: usize) -> usize {
        let _ = (weight_bytes, rows);
        1
    }

    /// Calls `work(share)` for all shares, at once where it can.
    fn run_shares(&self, shares: usize, work: &(dyn Fn(usize) + Sync)) {
        (0..shares).for_each(work);
    }

    /// Copies row `row` of width `width` to the front of `out`.
    fn take_row(&self, x: &Self::Tensor, row: usize, width: usize, out: &mut Self::Tensor) -> Result<()>;
}
