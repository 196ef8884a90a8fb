//! A checkpoint of floats becomes an NVFP4 checkpoint of either dialect, layer by layer from disk to disk.
//!
//! ```text
//! plan → names, types and shapes of all tensors → files laid out → per group of layers that share a tensor scale:
//! largest magnitude, then quantize and write each → other tensors copied → configuration, tokenizer, rename
//! ```
//!
//! Weights are read where the file is mapped and written where they belong, so memory holds one quantized layer at most.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use safetensors::Dtype;

use crate::checkpoint::dialect::{Content, Dialect};
use crate::checkpoint::write::{self, TensorSpec, Writer};
use crate::checkpoint::{ActivationScheme, Checkpoint, Elements, KvCacheScheme, LinearLayer};
use crate::error::{Error, Result};
use crate::model::ModelSpec;
use crate::nvfp4::{BLOCK, TensorScale};
use crate::pipeline::plan::{self, Plan};
use crate::quantize::{self, Method, Source};

/// What to make of a checkpoint.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names, scalars and configuration of the result.
    pub format: &'static Dialect,
    /// How block scales are chosen.
    pub method: Method,
    /// Inputs of quantized layers; `Nvfp4` needs `measured.inputs`.
    pub activations: ActivationScheme,
    /// Key and value cache; needs `measured.kv`.
    pub kv_cache: Option<KvCacheScheme>,
    /// Patterns of layers left alone.
    pub ignore: Vec<String>,
    /// Largest weight file, in bytes of tensors.
    pub max_shard_bytes: u64,
    /// Largest magnitudes seen while running the model.
    pub measured: Measured,
}

/// Largest magnitudes measured on calibration texts.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Of the input of a linear layer, by the layer's name (`model.layers.0.self_attn.q_proj`).
    pub inputs: HashMap<String, f32>,
    /// Of keys and of values, by the attention module's name (`model.layers.0.self_attn`).
    pub kv: HashMap<String, (f32, f32)>,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// The layer or tensor just written.
    pub tensor: &'a str,
    /// Bytes of the source read so far.
    pub done: u64,
    /// Bytes of the source in all.
    pub total: u64,
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Layers quantized.
    pub quantized: usize,
    /// Linear layers that stay floats.
    pub plain: Vec<String>,
    /// Bytes of tensors read.
    pub source_bytes: u64,
    /// Bytes of tensors written.
    pub bytes: u64,
}

/// Bytes copied between two calls of `progress`.
const PIECE: usize = 32 << 20;

