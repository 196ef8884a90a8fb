//! Quantizing a checkpoint on disk equals what ModelOpt and llm-compressor write, and leaves nothing half-made.

use std::collections::HashMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use reset::checkpoint::dialect::{self, DIALECTS};
use reset::checkpoint::write::{TensorSpec, write_dense};
use reset::checkpoint::{ActivationScheme, Checkpoint, KvCacheScheme};
use reset::pipeline::quantize::{Measured, Options, Summary, quantize_checkpoint};
use reset::quantize::Method;
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::checkpoint::golden;
use crate::write::Scratch;

fn options(format: &str) -> Options {
    Options {
        format: dialect::parse(format).unwrap(),
        method: Method::Nearest,
        activations: ActivationScheme::Float,
        kv_cache: None,
        ignore: vec!["lm_head".to_owned()],
        max_shard_bytes: u64::MAX,
        measured: Measured::default(),
    }
}

fn run(source: &Path, destination: &Path, options: &Options) -> reset::Result<Summary> {
    quantize_checkpoint(source, destination, options, &mut |_| ControlFlow::Continue(())).map(Option::unwrap)
}

/// Invented magnitudes for every layer of the golden model.
fn measured() -> Measured {
    let layers = Checkpoint::open(golden("bf16_source")).unwrap().linear_layers();
    let inputs = layers.iter().map(|l| (l.name.clone(), 3.5)).collect();
    let kv = (0..2).map(|i| (format!("model.layers.{i}.self_attn"), (7.0, 2.5))).collect();
    Measured { inputs, kv }
}

/// Names of tensors that depend on a calibration nobody recorded.
fn calibrated(name: &str) -> bool {
    ["input_scale", "input_global_scale", "k_scale", "v_scale"].iter().any(|suffix| name.ends_with(suffix))
}

fn json_file(dir: &Path, name: &str) -> Value {
    serde_json::from_slice(&fs::read(dir.join(name)).unwrap()).unwrap()
}

fn assert_equal(ours: &Path, theirs: &Path) {
    let (a, b) = (Checkpoint::open(ours).unwrap(), Checkpoint::open(theirs).unwrap());
    assert_eq!(a.names().collect::<Vec<_>>(), b.names().collect::<Vec<_>>());
    for name in a.names() {
        assert_eq!((a.dtype(name), a.shape(name)), (b.dtype(name), b.shape(name)), "{name}");
        if !calibrated(name) {
            assert!(a.bytes(name).unwrap() == b.bytes(name).unwrap(), "{name}");
        }
    }
    let config = json_file(ours, "config.json");
    assert_eq!(config, json_file(theirs, "config.json"));
    if theirs.join("hf_quant_config.json").exists() {
        let config = json_file(ours, "hf_quant_config.json");
        assert_eq!(config, json_file(theirs, "hf_quant_config.json"));
    } else {
        assert!(!ours.join("hf_quant_config.json").exists());
    }
}

#[test]
fn outputs_equal_the_goldens_of_both_tools() {
    let nvfp4 = |o: Options| Options { activations: ActivationScheme::Nvfp4, measured: measured(), ..o };
    let kv = |o: Options, kv| Options { kv_cache: Some(kv), ..o };
    let (modelopt, ct) = (options("modelopt"), options("compressed-tensors"));
    let mlp_only = Options { ignore: vec!["lm_head".to_owned(), "*self_attn*".to_owned()], ..modelopt.clone() };
    for (name, options) in [
        ("modelopt_w4a16_nvfp4", modelopt.clone()),
        ("modelopt_nvfp4", nvfp4(modelopt.clone())),
        ("modelopt_nvfp4_mlp_only", nvfp4(mlp_only)),
        ("modelopt_nvfp4_default_fp8_kv", kv(nvfp4(modelopt.clone()), KvCacheScheme::Fp8)),
        ("modelopt_nvfp4_default_nvfp4_kv", kv(nvfp4(modelopt), KvCacheScheme::Nvfp4)),
        ("ct_nvfp4a16", ct.clone()),
        ("ct_nvfp4", nvfp4(ct.clone())),
        ("ct_nvfp4_kvfp8", kv(nvfp4(ct), KvCacheScheme::Fp8)),
    ] {
        let scratch = Scratch::new();
        let out = scratch.path("out");
        run(&golden("bf16_source"), &out, &options).unwrap();
        assert_equal(&out, &golden(name));
        if name.contains("a16") {
            let file = |dir: &Path| fs::read(dir.join("model.safetensors")).unwrap();
            assert!(file(&out) == file(&golden(name)), "{name}: the whole file, header and padding too");
        }
        assert_eq!(scratch.names(), ["out"]);
    }
}

