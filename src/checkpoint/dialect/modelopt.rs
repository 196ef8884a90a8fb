//! NVIDIA Model Optimizer: `weight` U8, `weight_scale`, `weight_scale_2` and `input_scale` multiply.
//!
//! The configuration stands twice: `hf_quant_config.json` (`{"producer", "quantization": {"quant_algo", …}}`, the older
//! form) and `config.json` → `quantization_config`. Both hold `quant_algo`, which names the recipe of the whole file.

use std::collections::BTreeSet;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::checkpoint::config::{self, ActivationScheme, KvCacheScheme, Quantization};
use crate::checkpoint::dialect::{Configs, Content, Dialect, kv_scale};
use crate::nvfp4::TensorScale;

/// The dialect.
pub static DIALECT: Dialect = Dialect {
    name: "modelopt",
    sentence: "NVIDIA Model Optimizer: weight, weight_scale, weight_scale_2, input_scale; scales multiply.",
    codes: "weight",
    block_scales: "weight_scale",
    tensor_scale: "weight_scale_2",
    input_scale: "input_scale",
    kv_scales: ["k_proj.k_scale", "v_proj.v_scale"],
    kv_schemes: &[KvCacheScheme::Fp8, KvCacheScheme::Nvfp4],
    kv_scale: |amax, _| (Dtype::F32, kv_scale(amax).to_le_bytes().to_vec()),
    scalar_shape: &[],
    meaning: TensorScale::Multiplier,
    quant_methods: &["modelopt", "modelopt_fp4", "modelopt_mixed"],
    read_config,
    write_config,
};

/// Recipes whose NVFP4 layers mean what this crate computes, and whether their activations are NVFP4 too.
const ALGORITHMS: [(&str, ActivationScheme); 3] =
    [("NVFP4", ActivationScheme::Nvfp4), ("NVFP4_AWQ", ActivationScheme::Nvfp4), ("W4A16_NVFP4", ActivationScheme::Float)];

fn scheme_of(algorithm: &str) -> Result<ActivationScheme, String> {
    ALGORITHMS
        .iter()
        .find(|(name, _)| *name == algorithm)
        .map(|&(_, scheme)| scheme)
        .ok_or_else(|| format!("ModelOpt quant_algo {}", config::shown(algorithm)))
}

/// Reads either form: the inner `quantization` object of `hf_quant_config.json`, or `quantization_config`.
fn read_config(value: &Value) -> Result<Quantization, String> {
    let body = value.get("quantization").filter(|v| v.is_object()).unwrap_or(value);
    let text = |key: &str| body.get(key).and_then(Value::as_str);
    let algorithm = text("quant_algo");
    let (activations, mixed_activations) = match algorithm {
        None => (ActivationScheme::Float, false), // only the KV cache is quantized
        Some("MIXED_PRECISION") => mixed(body)?,
        Some(name) => (scheme_of(name)?, false),
    };
    // Files with NVFP4 as recipe and no input activations in any group are weight-only (vLLM reads them so).
    let groups = body.get("config_groups").and_then(Value::as_object);
    let weight_only = groups.is_some_and(|g| !g.is_empty() && g.values().all(|g| g.get("input_activations").is_none_or(Value::is_null)));
    let kv_cache = match (text("kv_cache_quant_algo"), body.get("kv_cache_scheme")) {
        (Some(name), _) => Some(kv_by_name(name)?),
        (None, Some(Value::String(name))) => Some(kv_by_name(name)?),
        (None, Some(scheme)) => KvCacheScheme::from_scheme(scheme)?,
        (None, None) => None,
    };
    let ignore = body.get("exclude_modules").or_else(|| body.get("ignore"));
    Ok(Quantization {
        dialect: &DIALECT,
        algorithm: algorithm.unwrap_or("none").to_owned(),
        activations: if weight_only { ActivationScheme::Float } else { activations },
        mixed_activations: mixed_activations && !weight_only,
        kv_cache,
        ignore: config::strings(ignore),
        producer: value.get("producer").and_then(producer),
    })
}

/// Per-layer recipes: every one must be readable, and one with NVFP4 activations makes the file W4A4; also whether others have
/// float activations.
fn mixed(body: &Value) -> Result<(ActivationScheme, bool), String> {
    let (mut quantized, mut float) = (false, false);
    for (layer, recipe) in body.get("quantized_layers").and_then(Value::as_object).into_iter().flatten() {
        let name = recipe.get("quant_algo").and_then(Value::as_str).unwrap_or("");
        match scheme_of(name).map_err(|layout| format!("{layout} (of layer {})", config::shown(layer)))? {
            ActivationScheme::Nvfp4 => quantized = true,
            ActivationScheme::Float => float = true,
        }
    }
    Ok((if quantized { ActivationScheme::Nvfp4 } else { ActivationScheme::Float }, quantized && float))
}