/// Quantizes the checkpoint `source` into the new directory `destination`.
///
/// `progress` is called after every piece of work and may stop the run: then, as after an error, nothing is left behind,
/// and the result is `None`.
///
/// # Errors
/// `Argument` for options that cannot be met, `NonFinite` for weights with NaN or infinity (by name), and whatever opening
/// the source and writing the destination run into.
pub fn quantize_checkpoint(
    source: &Path,
    destination: &Path,
    options: &Options,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Option<Summary>> {
    let checkpoint = Checkpoint::open(source)?;
    let plan = Plan::new(&checkpoint, &options.ignore)?;
    let scales = measured_scales(&checkpoint, &plan, options)?;
    let mut writer = Writer::create(destination, lay_out(&checkpoint, &plan, &scales, options), options.max_shard_bytes)?;
    let mut meter = Meter { done: 0, total: checkpoint.names().map(|name| byte_count(&checkpoint, name)).sum(), progress };
    if write_tensors(&checkpoint, &plan, &scales, options, &mut writer, &mut meter)?.is_break() {
        return Ok(None);
    }
    let content = Content {
        activations: options.activations,
        kv_cache: options.kv_cache,
        quantized: plan.quantized.iter().map(|l| l.name.clone()).collect(),
        plain: plan.plain.clone(),
        embeddings: plan.embeddings.clone(),
    };
    let configs = (options.format.write_config)(&content);
    let mut config = checkpoint.config().clone();
    config["quantization_config"] = configs.quantization_config;
    if let Some((name, value)) = configs.file {
        writer.write_json(name, &value)?;
    }
    let kv_cache = options.kv_cache.map(KvCacheScheme::name);
    let record = plan::record(options.format.name, options.method.name(), options.activations.name(), kv_cache, &options.ignore);
    writer.write_json("reset_nvfp4.json", &record)?;
    for file in companions(checkpoint.dir())? {
        writer.copy(&file)?;
    }
    let bytes = writer.total_bytes();
    writer.finish(&config)?;
    Ok(Some(Summary { quantized: plan.quantized.len(), plain: plan.plain, source_bytes: meter.total, bytes }))
}

/// Refuses what [`quantize_checkpoint`] would refuse before it reads a weight, and a cache that the model could not use: worth asking
/// before the long work of measuring.
pub fn check(source: &Path, destination: &Path, format: &Dialect, kv_cache: Option<KvCacheScheme>, ignore: &[String]) -> Result<()> {
    let checkpoint = Checkpoint::open(source)?;
    let plan = Plan::new(&checkpoint, ignore)?;
    if let Some(kv) = kv_cache {
        check_kv(format, &plan, kv)?;
        let head_dim = ModelSpec::from_config(checkpoint.config())?.head_dim;
        if kv == KvCacheScheme::Nvfp4 && !head_dim.is_multiple_of(BLOCK) {
            let allowed = format!("heads of {head_dim} do not fill blocks of {BLOCK}; use kv=\"fp8\"");
            return Err(Error::Argument { option: "kv", found: "\"nvfp4\"".to_owned(), allowed });
        }
    }
    write::check_destination(destination)
}

/// Scales that come from measurements: by the layer whose file they join.
type MeasuredScales = HashMap<String, Vec<(TensorSpec, Vec<u8>)>>;

fn measured_scales(checkpoint: &Checkpoint, plan: &Plan, options: &Options) -> Result<MeasuredScales> {
    let Options { format, measured, .. } = options;
    let mut scales = MeasuredScales::new();
    if options.activations == ActivationScheme::Nvfp4 {
        for group in plan.groups() {
            let names: Vec<_> = group.iter().map(|&index| plan.quantized[index].name.as_str()).collect();
            let mut largest = 0.0f32;
            for name in &names {
                largest = largest.max(check_amax(lookup(&measured.inputs, name, "activations")?, name)?);
            }
            let scale = quantize::tensor_scale(largest, Method::Nearest, quantize::Dialect::parse(format.name)?, quantize::Dtype::F32);
            for name in names {
                let spec = scalar_spec(format, format!("{name}.{}", format.input_scale));
                scales.entry(name.to_owned()).or_default().push((spec, format.store(scale).to_le_bytes().to_vec()));
            }
        }
    }
    let Some(kv) = options.kv_cache else { return Ok(scales) };
    check_kv(format, plan, kv)?;
    for module in &plan.attention {
        let (k, v) = lookup(&measured.kv, module, "kv")?;
        for (projection, suffix, amax) in [("k_proj", format.kv_scales[0], k), ("v_proj", format.kv_scales[1], v)] {
            let name = format!("{module}.{suffix}");
            let amax = check_amax(amax, &name)?;
            let layer = format!("{module}.{projection}");
            let weight = checkpoint.dtype(&format!("{layer}.weight")).unwrap_or(Dtype::F32);
            let (dtype, bytes) = (format.kv_scale)(amax, weight);
            let spec = TensorSpec { name, dtype, shape: format.scalar_shape.to_vec() };
            scales.entry(layer).or_default().push((spec, bytes));
        }
    }
    Ok(scales)
}

/// What was measured for `name`, which option `option` needs.
fn lookup<T: Copy>(map: &HashMap<String, T>, name: &str, option: &'static str) -> Result<T> {
    map.get(name).copied().ok_or_else(|| Error::Argument {
        option,
        found: format!("a quantized format without a measurement for {name}"),
        allowed: "run the model on calibration texts first, or leave this option at floats".to_owned(),
    })
}

fn check_amax(amax: f32, name: &str) -> Result<f32> {
    if amax.is_finite() && amax >= 0.0 {
        return Ok(amax);
    }
    let allowed = "magnitudes are finite and not negative; the model overflows on these calibration texts".to_owned();
    Err(Error::Argument { option: "calibration", found: format!("{amax} as the largest magnitude of {name}"), allowed })
}

fn check_kv(format: &Dialect, plan: &Plan, kv: KvCacheScheme) -> Result<()> {
    let refuse = |allowed: String| Err(Error::Argument { option: "kv", found: format!("{:?}", kv.name()), allowed });
    if !format.kv_schemes.contains(&kv) {
        let known: Vec<_> = format.kv_schemes.iter().map(|kv| kv.name()).collect();
        return refuse(format!("format {:?} can say {}", format.name, known.join(" or ")));
    }
    if plan.attention.is_empty() {
        return refuse("the checkpoint has no k_proj, so there is no place for scales of keys and values".to_owned());
    }
    Ok(())
}

fn scalar_spec(format: &Dialect, name: String) -> TensorSpec {
    TensorSpec { name, dtype: Dtype::F32, shape: format.scalar_shape.to_vec() }
}

/// Names, types and shapes of everything to be written, module by module.
fn lay_out(checkpoint: &Checkpoint, plan: &Plan, scales: &MeasuredScales, options: &Options) -> Vec<Vec<TensorSpec>> {
    let format = options.format;
    let quantized: HashMap<&str, &LinearLayer> = plan.quantized.iter().map(|layer| (layer.name.as_str(), layer)).collect();
    let unit = |(module, tensors): (&str, Vec<&str>)| {
        let mut specs: Vec<TensorSpec> = scales.get(module).into_iter().flatten().map(|(spec, _)| spec.clone()).collect();
        for name in tensors {
            match quantized.get(module) {
                Some(layer) if name.ends_with(".weight") => {
                    let spec =
                        |suffix: &str, dtype, cols| TensorSpec { name: format!("{module}.{suffix}"), dtype, shape: vec![layer.rows, cols] };
                    specs.push(spec(format.codes, Dtype::U8, layer.cols / 2));
                    specs.push(spec(format.block_scales, Dtype::F8_E4M3, layer.cols / BLOCK));
                    specs.push(scalar_spec(format, format!("{module}.{}", format.tensor_scale)));
                }
                _ => specs.extend(copied_spec(checkpoint, name)),
            }
        }
        specs
    };
    plan::modules(checkpoint).into_iter().map(unit).collect()
}

fn copied_spec(checkpoint: &Checkpoint, name: &str) -> Option<TensorSpec> {
    Some(TensorSpec { name: name.to_owned(), dtype: checkpoint.dtype(name)?, shape: checkpoint.shape(name)?.to_vec() })
}

/// Counts bytes of the source, and asks whether to go on.
struct Meter<'a> {
    done: u64,
    total: u64,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Meter<'_> {
    fn advance(&mut self, tensor: &str, bytes: u64) -> ControlFlow<()> {
        self.done += bytes;
        (self.progress)(Progress { tensor, done: self.done, total: self.total })
    }
}