#[test]
fn measured_magnitudes_become_scales() {
    let scratch = Scratch::new();
    for (format, input, expected) in
        [("modelopt", "input_scale", 3.5f32 / 2688.0), ("compressed-tensors", "input_global_scale", 1.0f32 / 3.5 * 2688.0)]
    {
        let out = scratch.path(format);
        let options =
            Options { activations: ActivationScheme::Nvfp4, kv_cache: Some(KvCacheScheme::Fp8), measured: measured(), ..options(format) };
        run(&golden("bf16_source"), &out, &options).unwrap();
        let checkpoint = Checkpoint::open(&out).unwrap();
        let stored = checkpoint.bytes(&format!("model.layers.0.mlp.down_proj.{input}")).unwrap();
        assert_eq!(f32::from_le_bytes(stored.try_into().unwrap()), expected);
        let multiplier = checkpoint.linear("model.layers.0.mlp.down_proj", 64, 128).unwrap().input_scale.unwrap();
        assert!((multiplier / (3.5 / 2688.0) - 1.0).abs() < 1e-6);
        let kv = checkpoint.kv_scales("model.layers.1.self_attn").unwrap().unwrap();
        assert!((kv.k / (7.0 / 448.0) - 1.0).abs() < 0.004 && (kv.v / (2.5 / 448.0) - 1.0).abs() < 0.004, "{kv:?}");
        assert_eq!(checkpoint.kv_cache_scheme(), Some(KvCacheScheme::Fp8));
    }
}

#[test]
fn every_method_is_written_in_every_dialect_and_errs_no_more_than_nearest() {
    let scratch = Scratch::new();
    let source = Checkpoint::open(golden("bf16_source")).unwrap();
    let original = source.matrix("model.layers.0.mlp.up_proj.weight", 128, 64).unwrap();
    for dialect in DIALECTS {
        let mut errors = Vec::new();
        for method in [Method::Nearest, Method::FourOverSix, Method::Sweep] {
            let out = scratch.path(&format!("{}-{}", dialect.name, method.name()));
            run(&golden("bf16_source"), &out, &Options { method, ..options(dialect.name) }).unwrap();
            let weight = Checkpoint::open(&out).unwrap().linear("model.layers.0.mlp.up_proj", 128, 64).unwrap().weight;
            let (mut a, mut b, mut error) = (vec![0.0; 64], vec![0.0; 64], 0.0);
            for row in 0..128 {
                original.row_to_f32(row, &mut a);
                weight.row_to_f32(row, &mut b);
                error += a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            }
            errors.push(error);
        }
        assert!(errors[1] < errors[0] && errors[2] < errors[0], "{}: {errors:?}", dialect.name);
    }
}

/// A checkpoint of one decoder layer with the given matrices.
fn write_model(dir: &Path, matrices: &[(&str, usize, usize)], config: &Value) {
    let bytes: Vec<Vec<u8>> = matrices
        .iter()
        .map(|&(name, rows, cols)| (0..rows * cols).flat_map(|i| (((i * 7 + name.len()) % 13) as f32 - 6.0).to_le_bytes()).collect())
        .collect();
    let specs = matrices.iter().zip(&bytes).map(|(&(name, rows, cols), bytes)| {
        (TensorSpec { name: format!("{name}.weight"), dtype: Dtype::F32, shape: vec![rows, cols] }, bytes.as_slice())
    });
    write_dense(dir, config, &specs.collect::<Vec<_>>()).unwrap();
}

