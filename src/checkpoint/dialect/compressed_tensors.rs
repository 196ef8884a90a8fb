//! compressed-tensors (llm-compressor, vLLM): `weight_packed`, `weight_scale`; `weight_global_scale` and
//! `input_global_scale` divide.
//!
//! The configuration stands in `config.json` → `quantization_config`, with one or more `config_groups`, each giving the
//! scheme of weights and input activations for the layers it targets.

use serde_json::Value;

use crate::checkpoint::config::{self, ActivationScheme, KvCacheScheme, Quantization};
use crate::checkpoint::dialect::Dialect;
use crate::nvfp4::TensorScale;

/// The dialect.
pub static DIALECT: Dialect = Dialect {
    name: "compressed-tensors",
    sentence: "llm-compressor and vLLM: weight_packed, weight_scale, weight_global_scale, input_global_scale; global scales divide.",
    codes: "weight_packed",
    block_scales: "weight_scale",
    tensor_scale: "weight_global_scale",
    input_scale: "input_global_scale",
    kv_scales: ["k_scale", "v_scale"],
    scalar_shape: &[1],
    meaning: TensorScale::Divisor,
    quant_methods: &["compressed-tensors"],
    read_config,
};

/// The storage format of its NVFP4 layers.
pub const FORMAT: &str = "nvfp4-pack-quantized";

fn read_config(value: &Value) -> Result<Quantization, String> {
    let filled = |key: &str| value.get(key).and_then(Value::as_object).is_some_and(|o| !o.is_empty());
    if filled("transform_config") {
        return Err("compressed-tensors with rotations (`transform_config`)".to_owned());
    }
    if filled("sparsity_config") && value["sparsity_config"].get("format").and_then(Value::as_str) != Some("dense") {
        return Err("compressed-tensors with sparse weights (`sparsity_config`)".to_owned());
    }
    let mut activations = ActivationScheme::Float;
    for (name, group) in value.get("config_groups").and_then(Value::as_object).into_iter().flatten() {
        let of = |part: &str| group.get(part).filter(|v| !v.is_null());
        if !of("weights").is_some_and(is_nvfp4) {
            continue; // other layers are judged by their tensors, where they are read
        }
        match of("input_activations") {
            None => {}
            Some(inputs) if is_nvfp4(inputs) => activations = ActivationScheme::Nvfp4,
            Some(_) => return Err(format!("compressed-tensors with NVFP4 weights and other activations (group {})", config::shown(name))),
        }
    }
    Ok(Quantization {
        dialect: &DIALECT,
        algorithm: value.get("format").and_then(Value::as_str).unwrap_or(FORMAT).to_owned(),
        activations,
        kv_cache: value.get("kv_cache_scheme").map_or(Ok(None), KvCacheScheme::from_scheme)?,
        ignore: config::strings(value.get("ignore")),
        producer: value.get("version").and_then(Value::as_str).map(|version| format!("compressed-tensors {version}")),
    })
}

fn is_nvfp4(scheme: &Value) -> bool {
    scheme.get("num_bits").and_then(Value::as_u64) == Some(4) && scheme.get("type").and_then(Value::as_str) == Some("float")
}
