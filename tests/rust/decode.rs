//! The whole decoder on real checkpoints, and the independence of a sequence from its company.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reset::backend::KvFormat;
use reset::backend::cpu::Cpu;
use reset::checkpoint::Checkpoint;
use reset::decode::{Decoder, Model};
use reset::model::{self, Format};
use reset::pipeline::load::{Activations, Calibration, LoadOptions};
use reset::simd;

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

/// Loads `vectors/checkpoints/<name>` and compares its logits with `reference`.
fn error_against(dir: &Path, options: &LoadOptions, prompt: &[u32], expected: &[f32]) -> f64 {
    relative_error(&load(dir, options, 2).logits(prompt).expect("logits"), expected)
}

fn with_activations(activations: Activations) -> LoadOptions {
    LoadOptions { activations, ..exact() }
}

#[test]
fn nvfp4_checkpoints_with_float_activations_equal_the_dequantized_model() {
    let Some(dir) = shared("vectors/checkpoints") else { return };
    let reference = tensors(&dir.join("reference_logits.safetensors"));
    let prompt = ids(&reference["input_ids"].1);
    let logits = |name: &str| floats(&reference[name].1);
    for (name, expected, activations) in [
        ("bf16_source", "bf16src.logits_f32", Activations::Auto),
        ("modelopt_nvfp4", "modelopt_nvfp4.w4a16_f32.logits", Activations::Float),
        // The same weights, whatever is said about activations and cache.
        ("modelopt_nvfp4_default_fp8_kv", "modelopt_nvfp4.w4a16_f32.logits", Activations::Float),
        ("modelopt_nvfp4_default_nvfp4_kv", "modelopt_nvfp4.w4a16_f32.logits", Activations::Float),
        ("modelopt_w4a16_nvfp4", "modelopt_nvfp4.w4a16_f32.logits", Activations::Auto),
        ("ct_nvfp4", "ct_nvfp4.w4a16_f32.logits", Activations::Float),
        ("ct_nvfp4_kvfp8", "ct_nvfp4.w4a16_f32.logits", Activations::Float),
        ("ct_nvfp4a16", "ct_nvfp4a16.w4a16_f32.logits", Activations::Auto),
    ] {
        let error = error_against(&dir.join(name), &with_activations(activations), &prompt, &logits(expected));
        println!("{name}: {error:.1e}");
        // f32 on both sides, 2⁻²⁴ = 6e-8 each, some hundred roundings in sequence.
        assert!(error < 1e-5, "{name}: {error}");
    }
}

#[test]
fn quantized_activations_equal_the_emulation() {
    let Some(dir) = shared("vectors/checkpoints") else { return };
    let reference = tensors(&dir.join("reference_logits_w4a4.safetensors"));
    let prompt = ids(&reference["input_ids"].1);
    let expected = floats(&reference["modelopt_nvfp4.w4a4_vllm_emulation_f32.logits"].1);
    let error = error_against(&dir.join("modelopt_nvfp4"), &exact(), &prompt, &expected);
    println!("w4a4: {error:.1e}");
    // The quantizers agree bit for bit on equal inputs. Inputs differ by f32 rounding (some 1e-7 relative); where one lies that
    // close to a rounding boundary, its code moves by one step: 1e-7 / (1/6 relative spacing) of 16 · 1,300 codes per layer
    // are a few 1e-3 codes in all, so most likely none moves. One moved code is a quarter of one element of one of 16 positions:
    // up to about 1e-2 of that position's logits, 3e-3 of all.
    assert!(error < 3e-3, "{error}");
}