#[test]
fn layers_that_do_not_fill_blocks_and_tied_heads_stay_and_are_listed() {
    let scratch = Scratch::new();
    let (model, out) = (scratch.path("model"), scratch.path("out"));
    let matrices = [
        ("model.embed_tokens", 8, 32),
        ("model.layers.0.mlp.up_proj", 24, 32),
        ("model.layers.0.mlp.down_proj", 32, 24),
        ("model.layers.0.self_attn.o_proj", 32, 32),
    ];
    write_model(&model, &matrices, &json!({"tie_word_embeddings": true}));
    for (name, text) in [("tokenizer.json", "{}"), ("LICENSE", "free"), ("chat_template.jinja", "x"), ("pytorch_model.bin", "y")] {
        fs::write(model.join(name), text).unwrap();
    }
    fs::create_dir(model.join("additional_chat_templates")).unwrap();
    fs::write(model.join("additional_chat_templates/rag.jinja"), "z").unwrap();
    let summary = run(&model, &out, &options("modelopt")).unwrap();
    assert_eq!((summary.quantized, summary.plain), (2, vec!["model.layers.0.mlp.down_proj".to_owned(), "lm_head".to_owned()]));
    let checkpoint = Checkpoint::open(&out).unwrap();
    assert_eq!(checkpoint.quantization().unwrap().ignore, ["lm_head", "model.embed_tokens", "model.layers.0.mlp.down_proj"]);
    assert_eq!(checkpoint.linear("model.layers.0.mlp.down_proj", 32, 24).unwrap().weight.format(), "f32");
    let reason = |name: &str| {
        let layer = checkpoint.linear_layers().into_iter().find(|l| l.name == name).unwrap();
        checkpoint.why_plain(&layer)
    };
    assert_eq!(reason("model.layers.0.mlp.down_proj").unwrap(), "its 24 columns are not a multiple of 16");
    for name in ["tokenizer.json", "LICENSE", "chat_template.jinja", "additional_chat_templates/rag.jinja"] {
        assert_eq!(fs::read(out.join(name)).unwrap(), fs::read(model.join(name)).unwrap());
    }
    assert!(!out.join("pytorch_model.bin").exists());
}

#[test]
fn output_in_shards_holds_the_same_tensors() {
    let scratch = Scratch::new();
    let (one, many) = (scratch.path("one"), scratch.path("many"));
    run(&golden("bf16_source"), &one, &options("modelopt")).unwrap();
    run(&golden("bf16_source"), &many, &Options { max_shard_bytes: 20_000, ..options("modelopt") }).unwrap();
    let (one, many) = (Checkpoint::open(one).unwrap(), Checkpoint::open(many).unwrap());
    assert!(many.files().count() > 4 && many.files().all(|(_, bytes)| bytes < 40_000));
    assert!(one.names().eq(many.names()));
    assert!(one.names().all(|name| one.bytes(name).unwrap() == many.bytes(name).unwrap()));
    // Quantized again: refused.
    let error = run(one.dir(), &scratch.path("again"), &options("modelopt")).unwrap_err().to_string();
    assert!(error.contains("quantized already"), "{error}");
}

