//! The ways NVFP4 is spelt on disk, one file each.
//!
//! A dialect is data: the names of a layer's tensors, how its scalars are shaped and meant, and how its configuration is
//! read. The list [`DIALECTS`] drives reading, writing, option parsing and help.

pub mod compressed_tensors;
pub mod modelopt;

use serde_json::Value;

use crate::checkpoint::config::Quantization;
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
    /// The shape its scalars are written with; both `[]` and `[1]` are read.
    pub scalar_shape: &'static [usize],
    /// What a stored scalar means.
    pub meaning: fn(f32) -> TensorScale,
    /// The values of `quant_method` in `config.json` that announce it.
    pub quant_methods: &'static [&'static str],
    /// Reads its configuration; the error names a layout that is not supported.
    pub read_config: fn(&Value) -> Result<Quantization, String>,
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
