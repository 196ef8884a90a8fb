//! Reading checkpoints: what the real exporters write, and what an attacker might.

use std::fs;
use std::path::{Path, PathBuf};

use half::bf16;
use reset::checkpoint::{ActivationScheme, Checkpoint, KvCacheScheme};
use reset::nvfp4::TensorScale;
use reset::tensor::{Matrix, Storage};

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoints").join(name)
}

fn open(name: &str) -> Checkpoint {
    Checkpoint::open(golden(name)).unwrap()
}

const MODELOPT: [&str; 5] = [
    "modelopt_nvfp4",
    "modelopt_nvfp4_default_fp8_kv",
    "modelopt_nvfp4_default_nvfp4_kv",
    "modelopt_nvfp4_mlp_only",
    "modelopt_w4a16_nvfp4",
];
const COMPRESSED_TENSORS: [&str; 3] = ["ct_nvfp4", "ct_nvfp4a16", "ct_nvfp4_kvfp8"];

#[test]
fn every_golden_is_understood() {
    for (names, dialect) in [(&MODELOPT[..], "modelopt"), (&COMPRESSED_TENSORS[..], "compressed-tensors")] {
        for name in names {
            let checkpoint = open(name);
            let quantization = checkpoint.quantization().unwrap();
            assert_eq!(quantization.dialect.name, dialect, "{name}");
            let float = name.contains("a16");
            assert_eq!(quantization.activations, if float { ActivationScheme::Float } else { ActivationScheme::Nvfp4 }, "{name}");
            assert_eq!(quantization.ignore[0], "lm_head", "{name}");
            let kv = match *name {
                "modelopt_nvfp4_default_fp8_kv" | "ct_nvfp4_kvfp8" => Some(KvCacheScheme::Fp8),
                "modelopt_nvfp4_default_nvfp4_kv" => Some(KvCacheScheme::Nvfp4),
                _ => None,
            };
            assert_eq!(checkpoint.kv_cache_scheme(), kv, "{name}");
            for layer in 0..2 {
                let prefix = format!("model.layers.{layer}.self_attn");
                let scales = checkpoint.kv_scales(&prefix).unwrap();
                assert_eq!(scales.is_some(), kv.is_some(), "{name}");
                assert!(scales.is_none_or(|s| s.k > 0.0 && s.v > 0.0));
                for (projection, rows, cols) in
                    [("self_attn.q_proj", 64, 64), ("self_attn.k_proj", 32, 64), ("mlp.gate_proj", 128, 64), ("mlp.down_proj", 64, 128)]
                {
                    let linear = checkpoint.linear(&format!("model.layers.{layer}.{projection}"), rows, cols).unwrap();
                    let dense = name.ends_with("mlp_only") && projection.starts_with("self_attn");
                    assert_eq!(linear.weight.format(), if dense { "bf16" } else { "nvfp4" }, "{name} {projection}");
                    assert_eq!(linear.input_scale.is_some(), !float && !dense, "{name} {projection}");
                    assert_eq!((linear.weight.rows(), linear.weight.cols()), (rows, cols));
                }
            }
            assert!(matches!(checkpoint.linear("lm_head", 256, 64).unwrap().weight, Matrix::Bf16(_)));
        }
    }
}

