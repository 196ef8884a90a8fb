//! The weights of a model, streamed from a checkpoint: read one group, quantize it if asked, hand it on, forget it.
//!
//! A group is what shares a tensor scale when it is quantized: query, key and value; gate and up; every other layer alone
//! (as ModelOpt's export does it, so that loading with `weights = "nvfp4"` equals quantizing the checkpoint first). The caller turns
//! each layer into what its backend stores. Dense weights are read where they lie in the mapped file, and its pages are given back
//! after each group, so that the peak is the model in its final form plus one group.

use half::bf16;

use crate::checkpoint::{Checkpoint, KvScales, LinearWeights};
use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::quantize::{self, Dialect, Method};
use crate::tensor::{Dense, Matrix};

/// Storage of weights as an option asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As the checkpoint holds them.
    #[default]
    Auto,
    /// bfloat16: wider floats are rounded, NVFP4 is dequantized.
    Bf16,
    /// NVFP4: floats are quantized; what is NVFP4 already stays as it is.
    Nvfp4,
}

impl Format {
    /// Reads the option `option`.
    pub fn parse(option: &'static str, text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "bf16" => Ok(Self::Bf16),
            "nvfp4" => Ok(Self::Nvfp4),
            other => Err(Error::Argument { option, found: format!("\"{other}\""), allowed: "\"auto\", \"bf16\" or \"nvfp4\"".to_owned() }),
        }
    }
}

/// What to make of a checkpoint's weights.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions {
    /// Linear layers of the blocks.
    pub weights: Format,
    /// The head.
    pub lm_head: Format,
    /// How floats become NVFP4.
    pub method: Method,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self { weights: Format::Auto, lm_head: Format::Auto, method: Method::Nearest }
    }
}

/// All weights; `L` is a linear layer in the form its backend computes with.
#[derive(Debug)]
pub struct Weights<L> {
    /// Rows by token id; `None`: the head's rows serve.
    pub embedding: Option<L>,
    /// The blocks.
    pub layers: Vec<Layer<L>>,
    /// `[hidden]`.
    pub norm: Vec<f32>,
    /// `[vocabulary, hidden]`.
    pub lm_head: L,
}

/// One block.
#[derive(Debug)]
pub struct Layer<L> {
    /// Before attention, `[hidden]`.
    pub attention_norm: Vec<f32>,
    /// Query projection.
    pub query: L,
    /// Key projection.
    pub key: L,
    /// Value projection.
    pub value: L,
    /// Over each query head, `[head_dim]`, where the architecture has one.
    pub query_norm: Option<Vec<f32>>,
    /// Over each key head.
    pub key_norm: Option<Vec<f32>>,
    /// Attention's output projection.
    pub output: L,
    /// Before the MLP, `[hidden]`.
    pub mlp_norm: Vec<f32>,
    /// Gate projection.
    pub gate: L,
    /// Up projection.
    pub up: L,
    /// Down projection.
    pub down: L,
    /// Tensor scales of the key and value cache, where the checkpoint has them.
    pub kv_scales: Option<KvScales>,
}