#[test]
fn a_run_stopped_at_any_point_leaves_nothing() {
    let scratch = Scratch::new();
    let mut calls = 0;
    let mut last = 0;
    quantize_checkpoint(&golden("bf16_source"), &scratch.path("whole"), &options("modelopt"), &mut |p| {
        assert!(p.done > last && p.done <= p.total);
        (calls, last) = (calls + 1, p.done);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(last, 213_760, "all bytes of the source");
    for stop in [1, 2, 14, 15, calls] {
        let mut call = 0;
        let result = quantize_checkpoint(&golden("bf16_source"), &scratch.path("out"), &options("modelopt"), &mut |_| {
            call += 1;
            if call == stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        assert!(result.unwrap().is_none(), "{stop}");
        assert_eq!(scratch.names(), ["whole"]);
    }
}

#[test]
fn impossible_requests_are_refused_before_anything_is_written() {
    let scratch = Scratch::new();
    let (modelopt, ct) = (options("modelopt"), options("compressed-tensors"));
    let only_q = HashMap::from([("model.layers.0.self_attn.q_proj".to_owned(), 1.0f32)]);
    let infinite = Measured { inputs: measured().inputs.into_keys().map(|k| (k, f32::INFINITY)).collect(), ..measured() };
    let nvfp4 = ActivationScheme::Nvfp4;
    for (options, part) in [
        (Options { activations: nvfp4, ..modelopt.clone() }, "measurement for model.layers.0.mlp.down_proj"),
        (
            Options { activations: nvfp4, measured: Measured { inputs: only_q, ..Measured::default() }, ..modelopt.clone() },
            "measurement for",
        ),
        (Options { activations: nvfp4, measured: infinite, ..modelopt.clone() }, "inf as the largest magnitude"),
        (Options { kv_cache: Some(KvCacheScheme::Fp8), ..modelopt.clone() }, "measurement for model.layers.0.self_attn"),
        (Options { kv_cache: Some(KvCacheScheme::Nvfp4), measured: measured(), ..ct }, "can say fp8"),
        (Options { ignore: vec!["q_proj".to_owned()], ..modelopt.clone() }, "names no linear layer"),
        (Options { ignore: vec!["*".to_owned()], ..modelopt.clone() }, "left to quantize"),
    ] {
        let error = run(&golden("bf16_source"), &scratch.path("out"), &options).unwrap_err().to_string();
        assert!(error.contains(part), "{error} lacks {part}");
        assert!(scratch.names().is_empty());
    }
    let exists = run(&golden("bf16_source"), &golden("ct_nvfp4"), &modelopt).unwrap_err().to_string();
    assert!(exists.contains("already and not empty"), "{exists}");
}

#[test]
fn weights_that_are_not_finite_are_named() {
    let scratch = Scratch::new();
    let model = scratch.path("model");
    let mut bytes = vec![0u8; 2 * 32 * 2];
    bytes[70..72].copy_from_slice(&[0xc0, 0x7f]);
    let spec = TensorSpec { name: "model.layers.0.mlp.up_proj.weight".to_owned(), dtype: Dtype::BF16, shape: vec![2, 32] };
    write_dense(&model, &json!({}), &[(spec, &bytes)]).unwrap();
    let error = run(&model, &scratch.path("out"), &options("modelopt")).unwrap_err().to_string();
    assert!(error.contains("`model.layers.0.mlp.up_proj.weight`: element 35 is NaN"), "{error}");
    assert_eq!(scratch.names(), ["model"]);
}

#[test]
fn a_layer_of_zeros_is_written_so_that_it_loads() {
    let scratch = Scratch::new();
    let model = scratch.path("model");
    let spec = TensorSpec { name: "model.layers.0.mlp.down_proj.weight".to_owned(), dtype: Dtype::BF16, shape: vec![4, 32] };
    write_dense(&model, &json!({}), &[(spec, &[0; 256])]).unwrap();
    for dialect in DIALECTS {
        for method in [Method::Nearest, Method::FourOverSix, Method::Sweep] {
            let out = scratch.path(&format!("{}-{}", dialect.name, method.name()));
            run(&model, &out, &Options { method, ..options(dialect.name) }).unwrap();
            let weight = Checkpoint::open(&out).unwrap().linear("model.layers.0.mlp.down_proj", 4, 32).unwrap().weight;
            let mut row = vec![1.0; 32];
            weight.row_to_f32(3, &mut row);
            assert_eq!(row, [0.0; 32]);
        }
    }
}

#[test]
fn a_layer_of_zeros_does_not_disturb_those_that_share_its_scale() {
    let scratch = Scratch::new();
    let values: Vec<u8> = (0..64u8).flat_map(|i| half::bf16::from_f32(f32::from(i) / 1000.0).to_le_bytes()).collect();
    let zeros = [0; 128];
    let tensor = |projection: &str| TensorSpec {
        name: format!("model.layers.0.self_attn.{projection}_proj.weight"),
        dtype: Dtype::BF16,
        shape: vec![2, 32],
    };
    let (alone, shared) = (scratch.path("alone"), scratch.path("shared"));
    write_dense(&alone, &json!({}), &[(tensor("q"), &values)]).unwrap();
    write_dense(&shared, &json!({}), &[(tensor("k"), &zeros), (tensor("q"), &values), (tensor("v"), &zeros)]).unwrap();
    for dialect in DIALECTS {
        let read = |source: &Path, projection: &str| {
            let out = scratch.path(&format!("{}-{projection}-{}", dialect.name, source.ends_with("alone")));
            run(source, &out, &options(dialect.name)).unwrap();
            Checkpoint::open(&out).unwrap().linear(&format!("model.layers.0.self_attn.{projection}_proj"), 2, 32).unwrap().weight
        };
        assert_eq!(read(&shared, "q"), read(&alone, "q"));
        let mut row = vec![1.0; 32];
        read(&shared, "k").row_to_f32(1, &mut row);
        assert_eq!(row, [0.0; 32]);
    }
}