fn kv_by_name(name: &str) -> Result<KvCacheScheme, String> {
    match name {
        "FP8" => Ok(KvCacheScheme::Fp8),
        "NVFP4" => Ok(KvCacheScheme::Nvfp4),
        other => Err(format!("ModelOpt KV cache {}", config::shown(other))),
    }
}

fn producer(value: &Value) -> Option<String> {
    let part = |key: &str| value.get(key).and_then(Value::as_str);
    Some(format!("{} {}", part("name")?, part("version").unwrap_or("")).trim_end().to_owned())
}

/// The release whose files ours equal, field by field; `reset_nvfp4.json` says who wrote them.
fn producer_of_ours() -> Value {
    json!({"name": "modelopt", "version": "0.47.0"})
}

fn write_config(content: &Content) -> Configs {
    let scheme = json!({"dynamic": false, "num_bits": 4, "type": "float", "group_size": 16});
    let (algorithm, group) = match content.activations {
        ActivationScheme::Nvfp4 => ("NVFP4", json!({"input_activations": scheme, "weights": scheme, "targets": ["Linear"]})),
        ActivationScheme::Float => ("W4A16_NVFP4", json!({"weights": scheme, "targets": ["Linear"]})),
    };
    let plain = content.plain.iter().chain(&content.embeddings);
    let exclude = exclude_patterns(plain.map(String::as_str), &content.quantized);
    let mut quantization_config = json!({"config_groups": {"group_0": group}, "ignore": exclude, "quant_algo": algorithm});
    match content.kv_cache {
        None => {}
        Some(KvCacheScheme::Fp8) => quantization_config["kv_cache_scheme"] = json!({"dynamic": false, "num_bits": 8, "type": "float"}),
        Some(KvCacheScheme::Nvfp4) => quantization_config["kv_cache_scheme"] = json!("NVFP4"),
    }
    quantization_config["producer"] = producer_of_ours();
    quantization_config["quant_method"] = json!("modelopt");
    let kv_cache = content.kv_cache.map(|kv| match kv {
        KvCacheScheme::Fp8 => "FP8",
        KvCacheScheme::Nvfp4 => "NVFP4",
    });
    let body = json!({"quant_algo": algorithm, "kv_cache_quant_algo": kv_cache, "group_size": 16, "exclude_modules": exclude});
    let file = json!({"producer": producer_of_ours(), "quantization": body});
    Configs { quantization_config, file: Some(("hf_quant_config.json", file)) }
}

/// Describes `plain` by the shortest patterns that describe no layer of `quantized`: for each module the first of
/// `parent*` and `parent.*`, from the outermost parent inwards, that hits none of them; else its own name.
fn exclude_patterns<'a>(plain: impl Iterator<Item = &'a str>, quantized: &[String]) -> BTreeSet<String> {
    let hits = |prefix: &str| quantized.iter().any(|name| name.starts_with(prefix));
    let shortest = |name: &str| {
        let mut parents = name.match_indices('.').map(|(at, _)| &name[..at]);
        let pattern = parents.find_map(|parent| {
            let below = format!("{parent}.");
            if !hits(parent) {
                Some(format!("{parent}*"))
            } else if !hits(&below) && !quantized.iter().any(|q| q == parent) {
                Some(format!("{parent}.*"))
            } else {
                None
            }
        });
        pattern.unwrap_or_else(|| name.to_owned())
    };
    plain.map(shortest).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(plain: &[&str], quantized: &[&str]) -> Vec<String> {
        let quantized: Vec<_> = quantized.iter().map(|&q| q.to_owned()).collect();
        exclude_patterns(plain.iter().copied(), &quantized).into_iter().collect()
    }

    #[test]
    fn a_layer_left_out_whole_gets_one_pattern_that_spares_its_neighbours() {
        let plain = ["m.layers.1.a", "m.layers.1.b", "lm_head", "m.embed_tokens"];
        assert_eq!(patterns(&plain, &["m.layers.0.a", "m.layers.2.a"]), ["lm_head", "m.embed_tokens", "m.layers.1*"]);
        // `m.layers.1*` would hit layer 10.
        assert_eq!(patterns(&plain, &["m.layers.0.a", "m.layers.10.a"]), ["lm_head", "m.embed_tokens", "m.layers.1.*"]);
        assert_eq!(patterns(&["m.x.q_proj"], &["m.x.k_proj"]), ["m.x.q_proj"]);
        assert_eq!(patterns(&["m.x.q_proj"], &[]), ["m*"]);
    }
}