impl<L> Layer<L> {
    /// The linear layers with their names below the block, in the order of computation.
    pub fn linears(&self) -> [(&'static str, &L); 7] {
        [
            ("self_attn.q_proj", &self.query),
            ("self_attn.k_proj", &self.key),
            ("self_attn.v_proj", &self.value),
            ("self_attn.o_proj", &self.output),
            ("mlp.gate_proj", &self.gate),
            ("mlp.up_proj", &self.up),
            ("mlp.down_proj", &self.down),
        ]
    }

    /// The same, to change them.
    pub fn linears_mut(&mut self) -> [(&'static str, &mut L); 7] {
        [
            ("self_attn.q_proj", &mut self.query),
            ("self_attn.k_proj", &mut self.key),
            ("self_attn.v_proj", &mut self.value),
            ("self_attn.o_proj", &mut self.output),
            ("mlp.gate_proj", &mut self.gate),
            ("mlp.up_proj", &mut self.up),
            ("mlp.down_proj", &mut self.down),
        ]
    }
}

/// Reads all weights of `spec`, each linear layer through `take(name, layer)`, whose error ends the work.
pub fn load<L, E: From<Error>>(
    checkpoint: &Checkpoint,
    spec: &ModelSpec,
    options: &LoadOptions,
    take: &mut dyn FnMut(&str, LinearWeights) -> Result<L, E>,
) -> Result<Weights<L>, E> {
    Loader { checkpoint, spec, options, take }.load()
}

struct Loader<'a, L, E> {
    checkpoint: &'a Checkpoint,
    spec: &'a ModelSpec,
    options: &'a LoadOptions,
    take: &'a mut dyn FnMut(&str, LinearWeights) -> Result<L, E>,
}

/// Where a linear layer is and what the architecture expects of it.
struct Place {
    name: String,
    rows: usize,
    bias: bool,
}

impl<L, E: From<Error>> Loader<'_, L, E> {
    fn load(&mut self) -> Result<Weights<L>, E> {
        let spec = self.spec;
        let layers = (0..spec.layers).map(|layer| self.layer(layer)).collect::<Result<_, E>>()?;
        let norm = self.checkpoint.vector_f32("model.norm.weight", spec.hidden_size)?;
        let (embedding, lm_head) = self.ends()?;
        Ok(Weights { embedding, layers, norm, lm_head })
    }

    fn layer(&mut self, layer: usize) -> Result<Layer<L>, E> {
        let spec = self.spec;
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let norm = |part: &str, len| self.checkpoint.vector_f32(&name(part), len);
        let attention_norm = norm("input_layernorm.weight", spec.hidden_size)?;
        let mlp_norm = norm("post_attention_layernorm.weight", spec.hidden_size)?;
        let head_norm = |part| spec.qk_norm.then(|| norm(part, spec.head_dim)).transpose();
        let (query_norm, key_norm) = (head_norm("self_attn.q_norm.weight")?, head_norm("self_attn.k_norm.weight")?);
        let kv_scales = self.checkpoint.kv_scales(&name("self_attn"))?;
        let place = |part: &str, rows, bias| Place { name: name(part), rows, bias };
        let [query, key, value] = self.group(
            &[
                place("self_attn.q_proj", spec.query_size(), spec.bias.qkv),
                place("self_attn.k_proj", spec.kv_size(), spec.bias.qkv),
                place("self_attn.v_proj", spec.kv_size(), spec.bias.qkv),
            ],
            &name("self_attn.qkv_proj"),
            spec.hidden_size,
        )?;
        let [output] = self.group(&[place("self_attn.o_proj", spec.hidden_size, spec.bias.output)], "", spec.query_size())?;
        let [gate, up] = self.group(
            &[place("mlp.gate_proj", spec.intermediate_size, spec.bias.mlp), place("mlp.up_proj", spec.intermediate_size, spec.bias.mlp)],
            &name("mlp.gate_up_proj"),
            spec.hidden_size,
        )?;
        let [down] = self.group(&[place("mlp.down_proj", spec.hidden_size, spec.bias.mlp)], "", spec.intermediate_size)?;
        Ok(Layer { attention_norm, query, key, value, query_norm, key_norm, output, mlp_norm, gate, up, down, kv_scales })
    }

    /// Linear layers that share their input, one by one or cut out of one fused layer.
    fn group<const N: usize>(&mut self, places: &[Place; N], fused: &str, cols: usize) -> Result<[L; N], E> {
        let alone = self.checkpoint.contains(&format!("{}.weight", places[0].name))
            || self.checkpoint.contains(&format!("{}.weight_packed", places[0].name));
        let is_fused = |suffix: &str| !fused.is_empty() && self.checkpoint.contains(&format!("{fused}.{suffix}"));
        let is_fused = !alone && (is_fused("weight") || is_fused("weight_packed"));
        let mut group = if is_fused {
            let rows: Vec<usize> = places.iter().map(|p| p.rows).collect();
            self.checkpoint.linear_parts(fused, &rows, cols)?
        } else {
            places.iter().map(|p| self.checkpoint.linear(&p.name, p.rows, cols)).collect::<Result<Vec<_>>>()?
        };
        for (place, layer) in places.iter().zip(&group) {
            self.check_bias(place, layer.bias.is_some())?;
        }
        let names: Vec<&str> = places.iter().map(|p| p.name.as_str()).collect();
        convert(&mut group, &names, self.options.weights, self.options.method)?;
        let mut layers = group.into_iter();
        let mut taken = Vec::with_capacity(N);
        for (place, layer) in places.iter().zip(&mut layers) {
            taken.push((self.take)(&place.name, layer)?);
            if !is_fused {
                self.checkpoint.forget_linear(&place.name);
            }
        }
        if is_fused {
            self.checkpoint.forget_linear(fused);
        }
        Ok(taken.try_into().unwrap_or_else(|_| unreachable!("one layer per place")))
    }

