//! The ways NVFP4 is spelt on disk, one file each.
//!
//! A dialect is data: the names of a layer's tensors, how its scalars are shaped and meant, and how its configuration is
//! read. The list [`DIALECTS`] drives reading, writing, option parsing and help.

pub mod compressed_tensors;
pub mod modelopt;

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::config::{ActivationScheme, KvCacheScheme, Quantization};
use crate::error::{Error, Result};
use crate::nvfp4::TensorScale;

/// Every dialect that is read and written, the default first.
pub const DIALECTS: &[&Dialect] = &[&modelopt::DIALECT, &compressed_tensors::DIALECT];

/// One way to store NVFP4 weights.
#[derive(Debug)]
pub struct Dialect {
    /// Name as options spell it.
    pub name: &'static str,
    /// What it is, in one sentence.
    pub sentence: &'static str,
    /// Name of the codes below a layer, U8 `[rows, cols / 2]`.
    pub codes: &'static str,
    /// Name of the block scales below a layer, `F8_E4M3` `[rows, cols / 16]`.
    pub block_scales: &'static str,
    /// Name of the tensor scale below a layer, one F32.
    pub tensor_scale: &'static str,
    /// Name of the input scale below a layer, one F32; absent where activations stay floats.
    pub input_scale: &'static str,
    /// Names of the key and value scales below an attention module.
    pub kv_scales: [&'static str; 2],
    /// What its configuration can say about the key and value cache.
    pub kv_schemes: &'static [KvCacheScheme],
    /// The key or value scale for a largest magnitude, in a model whose weights have the given type: type and bytes.
    pub kv_scale: fn(f32, Dtype) -> (Dtype, Vec<u8>),
    /// The shape its scalars are written with; both `[]` and `[1]` are read.
    pub scalar_shape: &'static [usize],
    /// What a stored scalar means.
    pub meaning: fn(f32) -> TensorScale,
    /// The values of `quant_method` in `config.json` that announce it.
    pub quant_methods: &'static [&'static str],
    /// Reads its configuration; the error names a layout that is not supported.
    pub read_config: fn(&Value) -> Result<Quantization, String>,
    /// Writes its configuration.
    pub write_config: fn(&Content) -> Configs,
}

/// What a quantized checkpoint holds: all that its configuration says.
#[derive(Clone, Debug)]
pub struct Content {
    /// Inputs of quantized layers.
    pub activations: ActivationScheme,
    /// Key and value cache.
    pub kv_cache: Option<KvCacheScheme>,
    /// Names of quantized linear layers.
    pub quantized: Vec<String>,
    /// Names of linear layers left as floats, the output head among them even if it is the embedding.
    pub plain: Vec<String>,
    /// Names of embeddings.
    pub embeddings: Vec<String>,
}

/// The configuration of a dialect as files hold it.
#[derive(Clone, Debug)]
pub struct Configs {
    /// `quantization_config` of `config.json`.
    pub quantization_config: Value,
    /// A file of its own: name and content.
    pub file: Option<(&'static str, Value)>,
}

impl Dialect {
    /// The number that states `scale` in this dialect.
    pub fn store(&self, scale: TensorScale) -> f32 {
        match ((self.meaning)(1.0), scale) {
            (TensorScale::Multiplier(_), scale) => scale.multiplier(),
            (TensorScale::Divisor(_), TensorScale::Divisor(divisor)) => divisor,
            (TensorScale::Divisor(_), TensorScale::Multiplier(multiplier)) => (1.0 / multiplier).min(f32::MAX),
        }
    }
}

/// The scale of a cache whose largest magnitude is `amax`: the magnitude becomes the largest E4M3. Nothing seen gives 1.
pub(crate) fn kv_scale(amax: f32) -> f32 {
    const LARGEST: f32 = 448.0;
    let scale = amax / LARGEST;
    if scale > 0.0 { scale } else { 1.0 }
}

impl PartialEq for Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

/// The dialect called `name`.
pub fn parse(name: &str) -> Result<&'static Dialect> {
    DIALECTS.iter().copied().find(|d| d.name == name).ok_or_else(|| Error::Argument {
        option: "format",
        found: format!("{name:?}"),
        allowed: format!("choose one of {}", DIALECTS.iter().map(|d| d.name).collect::<Vec<_>>().join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_parses_to_its_dialect_and_others_are_refused() {
        for dialect in DIALECTS {
            assert_eq!(parse(dialect.name).unwrap(), *dialect);
            assert!(dialect.sentence.ends_with('.'), "{}", dialect.name);
        }
        let error = parse("gptq").unwrap_err().to_string();
        assert!(error.contains("modelopt, compressed-tensors"), "{error}");
    }
}