#[test]
fn quantized_weights_are_near_the_source_in_both_dialects() {
    let source = open("bf16_source");
    for name in MODELOPT.iter().chain(&COMPRESSED_TENSORS) {
        let quantized = open(name).linear("model.layers.1.mlp.down_proj", 64, 128).unwrap().weight;
        let original = source.matrix("model.layers.1.mlp.down_proj.weight", 64, 128).unwrap();
        let (mut error, mut power) = (0.0f64, 0.0f64);
        let (mut a, mut b) = (vec![0.0; 128], vec![0.0; 128]);
        for row in 0..64 {
            quantized.row_to_f32(row, &mut a);
            original.row_to_f32(row, &mut b);
            error += a.iter().zip(&b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
            power += b.iter().map(|b| f64::from(*b).powi(2)).sum::<f64>();
        }
        assert!(error / power < 0.012, "{name}: {}", error / power);
    }
}

#[test]
fn a_divisor_stays_a_divisor() {
    let Matrix::Nvfp4(matrix) = open("ct_nvfp4").linear("model.layers.0.mlp.down_proj", 64, 128).unwrap().weight else { panic!() };
    assert!(matches!(matrix.tensor_scale(), TensorScale::Divisor(d) if d > 1000.0));
    let Matrix::Nvfp4(matrix) = open("modelopt_nvfp4").linear("model.layers.0.mlp.down_proj", 64, 128).unwrap().weight else { panic!() };
    assert!(matches!(matrix.tensor_scale(), TensorScale::Multiplier(s) if s < 0.001));
}

#[test]
fn dense_tensors_keep_their_type_and_vectors_widen() {
    let checkpoint = open("bf16_source");
    assert!(checkpoint.quantization().is_none());
    let Matrix::Bf16(embedding) = checkpoint.matrix("model.embed_tokens.weight", 256, 64).unwrap() else { panic!() };
    let raw = checkpoint.bytes("model.embed_tokens.weight").unwrap();
    assert_eq!(embedding.data[5], bf16::from_le_bytes([raw[10], raw[11]]));
    let norm = checkpoint.vector_f32("model.norm.weight", 64).unwrap();
    assert!(norm.iter().all(|x| (0.4..1.6).contains(x)));
    assert_eq!(checkpoint.shape("lm_head.weight"), Some(&[256, 64][..]));
    assert_eq!(checkpoint.config()["model_type"], "qwen3");
    assert!(checkpoint.generation_config().is_some());
}

#[test]
fn dense_weights_are_read_where_they_lie_if_they_are_aligned() {
    const NAME: &str = "model.embed_tokens.weight";
    let aligned = open("bf16_source");
    let Matrix::Bf16(expected) = aligned.matrix(NAME, 256, 64).unwrap() else { panic!() };
    assert!(matches!(expected.data, Storage::Shared(_)));
    assert_eq!(expected.data.as_ptr().cast(), aligned.bytes(NAME).unwrap().as_ptr());

    // The same file with one blank more behind its header.
    let shifted = tempfile::tempdir().unwrap();
    let source = golden("bf16_source");
    fs::copy(source.join("config.json"), shifted.path().join("config.json")).unwrap();
    let file = fs::read(source.join("model.safetensors")).unwrap();
    let header = u64::from_le_bytes(file[..8].try_into().unwrap());
    let (json, data) = file[8..].split_at(usize::try_from(header).unwrap());
    fs::write(shifted.path().join("model.safetensors"), [&(header + 1).to_le_bytes(), json, b" ", data].concat()).unwrap();
    let shifted = Checkpoint::open(shifted.path()).unwrap();
    let Matrix::Bf16(copied) = shifted.matrix(NAME, 256, 64).unwrap() else { panic!() };
    assert!(matches!(copied.data, Storage::Owned(_)));
    assert_eq!(copied, expected);

    let Matrix::Bf16(part) = aligned.dense_rows(NAME, 3, 2, 64).unwrap() else { panic!() };
    drop(aligned); // the file stays mapped for who reads it
    assert_eq!(part.data[..], expected.data[3 * 64..5 * 64]);
}

#[test]
fn a_file_in_the_directory_opens_the_directory() {
    let by_file = Checkpoint::open(golden("ct_nvfp4").join("model.safetensors")).unwrap();
    assert!(by_file.contains("lm_head.weight"));
    assert_eq!(by_file.dir(), golden("ct_nvfp4"));
}

#[test]
fn wrong_names_and_shapes_are_named() {
    let checkpoint = open("modelopt_nvfp4");
    for (error, parts) in [
        (checkpoint.vector_f32("model.norm.weight", 63).unwrap_err(), ["`model.norm.weight`", "[63]"]),
        (checkpoint.matrix("nothing", 1, 1).unwrap_err(), ["`nothing`", "missing"]),
        (checkpoint.linear("model.layers.7.mlp.up_proj", 1, 1).unwrap_err(), ["`model.layers.7.mlp.up_proj.weight`", "missing"]),
        (checkpoint.linear("model.layers.0.mlp.up_proj", 128, 128).unwrap_err(), ["[128, 32]", "[128, 64]"]),
        (checkpoint.linear("model.layers.0.mlp.up_proj", 128, 72).unwrap_err(), ["72 columns", "16"]),
        (checkpoint.matrix("model.layers.0.mlp.up_proj.weight", 128, 32).unwrap_err(), ["U8", "not supported"]),
        (Checkpoint::open(golden("absent")).unwrap_err(), ["absent", "No such file"]),
        (Checkpoint::open(golden("")).unwrap_err(), ["config.json", "save_pretrained"]),
    ] {
        let text = error.to_string();
        assert!(parts.iter().all(|part| text.contains(part)), "{text} lacks {parts:?}");
    }
}

#[test]
fn inspect_tells_formats_reasons_and_sizes() {
    let report = reset::checkpoint::inspect(&open("modelopt_nvfp4_mlp_only"));
    assert_eq!(report["architecture"], "Qwen3ForCausalLM");
    assert_eq!(report["sizes"]["hidden_size"], 64);
    assert_eq!(report["tied_embeddings"], false);
    assert_eq!(report["quantization"]["dialect"], "modelopt");
    assert_eq!((report["layers"]["nvfp4"].as_u64(), report["layers"]["plain"].as_u64()), (Some(6), Some(9)));
    let linear = report["layers"]["linear"].as_array().unwrap();
    let find = |name: &str| linear.iter().find(|l| l["name"] == name).unwrap();
    assert_eq!(find("lm_head")["reason"], "left alone by the checkpoint (`lm_head`)");
    assert_eq!(find("model.layers.1.self_attn.q_proj")["reason"], "left alone by the checkpoint (`model.layers.1.self_attn*`)");
    assert!(find("model.layers.1.mlp.down_proj")["reason"].is_null());
    assert_eq!(find("model.layers.1.mlp.down_proj")["cols"], 128);
    let groups = report["layers"]["groups"].as_array().unwrap();
    let down = groups.iter().find(|g| g["pattern"] == "model.layers.*.mlp.down_proj").unwrap();
    assert_eq!((&down["count"], &down["input_scales"]), (&2.into(), &2.into()));
    let (dense, packed) = (reset::checkpoint::inspect(&open("bf16_source")), reset::checkpoint::inspect(&open("modelopt_nvfp4")));
    assert_eq!(dense["parameters"], packed["parameters"], "codes count as the weights they stand for");
    assert_eq!(dense["bits_per_weight"], 16.0);
    assert!(dense["quantization"].is_null());
    assert_eq!(packed["dtypes"]["U8"]["tensors"], 14);
    assert_eq!(reset::checkpoint::inspect(&open("ct_nvfp4_kvfp8"))["kv_scales"], 2);
}