fn write_tensors(
    checkpoint: &Checkpoint,
    plan: &Plan,
    scales: &MeasuredScales,
    options: &Options,
    writer: &mut Writer,
    meter: &mut Meter,
) -> Result<ControlFlow<()>> {
    for (spec, bytes) in scales.values().flatten() {
        writer.write(&spec.name, bytes)?;
    }
    for group in plan.groups() {
        let members: Vec<_> = group.iter().map(|&index| &plan.quantized[index]).collect();
        let scale = shared_scale(checkpoint, &members, options)?;
        for layer in members {
            quantize_layer(checkpoint, layer, scale, options, writer)?;
            let weight = format!("{}.weight", layer.name);
            if meter.advance(&layer.name, byte_count(checkpoint, &weight)).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    let weights: HashSet<String> = plan.quantized.iter().map(|layer| format!("{}.weight", layer.name)).collect();
    for name in checkpoint.names().filter(|&name| !weights.contains(name)) {
        let flow = copy_tensor(checkpoint, name, writer, meter)?;
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The tensor scale of layers that share one: that of the largest magnitude among them, as the file will state it.
fn shared_scale(checkpoint: &Checkpoint, members: &[&LinearLayer], options: &Options) -> Result<TensorScale> {
    let mut largest = 0.0f32;
    let mut dtype = quantize::Dtype::F32;
    for (number, layer) in members.iter().enumerate() {
        let name = format!("{}.weight", layer.name);
        let elements = checkpoint.elements(&name)?;
        let source = source(&elements);
        largest = largest.max(quantize::absmax(source).map_err(|e| named(e, &name))?);
        if number == 0 {
            dtype = source.dtype();
        }
    }
    let format = options.format;
    let scale = quantize::tensor_scale(largest, options.method, quantize::Dialect::parse(format.name)?, dtype);
    Ok((format.meaning)(format.store(scale)))
}

fn quantize_layer(checkpoint: &Checkpoint, layer: &LinearLayer, scale: TensorScale, options: &Options, writer: &mut Writer) -> Result<()> {
    let format = options.format;
    let weight = format!("{}.weight", layer.name);
    let how = quantize::Options { method: options.method, dialect: quantize::Dialect::parse(format.name)?, tensor_scale: Some(scale) };
    let elements = checkpoint.elements(&weight)?;
    let matrix = quantize::quantize(source(&elements), layer.rows, layer.cols, &how).map_err(|e| named(e, &weight))?;
    checkpoint.forget(&weight);
    let name = |suffix: &str| format!("{}.{suffix}", layer.name);
    writer.write(&name(format.codes), matrix.codes())?;
    writer.write(&name(format.block_scales), matrix.block_scales())?;
    writer.write(&name(format.tensor_scale), &format.store(scale).to_le_bytes())
}

/// Copies a tensor as it is, in pieces.
fn copy_tensor(checkpoint: &Checkpoint, name: &str, writer: &mut Writer, meter: &mut Meter) -> Result<ControlFlow<()>> {
    let mut flow = ControlFlow::Continue(());
    let pieces = checkpoint.bytes(name)?.chunks(PIECE).map_while(|piece| {
        if flow.is_continue() {
            flow = meter.advance(name, piece.len() as u64);
            return Some(piece);
        }
        None
    });
    let written = writer.write_chunks(name, pieces);
    checkpoint.forget(name);
    if flow.is_break() { Ok(flow) } else { written.map(|()| flow) }
}

fn byte_count(checkpoint: &Checkpoint, name: &str) -> u64 {
    checkpoint.bytes(name).map_or(0, |bytes| bytes.len() as u64)
}

fn source<'a>(elements: &'a Elements<'_>) -> Source<'a> {
    match elements {
        Elements::F32(x) => Source::F32(x),
        Elements::F16(x) => Source::F16(x),
        Elements::Bf16(x) => Source::Bf16(x),
    }
}

/// `error` with the name of the tensor it is about.
fn named(error: Error, name: &str) -> Error {
    match error {
        Error::NonFinite { index, value, .. } => Error::NonFinite { what: format!("tensor `{name}`"), index, value },
        other => other,
    }
}

/// Files that belong to a model beside its weights: tokenizer, chat templates, generation settings, licences, code.
fn companions(dir: &Path) -> Result<Vec<PathBuf>> {
    const LEFT_OUT: [&str; 4] = ["config.json", "hf_quant_config.json", "reset_nvfp4.json", "README.md"];
    const WEIGHTS: [&str; 13] = ["safetensors", "bin", "pt", "pth", "ckpt", "gguf", "h5", "msgpack", "onnx", "ot", "npz", "pkl", "pickle"];
    const LARGEST: u64 = 256 << 20;
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|e| Error::io(dir, e))? {
        let path = entry.map_err(|e| Error::io(dir, e))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let weights = name.ends_with(".index.json") || path.extension().is_some_and(|x| WEIGHTS.iter().any(|&w| x == w));
        if name.starts_with('.') || LEFT_OUT.contains(&name.as_str()) || weights {
            continue;
        }
        let kind = std::fs::metadata(&path).map_err(|e| Error::io(&path, e))?;
        if (kind.is_file() && kind.len() <= LARGEST) || (kind.is_dir() && name == "additional_chat_templates") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
