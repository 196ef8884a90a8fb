//! Damaged and hostile checkpoints end in an error that names the culprit; never in a panic, never in wrong weights.

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use reset::Error;
use reset::checkpoint::write::{TensorSpec, write_dense};
use reset::checkpoint::{ActivationScheme, Checkpoint, inspect};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::write::Scratch;

type Tensors = Vec<(&'static str, Dtype, Vec<usize>, Vec<u8>)>;

fn f32s(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// One NVFP4 layer `a.l`, `[2, 32]`, in the ModelOpt dialect.
fn modelopt() -> Tensors {
    vec![
        ("a.l.weight", Dtype::U8, vec![2, 16], vec![0x21; 32]),
        ("a.l.weight_scale", Dtype::F8_E4M3, vec![2, 2], vec![0x38; 4]),
        ("a.l.weight_scale_2", Dtype::F32, vec![], f32s(&[0.5])),
        ("a.l.input_scale", Dtype::F32, vec![], f32s(&[0.25])),
    ]
}

/// The same in compressed-tensors.
fn compressed() -> Tensors {
    vec![
        ("a.l.weight_packed", Dtype::U8, vec![2, 16], vec![0x21; 32]),
        ("a.l.weight_scale", Dtype::F8_E4M3, vec![2, 2], vec![0x38; 4]),
        ("a.l.weight_global_scale", Dtype::F32, vec![1], f32s(&[2.0])),
        ("a.l.input_global_scale", Dtype::F32, vec![1], f32s(&[4.0])),
    ]
}

fn put(dir: &Path, config: &Value, tensors: &Tensors) {
    let specs = tensors.iter().map(|(name, dtype, shape, bytes)| {
        (TensorSpec { name: (*name).to_owned(), dtype: *dtype, shape: shape.clone() }, bytes.as_slice())
    });
    write_dense(dir, config, &specs.collect::<Vec<_>>()).unwrap();
}

fn open_with(tensors: &Tensors, config: &Value) -> (Scratch, reset::Result<Checkpoint>) {
    let scratch = Scratch::new();
    put(&scratch.path("m"), config, tensors);
    let checkpoint = Checkpoint::open(scratch.path("m"));
    (scratch, checkpoint)
}

/// Reads the layer of `tensors` after `change`; the error's text.
fn refusal(mut tensors: Tensors, change: impl FnOnce(&mut Tensors)) -> Error {
    change(&mut tensors);
    let (_scratch, checkpoint) = open_with(&tensors, &json!({}));
    checkpoint.unwrap().linear("a.l", 2, 32).unwrap_err()
}

#[test]
fn the_same_layer_reads_equal_in_both_dialects() {
    let read = |tensors: &Tensors| {
        let (_scratch, checkpoint) = open_with(tensors, &json!({}));
        let linear = checkpoint.unwrap().linear("a.l", 2, 32).unwrap();
        let mut row = vec![0.0; 32];
        linear.weight.row_to_f32(1, &mut row);
        (row, linear.input_scale)
    };
    assert_eq!(read(&modelopt()), read(&compressed()));
    assert_eq!(read(&modelopt()).1, Some(0.25));
    assert_eq!(read(&modelopt()).0[..3], [0.25, 0.5, 0.25]); // codes 1 and 2 are 0.5 and 1; the scales are 1 and 0.5
}

#[test]
fn scales_that_are_missing_or_not_positive_numbers_are_named() {
    for (tensors, scale, block_scales) in [
        (modelopt(), ["a.l.weight_scale_2", "a.l.input_scale"], "a.l.weight_scale"),
        (compressed(), ["a.l.weight_global_scale", "a.l.input_global_scale"], "a.l.weight_scale"),
    ] {
        let find = |tensors: &Tensors, name: &str| tensors.iter().position(|t| t.0 == name).unwrap();
        for name in scale {
            for bad in [0.0, -1.0, f32::NAN, f32::INFINITY] {
                let error = refusal(tensors.clone(), |t| {
                    let at = find(t, name);
                    t[at].3 = f32s(&[bad]);
                });
                assert!(error.to_string().contains(&format!("tensor `{name}` is {bad}")), "{error}");
            }
            let error = refusal(tensors.clone(), |t| {
                let at = find(t, name);
                (t[at].2, t[at].3) = (vec![3], f32s(&[1.0; 3]));
            });
            assert!(error.to_string().contains(&format!("`{name}` has shape [3]")), "{error}");
        }
        for name in [scale[0], block_scales] {
            let error = refusal(tensors.clone(), |t| t.retain(|tensor| tensor.0 != name));
            assert!(error.to_string().contains(&format!("`{name}` is missing")), "{error}");
        }
        for bad in [0x7F, 0xFF, 0xB8] {
            let error = refusal(tensors.clone(), |t| {
                let at = find(t, block_scales);
                t[at].3[3] = bad;
            });
            assert!(error.to_string().contains("`a.l.weight_scale` is damaged: block_scales, element 3"), "{error}");
        }
        let error = refusal(tensors.clone(), |t| {
            let at = find(t, block_scales);
            (t[at].2, t[at].3) = (vec![2, 1], vec![0x38; 2]);
        });
        assert!(error.to_string().contains("`a.l.weight_scale` has shape [2, 1], the model needs [2, 2]"), "{error}");
        // Activations were never calibrated: a fact, not an error.
        let mut without = tensors.clone();
        without.retain(|t| t.0 != scale[1]);
        let (_scratch, checkpoint) = open_with(&without, &json!({}));
        assert_eq!(checkpoint.unwrap().linear("a.l", 2, 32).unwrap().input_scale, None);
    }
}

#[test]
fn other_layouts_are_refused_by_name() {
    let extra = |name: &'static str, dtype, shape: Vec<usize>, bytes: Vec<u8>| move |t: &mut Tensors| t.push((name, dtype, shape, bytes));
    let only = |name: &'static str, dtype, shape: Vec<usize>, bytes: Vec<u8>| move |t: &mut Tensors| *t = vec![(name, dtype, shape, bytes)];
    let errors = [
        (refusal(modelopt(), extra("a.l.svdquant_lora_a", Dtype::BF16, vec![1], vec![0; 2])), "SVDQuant"),
        (refusal(compressed(), extra("a.l.weight_zero_point", Dtype::U8, vec![1], vec![0])), "asymmetric"),
        (refusal(vec![], only("a.l.qweight", Dtype::I32, vec![1], vec![0; 4])), "GPTQ"),
        (refusal(vec![], only("a.l._weight_qdata", Dtype::U8, vec![1], vec![0])), "torchao"),
        (refusal(vec![], only("a.l.weight", Dtype::F8_E4M3, vec![2, 32], vec![0; 64])), "FP8"),
        (refusal(vec![], only("a.l.weight", Dtype::I8, vec![2, 32], vec![0; 64])), "INT8"),
        (refusal(vec![], only("a.l.weight", Dtype::U32, vec![2, 4], vec![0; 32])), "MLX"),
        (refusal(vec![], only("a.l.weight_packed", Dtype::I32, vec![2, 4], vec![0; 32])), "packed integer"),
        (
            refusal(compressed(), |t| {
                t.truncate(2);
                (t[1].1, t[1].2, t[1].3) = (Dtype::U8, vec![2, 1], vec![0; 2]);
            }),
            "MXFP4",
        ),
    ];
    for (error, name) in errors {
        assert!(matches!(error, Error::Format { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(name) && text.contains("not supported; what loads: F32, F16 and BF16"), "{text}");
    }
    for (config, name) in [
        (json!({"quantization_config": {"quant_method": "gptq"}}), "`gptq`"),
        (json!({"quantization_config": {"quant_method": "mxfp4"}}), "`mxfp4`"),
        (json!({"quantization_config": {"quant_method": "bitsandbytes"}}), "`bitsandbytes`"),
        (json!({"quantization_config": {"quant_method": "fp_quant"}}), "`fp_quant`"),
        (json!({"quantization_config": {"quant_method": "modelopt", "quant_algo": "W4A8_NVFP4_FP8"}}), "W4A8_NVFP4_FP8"),
        (json!({"quantization_config": {"quant_method": "modelopt", "quant_algo": "NVFP4_SVD"}}), "NVFP4_SVD"),
        (json!({"quantization_config": {"quant_algo": "FP8"}}), "`FP8`"),
        (
            json!({"quantization_config": {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION",
                   "quantized_layers": {"a.l": {"quant_algo": "NVFP4"}, "a.m": {"quant_algo": "FP8"}}}}),
            "`FP8` (of layer `a.m`)",
        ),
        (json!({"quantization_config": {"quant_method": "compressed-tensors", "transform_config": {"config_groups": {}}}}), "rotations"),
        (
            json!({"quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"g": {
                   "weights": {"num_bits": 4, "type": "float"}, "input_activations": {"num_bits": 8, "type": "float"}}}}}),
            "other activations",
        ),
        (
            json!({"quantization_config": {"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8, "type": "int"}}}),
            "kv_cache",
        ),
        (json!({"quantization_config": {"quant_method": "compressed-tensors", "quantization_status": "frozen"}}), "`frozen`"),
        (json!({"quantization": {"group_size": 16, "bits": 4, "mode": "nvfp4"}}), "MLX"),
        (json!({"quantization_config": {"group_size": 16, "bits": 4}}), "MLX"),
    ] {
        let error = open_with(&modelopt(), &config).1.unwrap_err();
        assert!(matches!(error, Error::Format { .. }) && error.to_string().contains(name), "{config}: {error}");
    }
}

#[test]
fn both_configuration_forms_are_read() {
    let scratch = Scratch::new();
    let old = json!({"producer": {"name": "modelopt", "version": "0.29.0"},
                     "quantization": {"quant_algo": "NVFP4", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}});
    put(&scratch.path("file"), &json!({}), &modelopt());
    fs::write(scratch.path("file/hf_quant_config.json"), old.to_string()).unwrap();
    put(&scratch.path("nested"), &json!({"quantization_config": old}), &modelopt());
    let new = json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8, "type": "float"},
                     "ignore": ["lm_head"], "producer": {"name": "modelopt", "version": "0.29.0"}});
    put(&scratch.path("new"), &json!({"quantization_config": new}), &modelopt());
    let read = |name: &str| Checkpoint::open(scratch.path(name)).unwrap().quantization().unwrap().clone();
    assert_eq!(read("file"), read("new"));
    assert_eq!(read("nested"), read("new"));
    assert_eq!(read("new").producer.as_deref(), Some("modelopt 0.29.0"));
}

#[test]
fn a_silent_configuration_leaves_the_word_to_the_tensors() {
    let renamed = |tensors: Tensors, drop: &str| -> Tensors {
        let layer = |name: &str| -> &'static str { Box::leak(name.replace("a.l.", "model.layers.0.l.").into_boxed_str()) };
        tensors.into_iter().filter(|t| !t.0.ends_with(drop)).map(|(n, d, s, b)| (layer(n), d, s, b)).collect()
    };
    for (tensors, dialect) in [(modelopt(), "modelopt"), (compressed(), "compressed-tensors")] {
        for (drop, activations) in [("nothing", ActivationScheme::Nvfp4), ("input_global_scale", ActivationScheme::Float)] {
            let drop = if dialect == "modelopt" { drop.replace("_global", "") } else { drop.to_owned() };
            let (_scratch, checkpoint) = open_with(&renamed(tensors.clone(), &drop), &json!({}));
            let checkpoint = checkpoint.unwrap();
            let quantization = checkpoint.quantization().unwrap();
            assert_eq!((quantization.dialect.name, quantization.activations), (dialect, activations));
        }
    }
}

#[test]
fn awq_factors_bias_and_scales_of_fused_parts_are_returned() {
    let mut tensors = modelopt();
    tensors[2] = ("a.l.weight_scale_2", Dtype::F32, vec![2], f32s(&[0.5, 2.0]));
    tensors.push(("a.l.pre_quant_scale", Dtype::F32, vec![32], f32s(&[1.5; 32])));
    tensors.push(("a.l.bias", Dtype::F32, vec![2], f32s(&[7.0, 8.0])));
    let (_scratch, checkpoint) = open_with(&tensors, &json!({}));
    let checkpoint = checkpoint.unwrap();
    let parts = checkpoint.linear_parts("a.l", &[1, 1], 32).unwrap();
    let row = |part: usize| {
        let mut row = vec![0.0; 32];
        parts[part].weight.row_to_f32(0, &mut row);
        row[1]
    };
    assert_eq!((row(0), row(1)), (0.5, 2.0));
    assert_eq!(parts[1].bias, Some(vec![8.0]));
    assert_eq!(parts[1].pre_quant_scale, Some(vec![1.5; 32]));
    assert_eq!(parts[0].input_scale, Some(0.25), "a scalar holds for every part");
    assert!(checkpoint.linear("a.l", 2, 32).unwrap_err().to_string().contains("has shape [2]"), "one part cannot have two scales");
}

#[test]
fn cache_scales_are_found_in_every_spelling() {
    let one = |values: &[(&'static str, f32)]| {
        let tensors: Tensors = values.iter().map(|&(name, x)| (name, Dtype::F32, vec![], f32s(&[x]))).collect();
        open_with(&tensors, &json!({})).1.unwrap().kv_scales("s").map(|s| s.map(|s| (s.k, s.v)))
    };
    assert_eq!(one(&[("s.k_proj.k_scale", 2.0), ("s.v_proj.v_scale", 3.0)]).unwrap(), Some((2.0, 3.0)));
    assert_eq!(one(&[("s.k_scale", 2.0), ("s.v_scale", 3.0)]).unwrap(), Some((2.0, 3.0)));
    assert_eq!(one(&[("s.kv_scale", 2.0)]).unwrap(), Some((2.0, 2.0)));
    assert_eq!(one(&[("other", 2.0)]).unwrap(), None);
    assert!(one(&[("s.k_scale", 2.0)]).unwrap_err().to_string().contains("`s.v_scale` is missing"));
    assert!(one(&[("s.kv_scale", 0.0)]).unwrap_err().to_string().contains("`s.kv_scale` is 0"));
}

/// A directory with `config.json` and the given weight files.
fn directory(files: &[(&str, &[u8])]) -> Scratch {
    let scratch = Scratch::new();
    fs::write(scratch.path("config.json"), "{}").unwrap();
    for (name, bytes) in files {
        fs::write(scratch.path(name), bytes).unwrap();
    }
    scratch
}

fn file(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

#[test]
fn an_index_is_not_trusted() {
    let shard = file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}"#, &[1]);
    let index = |map: &str| format!(r#"{{"weight_map": {map}}}"#);
    for (map, part) in [
        (r#"{"a": "../b.safetensors"}"#, "not a plain"),
        (r#"{"a": "/etc/b.safetensors"}"#, "not a plain"),
        (r#"{"a": "sub\\b.safetensors"}"#, "not a plain"),
        (r#"{"a": "passwd"}"#, "not a plain"),
        (r#"{"a": ""}"#, "not a plain"),
        (r#"{"a": "x\u0000.safetensors"}"#, "not a plain"),
        (r#"{"a": 3}"#, "no file name"),
        (r#"{"a": "absent.safetensors"}"#, "`absent.safetensors`, which is not in the directory"),
        (r#"{"a": "one.safetensors", "b": "one.safetensors"}"#, "places tensor `b` in `one.safetensors`, which lacks it"),
        ("[]", "no object `weight_map`"),
        ("{}", "names no weight file"),
    ] {
        let dir = directory(&[("one.safetensors", &shard), ("model.safetensors.index.json", index(map).as_bytes())]);
        let error = Checkpoint::open(dir.path("")).unwrap_err().to_string();
        assert!(error.contains(part), "{map}: {error}");
    }
    let twice = index(r#"{"a": "one.safetensors", "x": "two.safetensors"}"#);
    let other = file(r#"{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"x":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}}"#, &[1]);
    let dir = directory(&[("one.safetensors", &shard), ("two.safetensors", &other), ("model.safetensors.index.json", twice.as_bytes())]);
    let error = Checkpoint::open(dir.path("")).unwrap_err().to_string();
    assert!(error.contains("tensor `a` is also in"), "{error}");
    let good = index(r#"{"a": "one.safetensors"}"#);
    let dir = directory(&[("one.safetensors", &shard), ("stray.safetensors", &other), ("model.safetensors.index.json", good.as_bytes())]);
    assert_eq!(Checkpoint::open(dir.path("")).unwrap().names().collect::<Vec<_>>(), ["a"], "files beside the index do not count");
}

#[test]
fn directories_without_safetensors_say_what_they_hold() {
    for (name, part) in
        [("pytorch_model.bin", "a PyTorch pickle is not supported"), ("m.gguf", "GGUF is not supported"), ("x.txt", "holds no weights")]
    {
        let error = Checkpoint::open(directory(&[(name, b"x")]).path("")).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    for (config, part) in [("[]", "no JSON object"), ("{", "is not JSON"), (&"[".repeat(100_000), "is not JSON")] {
        let dir = directory(&[("config.json", config.as_bytes())]);
        assert!(Checkpoint::open(dir.path("")).unwrap_err().to_string().contains(part), "{config:.20}");
    }
}

#[cfg(unix)]
#[test]
fn pipes_directories_and_symlink_loops_are_not_weight_files() {
    use std::os::unix::fs::symlink;
    let dir = directory(&[]);
    fs::create_dir(dir.path("model.safetensors")).unwrap();
    assert!(Checkpoint::open(dir.path("")).unwrap_err().to_string().contains("not a regular file"));
    fs::remove_dir(dir.path("model.safetensors")).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(dir.path("model.safetensors")).status().unwrap().success());
    assert!(Checkpoint::open(dir.path("")).unwrap_err().to_string().contains("not a regular file"), "and does not wait for a writer");
    fs::remove_file(dir.path("model.safetensors")).unwrap();
    symlink("model.safetensors", dir.path("model.safetensors")).unwrap();
    assert!(Checkpoint::open(dir.path("")).is_err());
    fs::remove_file(dir.path("model.safetensors")).unwrap();
    symlink("config.json", dir.path("loop")).unwrap();
    fs::remove_file(dir.path("config.json")).unwrap();
    symlink("loop", dir.path("config.json")).unwrap();
    assert!(matches!(Checkpoint::open(dir.path("")).unwrap_err(), Error::Io { .. }));
    // A link to a file elsewhere is how the hub's cache stores files.
    let linked = Scratch::new();
    for name in ["config.json", "model.safetensors"] {
        symlink(crate::checkpoint::golden("bf16_source").join(name), linked.path(name)).unwrap();
    }
    assert_eq!(Checkpoint::open(linked.path("")).unwrap().names().count(), 25);
}

/// Opens `bytes` as a weight file and, if that works, reads everything in every way.
fn exercise(path: &Path, bytes: &[u8]) -> bool {
    fs::write(path, bytes).unwrap();
    let Ok(checkpoint) = Checkpoint::open(path) else { return false };
    let report = inspect(&checkpoint);
    assert!(report["tensor_bytes"].as_u64().unwrap() <= bytes.len() as u64);
    for name in checkpoint.names() {
        let shape = checkpoint.shape(name).unwrap().to_vec();
        let _ = (checkpoint.bytes(name).unwrap(), checkpoint.elements(name), checkpoint.vector_f32(name, *shape.first().unwrap_or(&1)));
        if let [rows, cols] = shape[..] {
            let _ = checkpoint.matrix(name, rows, cols);
            if let Some((prefix, _)) = name.rsplit_once('.') {
                let _ = (checkpoint.linear(prefix, rows, cols.saturating_mul(2)), checkpoint.linear(prefix, rows, cols));
                let _ = checkpoint.kv_scales(prefix);
            }
        }
    }
    true
}

fn small_file() -> (Scratch, PathBuf, Vec<u8>) {
    let scratch = Scratch::new();
    put(&scratch.path("m"), &json!({}), &modelopt());
    let path = scratch.path("m/model.safetensors");
    let bytes = fs::read(&path).unwrap();
    (scratch, path, bytes)
}

#[test]
fn a_file_cut_at_any_length_is_refused() {
    let (_scratch, path, bytes) = small_file();
    assert!(exercise(&path, &bytes));
    for length in 0..bytes.len() {
        assert!(!exercise(&path, &bytes[..length]), "cut to {length} of {}", bytes.len());
    }
    assert!(!exercise(&path, &[&bytes[..], &[0]].concat()), "and so is one with a byte too many");
}

#[test]
fn every_single_byte_of_the_header_may_change() {
    let (_scratch, path, bytes) = small_file();
    let header = 8 + usize::from(bytes[0]) + 256 * usize::from(bytes[1]);
    for at in 0..header {
        for value in [0, b'"', b'9', 0xFF, bytes[at] ^ 1] {
            let mut changed = bytes.clone();
            changed[at] = value;
            exercise(&path, &changed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let dir = directory(&[]);
        prop_assert!(!exercise(&dir.path("model.safetensors"), &bytes));
    }

    #[test]
    fn random_headers_never_panic(
        entries in prop::collection::vec((
            prop::sample::select(vec!["weight", "weight_scale", "weight_scale_2", "weight_packed", "input_scale", "bias", "k_scale", "v_scale"]),
            prop::sample::select(vec!["F32", "BF16", "U8", "F8_E4M3", "F4", "I64", "nonsense"]),
            prop::collection::vec(prop_oneof![0..20usize, Just(usize::MAX), Just(1 << 40)], 0..4),
            (any::<u64>(), any::<bool>()),
        ), 0..6),
        data in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        // Mostly well-placed tensors, so that some files open and reading goes on.
        let mut begin = 0usize;
        let mut header = serde_json::Map::new();
        for (suffix, dtype, shape, (wild, honest)) in entries {
            let width = match dtype { "F32" => 4, "BF16" => 2, "I64" => 8, _ => 1 };
            let length = shape.iter().try_fold(width, |n: usize, &e| n.checked_mul(e)).unwrap_or(0);
            let end = if honest { begin.saturating_add(length) } else { wild as usize };
            header.insert(format!("lm_head.{suffix}"), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}));
            begin = end;
        }
        let data: Vec<u8> = data.into_iter().cycle().take(if begin < 100_000 { begin } else { 10 }).collect();
        let dir = directory(&[]);
        exercise(&dir.path("model.safetensors"), &file(&Value::Object(header).to_string(), &data));
    }

    #[test]
    fn random_configurations_never_panic(
        key in prop::sample::select(vec!["quant_algo", "quant_method", "config_groups", "ignore", "kv_cache_scheme", "quantized_layers", "producer", "format"]),
        value in prop::sample::select(vec!["null", "3", "\"NVFP4\"", "\"MIXED_PRECISION\"", "[]", "[[1]]", "{\"a\": 1}", "{\"a\": {\"weights\": 3}}"]),
        method in prop::sample::select(vec!["modelopt", "compressed-tensors"]),
    ) {
        let config = format!(r#"{{"quantization_config": {{"quant_method": "{method}", "quant_algo": "NVFP4", "{key}": {value}}}}}"#);
        let dir = directory(&[("config.json", config.as_bytes()), ("model.safetensors", &file("{}", &[]))]);
        let _ = Checkpoint::open(dir.path("")).map(|c| inspect(&c));
    }
}