#[test]
fn quantized_caches_stay_near_the_float_cache() {
    let Some(dir) = shared("vectors/checkpoints") else { return };
    let reference = tensors(&dir.join("reference_logits.safetensors"));
    let prompt = ids(&reference["input_ids"].1);
    let expected = floats(&reference["modelopt_nvfp4.w4a16_f32.logits"].1);
    for (name, kv, from, bound) in [
        // Keys and values are off by at most half a step: 2⁻⁹ relative for bf16, 2⁻⁴ for E4M3, a sixth of a block's largest (and 2⁻⁴ of it
        // for the scale) for E2M1. Attention averages values, scores add the errors of 16 products with random signs, two layers follow
        // each other: about one such half step in the end, and twice that as the bound.
        ("modelopt_nvfp4", "bf16", "", 2.0 / 512.0),
        ("modelopt_nvfp4_default_fp8_kv", "fp8", "checkpoint", 2.0 / 16.0),
        ("modelopt_nvfp4_default_nvfp4_kv", "nvfp4", "checkpoint", 2.0 * (1.0 / 6.0 + 1.0 / 16.0)),
    ] {
        let model = load(&dir.join(name), &LoadOptions { activations: Activations::Float, ..LoadOptions::default() }, 2);
        assert_eq!((model.report.kv, model.report.kv_scales), (kv, from));
        let error = relative_error(&model.logits(&prompt).unwrap(), &expected);
        println!("{name}: {error:.1e}");
        assert!(error < bound && error > 1e-6, "{name}: {error}");
    }
}

#[test]
fn quantizing_while_loading_equals_the_exporter() {
    let Some(dir) = shared("vectors/checkpoints") else { return };
    let reference = tensors(&dir.join("reference_logits.safetensors"));
    let prompt = ids(&reference["input_ids"].1);
    let expected = floats(&reference["modelopt_nvfp4.w4a16_f32.logits"].1);
    let weights = model::LoadOptions { weights: Format::Nvfp4, ..model::LoadOptions::default() };
    let model = load(&dir.join("bf16_source"), &LoadOptions { weights, ..exact() }, 2);
    assert_eq!((model.report.weights, model.report.lm_head, model.report.activations), ("nvfp4", "bf16", "float"));
    let found = model.logits(&prompt).unwrap();
    let stored = load(&dir.join("modelopt_nvfp4"), &with_activations(Activations::Float), 2);
    assert_eq!(found, stored.logits(&prompt).unwrap());
    assert!(relative_error(&found, &expected) < 1e-5);
}

#[test]
fn measured_scales_are_near_the_exporters() {
    let Some(dir) = shared("vectors/checkpoints") else { return };
    let reference = tensors(&dir.join("reference_logits_w4a4.safetensors"));
    let prompt = ids(&reference["input_ids"].1);
    let expected = floats(&reference["modelopt_nvfp4.w4a4_vllm_emulation_f32.logits"].1);
    for calibration in [Calibration::Random, Calibration::Texts(vec![prompt.clone()]), Calibration::Dynamic] {
        let shown = if calibration == Calibration::Dynamic { "dynamic" } else { "measured" };
        let weights = model::LoadOptions { weights: Format::Nvfp4, ..model::LoadOptions::default() };
        let options = LoadOptions { weights, activations: Activations::Nvfp4, calibration, ..exact() };
        let model = load(&dir.join("bf16_source"), &options, 2);
        assert_eq!((model.report.activations, model.report.calibration), ("nvfp4", shown));
        let error = relative_error(&model.logits(&prompt).unwrap(), &expected);
        println!("{shown}: {error:.1e}");
        // Another tensor scale rounds every block scale, and so every code, anew: as large as the effect of W4A4 itself on flat logits.
        assert!(error < 0.3, "{shown}: {error}");
    }
}

#[test]
fn measured_magnitudes_equal_those_of_transformers() {
    for name in MODELS {
        let reference = tensors(&golden(name).join("reference.golden"));
        let model = load(&golden(name), &exact(), 2);
        let measured = model.measure(&[ids(&reference["input_ids"].1)]).unwrap();
        assert_eq!(measured.inputs.len(), 7 * 2 + 1, "{name}");
        for (layer, &found) in &measured.inputs {
            let expected = floats(&reference[&format!("amax.{layer}")].1)[0];
            // Of the head, the last row of each chunk of 64 is measured: it is no more than the whole.
            let near = (found - expected).abs() <= 1e-4 * expected;
            assert!(near || layer == "lm_head" && found < expected, "{name} {layer}: {found} {expected}");
        }
        // transformers forgets keys outside a window, so its maximum is over fewer.
        for (layer, found) in measured.kv.iter().enumerate().filter(|(layer, _)| model.spec.windows[*layer].is_none()) {
            let expected = floats(&reference[&format!("amax.kv.{layer}")].1);
            assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() <= 1e-4 * e), "{name} {layer}: {found:?} {expected:?}");
        }
    }
}

