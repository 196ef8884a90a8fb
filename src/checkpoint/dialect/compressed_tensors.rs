//! compressed-tensors (llm-compressor, vLLM): `weight_packed`, `weight_scale`; `weight_global_scale` and
//! `input_global_scale` divide.
//!
//! The configuration stands in `config.json` → `quantization_config`, with one or more `config_groups`, each giving the
//! scheme of weights and input activations for the layers it targets.

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::checkpoint::config::{self, ActivationScheme, KvCacheScheme, Quantization};
use crate::checkpoint::dialect::{Configs, Content, Dialect, kv_scale};
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
    kv_schemes: &[KvCacheScheme::Fp8],
    kv_scale: cache_scale,
    scalar_shape: &[1],
    meaning: TensorScale::Divisor,
    quant_methods: &["compressed-tensors"],
    read_config,
    write_config,
};

/// The library computes and stores cache scales in the type of the model.
fn cache_scale(amax: f32, weight: Dtype) -> (Dtype, Vec<u8>) {
    match weight {
        Dtype::BF16 => (weight, bf16::from_f32(kv_scale(bf16::from_f32(amax).to_f32())).to_le_bytes().to_vec()),
        Dtype::F16 => (weight, f16::from_f32(kv_scale(f16::from_f32(amax).to_f32())).to_le_bytes().to_vec()),
        _ => (Dtype::F32, kv_scale(amax).to_le_bytes().to_vec()),
    }
}

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
    // Before compression a file holds floats beside their scales, to be rounded while running.
    if let Some(status) = value.get("quantization_status").and_then(Value::as_str).filter(|&status| status != "compressed") {
        return Err(format!("compressed-tensors with quantization_status {}", config::shown(status)));
    }
    let (mut quantized, mut float) = (false, false);
    for (name, group) in value.get("config_groups").and_then(Value::as_object).into_iter().flatten() {
        let of = |part: &str| group.get(part).filter(|v| !v.is_null());
        if !of("weights").is_some_and(is_nvfp4) {
            continue; // other layers are judged by their tensors, where they are read
        }
        match of("input_activations") {
            None => float = true,
            Some(inputs) if is_nvfp4(inputs) => quantized = true,
            Some(_) => return Err(format!("compressed-tensors with NVFP4 weights and other activations (group {})", config::shown(name))),
        }
    }
    Ok(Quantization {
        dialect: &DIALECT,
        algorithm: value.get("format").and_then(Value::as_str).unwrap_or(FORMAT).to_owned(),
        activations: if quantized { ActivationScheme::Nvfp4 } else { ActivationScheme::Float },
        mixed_activations: quantized && float,
        kv_cache: value.get("kv_cache_scheme").map_or(Ok(None), KvCacheScheme::from_scheme)?,
        ignore: config::strings(value.get("ignore")),
        producer: value.get("version").and_then(Value::as_str).map(|version| format!("compressed-tensors {version}")),
    })
}

fn is_nvfp4(scheme: &Value) -> bool {
    scheme.get("num_bits").and_then(Value::as_u64) == Some(4) && scheme.get("type").and_then(Value::as_str) == Some("float")
}

fn write_config(content: &Content) -> Configs {
    // Every field of the library's own files, so that its own parser and others' read ours alike.
    let scheme = |bits: u32, dynamic: Value, group_size: Value, observer: Value, strategy: &str, scale_dtype: Value| {
        json!({
            "actorder": null, "block_structure": null, "dynamic": dynamic, "group_size": group_size, "num_bits": bits,
            "observer": observer, "observer_kwargs": {}, "scale_dtype": scale_dtype, "strategy": strategy, "symmetric": true,
            "type": "float", "zp_dtype": null,
        })
    };
    let nvfp4 =
        |dynamic: Value, observer: &str| scheme(4, dynamic, json!(16), json!(observer), "tensor_group", json!("torch.float8_e4m3fn"));
    let inputs = match content.activations {
        ActivationScheme::Float => Value::Null,
        ActivationScheme::Nvfp4 => nvfp4(json!("local"), "static_minmax"),
    };
    let kv_cache = content.kv_cache.map(|_| scheme(8, json!(false), Value::Null, Value::Null, "tensor", Value::Null));
    let group = json!({
        "format": FORMAT, "input_activations": inputs, "output_activations": null, "targets": ["Linear"],
        "weights": nvfp4(json!(false), "memoryless_minmax"),
    });
    let quantization_config = json!({
        "config_groups": {"group_0": group},
        "format": FORMAT,
        "global_compression_ratio": null,
        "ignore": content.plain,
        "kv_cache_scheme": kv_cache,
        "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
        "sparsity_config": {},
        "transform_config": {},
        "version": "0.19.0", // of the format; reset_nvfp4.json says who wrote the file
    });
    Configs { quantization_config, file: None }
}
