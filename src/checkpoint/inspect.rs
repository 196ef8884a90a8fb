//! A summary of a checkpoint for people and programs, without reading weights.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::checkpoint::inventory::LinearLayer;
use crate::checkpoint::{Checkpoint, KvCacheScheme};

/// Sizes that `config.json` states, in the order they are shown.
const SIZES: [&str; 8] = [
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "vocab_size",
    "max_position_embeddings",
];

/// Summarizes `checkpoint` as JSON.
///
/// ```text
/// path, architecture, model_type, sizes {…}, tied_embeddings
/// quantization  null or {dialect, algorithm, activations, kv_cache, producer, ignore}
/// dtypes        {"BF16": {tensors, bytes}, …}
/// layers        {nvfp4, plain, groups: [{pattern, count, rows, cols, format, reason, input_scales}], linear: [{name, rows, cols, format, reason}]}
/// kv_scales     attention modules with cache scales
/// parameters    elements of all weights, two per byte of codes; scales do not count
/// tensor_bytes, file_bytes, bits_per_weight (of all tensors), shards [{file, bytes, tensors}]
/// ```
pub fn inspect(checkpoint: &Checkpoint) -> Value {
    let config = checkpoint.config();
    let layers = checkpoint.linear_layers();
    let (parameters, tensor_bytes) = totals(checkpoint, &layers);
    let sizes: Map<String, Value> = SIZES.iter().filter_map(|&key| Some((key.to_owned(), config.get(key)?.clone()))).collect();
    let shards: Vec<Value> = checkpoint
        .shards
        .iter()
        .map(|s| json!({"file": s.path().file_name().map(OsStr::to_string_lossy), "bytes": s.len(), "tensors": s.header().tensors.len()}))
        .collect();
    let quantization = checkpoint.quantization().map(|q| {
        json!({
            "dialect": q.dialect.name, "algorithm": q.algorithm, "activations": q.activations.name(),
            "kv_cache": q.kv_cache.map(KvCacheScheme::name), "producer": q.producer, "ignore": q.ignore,
        })
    });
    let linear: Vec<Value> = layers.iter().map(|layer| describe(checkpoint, layer)).collect();
    let nvfp4 = layers.iter().filter(|l| l.dialect.is_some()).count();
    json!({
        "path": checkpoint.dir().to_string_lossy(),
        "architecture": config.get("architectures").and_then(|a| a.get(0)),
        "model_type": config.get("model_type"),
        "sizes": sizes,
        "tied_embeddings": checkpoint.tied_embeddings(),
        "quantization": quantization,
        "dtypes": dtypes(checkpoint),
        "layers": {"nvfp4": nvfp4, "plain": layers.len() - nvfp4, "groups": groups(checkpoint, &layers), "linear": linear},
        "kv_scales": kv_scales(checkpoint),
        "parameters": parameters,
        "tensor_bytes": tensor_bytes,
        "file_bytes": checkpoint.files().map(|(_, bytes)| bytes).sum::<usize>(),
        "bits_per_weight": if parameters == 0 { Value::Null } else { json!(tensor_bytes as f64 * 8.0 / parameters as f64) },
        "shards": shards,
    })
}

fn describe(checkpoint: &Checkpoint, layer: &LinearLayer) -> Value {
    json!({
        "name": layer.name, "rows": layer.rows, "cols": layer.cols, "format": layer.format(), "reason": checkpoint.why_plain(layer),
    })
}

fn has_input_scale(checkpoint: &Checkpoint, layer: &LinearLayer) -> bool {
    layer.dialect.is_some_and(|d| checkpoint.contains(&format!("{}.{}", layer.name, d.input_scale)))
}

/// Layers that differ only in the numbers of their names, together.
fn groups(checkpoint: &Checkpoint, layers: &[LinearLayer]) -> Vec<Value> {
    type Key = (String, usize, usize, String, Option<String>);
    let mut groups: Vec<(Key, usize, usize)> = Vec::new();
    let mut places = HashMap::<Key, usize>::new(); // in `groups`: a hostile file may have a million
    for layer in layers {
        let star = |part: &str| if part.parse::<u32>().is_ok() { "*".to_owned() } else { part.to_owned() };
        let pattern = layer.name.split('.').map(star).collect::<Vec<_>>().join(".");
        // One reason for all: the pattern that matched layer 0 names layer 0.
        let reason = checkpoint.why_plain(layer).map(|r| r.split(" (").next().unwrap_or_default().to_owned());
        let key = (pattern, layer.rows, layer.cols, layer.format(), reason);
        let scaled = usize::from(has_input_scale(checkpoint, layer));
        let place = *places.entry(key.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, count, scales)) => (*count, *scales) = (*count + 1, *scales + scaled),
            None => groups.push((key, 1, scaled)),
        }
    }
    let value = |((pattern, rows, cols, format, reason), count, scales): (Key, usize, usize)| {
        json!({
            "pattern": pattern, "count": count, "rows": rows, "cols": cols, "format": format, "reason": reason, "input_scales": scales,
        })
    };
    groups.into_iter().map(value).collect()
}

fn dtypes(checkpoint: &Checkpoint) -> BTreeMap<String, Value> {
    let mut totals = BTreeMap::<String, (usize, usize)>::new();
    for (_, info) in checkpoint.tensors.values() {
        let entry = totals.entry(info.dtype.to_string()).or_default();
        *entry = (entry.0 + 1, entry.1 + (info.end - info.begin));
    }
    totals.into_iter().map(|(dtype, (tensors, bytes))| (dtype, json!({"tensors": tensors, "bytes": bytes}))).collect()
}

/// Elements of all weights, and bytes of all tensors. Scales take bytes but hold no parameters.
fn totals(checkpoint: &Checkpoint, layers: &[LinearLayer]) -> (usize, usize) {
    let codes: usize = layers.iter().filter(|l| l.dialect.is_some()).map(|l| l.rows * l.cols).sum();
    let mut parameters = codes;
    let mut bytes = 0;
    for (name, (_, info)) in &checkpoint.tensors {
        bytes += info.end - info.begin;
        let scale = ["_scale", "_scale_2", "k_scale", "v_scale"].iter().any(|suffix| name.ends_with(suffix));
        if matches!(info.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) && !scale {
            parameters += info.shape.iter().product::<usize>();
        }
    }
    (parameters, bytes)
}

fn kv_scales(checkpoint: &Checkpoint) -> usize {
    checkpoint.names().filter(|name| name.ends_with(".v_scale") || name.ends_with(".kv_scale")).count()
}