    fn check_bias(&self, place: &Place, found: bool) -> Result<()> {
        if found == place.bias {
            return Ok(());
        }
        let (is, means) = if found { ("is there", "has none") } else { ("is missing", "has one") };
        let problem = format!("tensor {}.bias {is}, but this layer of {} {means} by config.json", place.name, self.spec.architecture);
        Err(Error::checkpoint(self.checkpoint.dir(), problem))
    }

    /// Embedding and head. A tied head is read once; the embedding is kept beside it only where the head is stored otherwise.
    fn ends(&mut self) -> Result<(Option<L>, L), E> {
        const EMBEDDING: &str = "model.embed_tokens";
        let (rows, cols) = (self.spec.vocab_size, self.spec.hidden_size);
        // Tied checkpoints may still hold a quantized head of its own; a dense `lm_head.weight` is the alias.
        let own_head = !self.spec.tied || self.checkpoint.contains("lm_head.weight_scale");
        let head_name = if own_head { "lm_head" } else { EMBEDDING };
        let mut head = vec![self.checkpoint.linear(head_name, rows, cols)?];
        let stored = head[0].weight.format();
        convert(&mut head, &["lm_head"], self.options.lm_head, self.options.method)?;
        let head = head.swap_remove(0);
        let shared = !own_head && head.weight.format() == stored;
        let lm_head = (self.take)("lm_head", head)?;
        self.checkpoint.forget_linear(head_name);
        let embedding = if shared {
            None
        } else {
            let embedding = self.checkpoint.linear(EMBEDDING, rows, cols)?;
            let embedding = (self.take)(EMBEDDING, embedding)?;
            self.checkpoint.forget_linear(EMBEDDING);
            Some(embedding)
        };
        Ok((embedding, lm_head))
    }
}

/// Brings a group into `format`; floats that become NVFP4 share one tensor scale. Rows that do not fill blocks stay as they are.
fn convert(group: &mut [LinearWeights], names: &[&str], format: Format, method: Method) -> Result<()> {
    match format {
        Format::Auto => {}
        Format::Bf16 => group.iter_mut().for_each(|layer| to_bf16(&mut layer.weight)),
        Format::Nvfp4 => {
            let mut amax = 0.0f32;
            for (layer, name) in group.iter().zip(names) {
                amax = amax.max(quantize::matrix_absmax(&layer.weight).map_err(|e| about(name, e))?);
            }
            for layer in group {
                if !matches!(layer.weight, Matrix::Nvfp4(_)) && layer.weight.cols().is_multiple_of(16) {
                    layer.weight = Matrix::Nvfp4(quantize::quantize_matrix(&layer.weight, amax, method, Dialect::ModelOpt)?);
                }
            }
        }
    }
    Ok(())
}

fn to_bf16(matrix: &mut Matrix) {
    if matches!(matrix, Matrix::Bf16(_)) {
        return;
    }
    let (rows, cols) = (matrix.rows(), matrix.cols());
    let mut row = vec![0.0; cols];
    let mut data = Vec::with_capacity(rows * cols); // [rows, cols]
    for index in 0..rows {
        matrix.row_to_f32(index, &mut row);
        data.extend(row.iter().map(|&x| bf16::from_f32(x)));
    }
    *matrix = Matrix::Bf16(Dense { data: data.into(), rows, cols });
}

/// Puts the layer's name in front of a quantizer's complaint.
fn about(name: &str, error: Error) -> Error {
    match error {
        Error::NonFinite { what, index, value } => Error::NonFinite { what: format!("{name}: {what}"), index, value },
        Error::Shape { what, found, expected } => Error::Shape { what: format!("{name}: {what}"), found, expected },
        other => other,
    }
}