#[test]
fn activations_beyond_what_the_weights_allow_are_refused() {
    let checkpoint = Checkpoint::open(golden("qwen3_tied")).unwrap();
    let options = with_activations(Activations::Nvfp4);
    let message = Model::load(&checkpoint, &options, Cpu::best(Some(1))).unwrap_err().to_string();
    assert!(message.contains("weights=\"nvfp4\""), "{message}");
}

#[test]
fn every_storage_of_weights_runs_and_keeps_odd_layers() {
    for name in ["qwen3_odd", "qwen3_tied", "llama_linear"] {
        let reference = tensors(&golden(name).join("reference.golden"));
        let (prompt, expected) = (ids(&reference["input_ids"].1), floats(&reference["logits"].1));
        for (weights, lm_head) in
            [(Format::Bf16, Format::Auto), (Format::Nvfp4, Format::Auto), (Format::Auto, Format::Nvfp4), (Format::Nvfp4, Format::Nvfp4)]
        {
            let options = LoadOptions { weights: model::LoadOptions { weights, lm_head, ..model::LoadOptions::default() }, ..exact() };
            let model = load(&golden(name), &options, 2);
            let error = relative_error(&model.logits(&prompt).unwrap(), &expected);
            println!("{name} {weights:?} {lm_head:?}: {error:.2} {:?}", model.report);
            // bf16 rounds f16 weights at 2⁻⁹; NVFP4 errs by some 10 % of a weight, more after two random layers.
            assert!(error < if weights == Format::Bf16 { 0.02 } else { 0.7 }, "{name} {weights:?} {lm_head:?}: {error}");
            let odd = !model.spec.hidden_size.is_multiple_of(16);
            let expected = if odd { 14 * usize::from(weights == Format::Nvfp4) + usize::from(lm_head == Format::Nvfp4) } else { 0 };
            assert_eq!(model.report.unquantized.len(), expected, "{name} {:?}", model.report.unquantized);
            // A head stored otherwise than the embedding leaves the embedding where it was.
            let own_embedding = !model.spec.tied || (lm_head == Format::Nvfp4 && !odd);
            assert_eq!(model.weights.embedding.is_some(), own_embedding, "{name} {lm_head:?}");
        }
    }
}

#[test]
fn stories260k_runs_quantized() {
    let Some(dir) = shared("models/stories260K") else { return };
    let text = std::fs::read_to_string(dir.join("greedy_reference.json")).expect("the reference");
    let reference: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let ids: Vec<u32> = reference["greedy_ids"].as_array().unwrap().iter().map(|x| x.as_u64().unwrap() as u32).collect();
    let float = load(&dir, &exact(), 2).logits(&ids).unwrap();
    let weights = model::LoadOptions { weights: Format::Nvfp4, ..model::LoadOptions::default() };
    for (activations, bound) in [(Activations::Float, 0.25), (Activations::Nvfp4, 0.4)] {
        let model = load(&dir, &LoadOptions { weights, activations, ..exact() }, 2);
        let down = |layer| format!("model.layers.{layer}.mlp.down_proj");
        assert_eq!(model.report.unquantized, (0..5).map(down).collect::<Vec<_>>());
        let error = relative_error(&model.logits(&ids).unwrap(), &float);
        println!("{activations:?}: {error:.3}");
        assert!(error > 1e-3 && error < bound, "{activations:?}: {error}");
    }
}

/// Logits of one sequence while it decodes `tokens` after `prompt`, with `company` others that join and leave.
fn alone_or_not(model: &Arc<Model>, prompt: &[u32], tokens: &[u32], company: usize) -> Vec<Vec<f32>> {
    let mut decoder = Decoder::new(Arc::clone(model));
    let others: Vec<_> = (0..company).map(|i| decoder.prefill(&prompt[i % 5..=i % 7 + 6]).unwrap()).collect();
    let sequence = decoder.prefill(prompt).unwrap();
    let mut all = vec![decoder.logits(0).to_vec()];
    for (step, &token) in tokens.iter().enumerate() {
        let mut steps: Vec<_> = others.iter().skip(step % 3).map(|&id| (id, (step * 7 % 60) as u32)).collect();
        let row = steps.len() * step / tokens.len();
        steps.insert(row, (sequence, token));
        decoder.decode(&steps).unwrap();
        all.push(decoder.logits(row).to_vec());
    }
    all
}

