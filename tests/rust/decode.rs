//! The whole decoder on real checkpoints, and the independence of a sequence from its company.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reset::backend::KvFormat;
use reset::backend::cpu::Cpu;
use reset::checkpoint::Checkpoint;
use reset::decode::{Decoder, Model};
use reset::pipeline::load::LoadOptions;

/// The folder with models and vectors that may lie next to the project.
fn shared(path: &str) -> Option<PathBuf> {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared").join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("skipped: {} is not there", found.display());
    None
}

fn load(dir: &Path, options: &LoadOptions, threads: usize) -> Arc<Model> {
    let checkpoint = Checkpoint::open(dir).expect("a checkpoint");
    Arc::new(Model::load(&checkpoint, options, Cpu::best(Some(threads))).expect("a model"))
}

fn argmax(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (id, &x) in logits.iter().enumerate() {
        if x > logits[best] {
            best = id;
        }
    }
    best as u32
}

fn entropy(logits: &[f32]) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut z, mut w) = (0.0, 0.0);
    for &x in logits {
        let d = f64::from(x - max);
        z += d.exp();
        w += d * d.exp();
    }
    z.ln() - w / z
}

fn exact() -> LoadOptions {
    LoadOptions { kv: Some(KvFormat::F32), ..LoadOptions::default() }
}

#[test]
fn stories260k_reproduces_its_200_greedy_ids_and_entropies() {
    let Some(dir) = shared("models/stories260K") else { return };
    let text = std::fs::read_to_string(dir.join("greedy_reference.json")).expect("the reference");
    let reference: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let ids: Vec<u32> = reference["greedy_ids"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect();
    let entropies: Vec<f64> = reference["entropy_nats"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    let mut decoder = Decoder::new(load(&dir, &exact(), 2));
    let sequence = decoder.prefill(&ids[..1]).unwrap();
    for (step, (&id, &expected)) in ids[1..].iter().zip(&entropies).enumerate() {
        assert_eq!(argmax(decoder.logits(0)), id, "step {step}");
        let found = entropy(decoder.logits(0));
        // Logits of a few tens, each a chain of some 10³ f32 roundings: 1e-5 relative, so 1e-4 in an entropy.
        assert!((found - expected).abs() < 1e-4, "step {step}: {found} {expected}");
        decoder.decode(&[(sequence, id)]).unwrap();
    }
}

/// A tensor file: name → (shape, bytes).
fn tensors(path: &Path) -> std::collections::BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let bytes = std::fs::read(path).expect("a golden file");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    file.tensors().into_iter().map(|(name, t)| (name, (t.shape().to_vec(), t.data().to_vec()))).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
}

fn ids(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<8>().0.iter().map(|&b| i64::from_le_bytes(b) as u32).collect()
}

/// ‖found − expected‖ / ‖expected‖ over all logits.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |x: f64| x * x;
    let difference: f64 = found.iter().zip(expected).map(|(&a, &b)| square(f64::from(a) - f64::from(b))).sum();
    (difference / expected.iter().map(|&b| square(f64::from(b))).sum::<f64>()).sqrt()
}

fn greedy(model: &Arc<Model>, prompt: &[u32], count: usize) -> Vec<u32> {
    let mut decoder = Decoder::new(Arc::clone(model));
    let sequence = decoder.prefill(prompt).unwrap();
    (0..count)
        .map(|_| {
            let token = argmax(decoder.logits(0));
            decoder.decode(&[(sequence, token)]).unwrap();
            token
        })
        .collect()
}

const MODELS: [&str; 8] =
    ["llama_linear", "llama_llama3", "llama_yarn", "qwen2_r1", "qwen2_window", "qwen2_yarn", "qwen3_odd", "qwen3_tied"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/models").join(name)
}

#[test]
fn logits_and_greedy_tokens_equal_transformers() {
    for name in MODELS {
        let reference = tensors(&golden(name).join("reference.golden"));
        let (prompt, expected) = (ids(&reference["input_ids"].1), floats(&reference["logits"].1));
        // f32 throughout: both sides round at 2⁻²⁴, through some hundred operations in sequence. A bf16 cache rounds keys and
        // values by up to 2⁻⁹ = 2e-3 each, and sharp random attention passes that on amplified a few times.
        for (kv, bound) in [(KvFormat::F32, 1e-5), (KvFormat::Bf16, 1e-2)] {
            let model = load(&golden(name), &LoadOptions { kv: Some(kv), ..LoadOptions::default() }, 2);
            let error = relative_error(&model.logits(&prompt).unwrap(), &expected);
            println!("{name} kv {}: {error:.1e}", kv.name());
            assert!(error < bound, "{name} kv {}: {error}", kv.name());
            assert_eq!(greedy(&model, &prompt, 24), ids(&reference["greedy_ids"].1), "{name} kv {}", kv.name());
        }
    }
}