#[test]
fn logits_depend_neither_on_threads_nor_on_company() {
    let formats = [KvFormat::F32, KvFormat::Bf16, KvFormat::Fp8, KvFormat::Nvfp4];
    for (kv, activations) in formats.into_iter().zip([Activations::Float, Activations::Nvfp4, Activations::Nvfp4, Activations::Float]) {
        let weights = model::LoadOptions { weights: Format::Nvfp4, lm_head: Format::Nvfp4, ..model::LoadOptions::default() };
        let options = LoadOptions { weights, activations, kv: Some(kv), calibration: Calibration::Random };
        let prompt: Vec<u32> = (0..70).map(|i| i * 11 % 80).collect();
        let tokens: Vec<u32> = (0..40).map(|i| i * 17 % 80).collect();
        let expected = alone_or_not(&load(&golden("qwen3_tied"), &options, 1), &prompt, &tokens, 0);
        for (threads, company) in [(2, 0), (3, 1), (3, 4), (1, 16), (2, 19), (2, 140)] {
            let model = load(&golden("qwen3_tied"), &options, threads);
            assert!(alone_or_not(&model, &prompt, &tokens, company) == expected, "{kv:?}, {threads} threads, {company} others");
        }
    }
}

#[test]
fn prefill_decode_and_whole_passes_agree() {
    let model = load(&golden("llama_yarn"), &LoadOptions::default(), 2);
    let ids: Vec<u32> = (0..150).map(|i| i * 13 % 80).collect();
    let all = model.logits(&ids).unwrap();
    let row = |i: usize| &all[i * 80..(i + 1) * 80];
    let mut decoder = Decoder::new(Arc::clone(&model));
    let sequence = decoder.prefill(&ids[..70]).unwrap();
    assert_eq!(decoder.logits(0), row(69));
    for (i, &id) in ids.iter().enumerate().skip(70).take(10) {
        decoder.decode(&[(sequence, id)]).unwrap();
        assert_eq!(decoder.logits(0), row(i));
    }
    let copy = decoder.fork(sequence).unwrap();
    decoder.extend(copy, &ids[80..]).unwrap();
    assert_eq!(decoder.logits(0), row(149));
    decoder.decode(&[(sequence, ids[80])]).unwrap();
    assert_eq!(decoder.logits(0), row(80));
    assert_eq!((decoder.length(sequence).unwrap(), decoder.length(copy).unwrap()), (81, 150));
}

#[test]
fn every_table_gives_the_same_float_logits() {
    let prompt: Vec<u32> = (0..20).map(|i| i * 11 % 77).collect();
    let checkpoint = Checkpoint::open(golden("qwen3_odd")).unwrap();
    let logits = |table| Model::load(&checkpoint, &exact(), Cpu::new(Some(2), table)).unwrap().logits(&prompt).unwrap();
    let expected = logits(simd::scalar());
    for table in simd::available() {
        assert!(relative_error(&logits(table), &expected) < 1e-5, "{}", table.name);
    }
}

#[test]
fn wrong_tokens_and_sequences_are_refused() {
    let model = load(&golden("qwen3_tied"), &LoadOptions::default(), 1);
    let mut decoder = Decoder::new(Arc::clone(&model));
    let message = |result: reset::Result<()>| result.unwrap_err().to_string();
    assert!(message(model.logits(&[]).map(|_| ())).contains("at least one token"));
    assert!(message(model.logits(&[1, 80]).map(|_| ())).contains("80 at index 1"));
    assert!(message(model.logits(&[1; 257]).map(|_| ())).contains("256"));
    let sequence = decoder.prefill(&[1; 256]).unwrap();
    assert!(message(decoder.decode(&[(sequence, 1)])).contains("256"));
    decoder.remove(sequence);
    assert!(message(decoder.decode(&[(sequence, 1)])).contains("removed"));
    let next = decoder.prefill(&[5, 6]).unwrap();
    assert_ne!(next, sequence);
    assert!(message(decoder.decode(&[(next, 1), (next, 2)])).contains("twice"));
    assert!(message(decoder.decode(&[(next, 99)])).contains("99"));
    decoder.decode(&[(next, 1)]).unwrap();
}
