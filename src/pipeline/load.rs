//! Checkpoint → running model: formats as the options ask, scales that the checkpoint lacks measured on the way.

use std::sync::Arc;

use crate::backend::{Backend, Inputs, KvFormat, KvSpec, LinearParts};
use crate::checkpoint::{ActivationScheme, Checkpoint, KvCacheScheme, LinearWeights};
use crate::decode::{Measured, Model, Report};
use crate::error::{Error, Result};
use crate::model::{self, Format, ModelSpec};
use crate::pipeline::calibrate;
use crate::tensor::Matrix;

/// What to make of a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Storage of weights.
    pub weights: model::LoadOptions,
    /// How quantized layers compute with their inputs.
    pub activations: Activations,
    /// Storage of keys and values; `None`: as the checkpoint prescribes, else bf16.
    pub kv: Option<KvFormat>,
    /// Where scales come from that the checkpoint lacks.
    pub calibration: Calibration,
}

/// How quantized layers compute with their inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activations {
    /// As the checkpoint prescribes.
    #[default]
    Auto,
    /// As floats.
    Float,
    /// Quantized to NVFP4.
    Nvfp4,
}

impl Activations {
    /// Reads the option.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "auto" => Ok(Self::Auto),
            "float" => Ok(Self::Float),
            "nvfp4" => Ok(Self::Nvfp4),
            other => Err(Error::Argument {
                option: "activations",
                found: format!("\"{other}\""),
                allowed: "\"auto\", \"float\" or \"nvfp4\"".to_owned(),
            }),
        }
    }
}

/// Where scales come from that the checkpoint lacks.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Calibration {
    /// Measured on seeded random tokens.
    #[default]
    Random,
    /// Measured on these texts (token ids).
    Texts(Vec<Vec<u32>>),
    /// None: every row of every input has its own tensor scale, stored scales are ignored; cache scales are 1.
    Dynamic,
}

/// Reads the option `kv`.
pub fn parse_kv(text: &str) -> Result<Option<KvFormat>> {
    let formats = [KvFormat::F32, KvFormat::Bf16, KvFormat::Fp8, KvFormat::Nvfp4];
    match formats.into_iter().find(|f| f.name() == text) {
        None if text != "auto" => Err(Error::Argument {
            option: "kv",
            found: format!("\"{text}\""),
            allowed: "\"auto\", \"f32\", \"bf16\", \"fp8\" or \"nvfp4\"".to_owned(),
        }),
        format => Ok(format),
    }
}

impl<B: Backend> Model<B> {
    /// Loads `checkpoint` onto `backend`.
    pub fn load(checkpoint: &Checkpoint, options: &LoadOptions, backend: B) -> Result<Self> {
        Self::load_with(checkpoint, options, backend, &mut || Ok(()))
    }

    /// The same; `pause` is called before every linear layer and every chunk of positions measured, and may end the work with an error.
    pub fn load_with<E: From<Error>>(
        checkpoint: &Checkpoint,
        options: &LoadOptions,
        backend: B,
        pause: &mut dyn FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        let spec = ModelSpec::from_config(checkpoint.config())?;
        let quantized_inputs = match options.activations {
            Activations::Float => false,
            Activations::Nvfp4 => true,
            Activations::Auto => checkpoint.quantization().is_some_and(|q| q.activations == ActivationScheme::Nvfp4),
        };
        let mixed = options.activations == Activations::Auto && checkpoint.quantization().is_some_and(|q| q.mixed_activations);
        let mut choices = Choices {
            quantized_inputs,
            mixed,
            dynamic: options.calibration == Calibration::Dynamic,
            layers: if checkpoint.quantization().is_some() { Format::Nvfp4 } else { options.weights.weights },
            head: options.weights.lm_head,
            ..Choices::default()
        };
        let mut weights = model::weights::load(checkpoint, &spec, &options.weights, &mut |name, layer| {
            pause()?;
            let inputs = choices.inputs(name, &layer);
            let LinearWeights { weight, bias, pre_quant_scale, .. } = layer;
            backend.linear(LinearParts { weight, bias, pre_quant_scale, inputs }).map_err(E::from)
        })?;
        for layer in &mut weights.layers {
            backend.join(&mut [&mut layer.query, &mut layer.key, &mut layer.value])?;
            backend.join(&mut [&mut layer.gate, &mut layer.up])?;
        }
        if options.activations == Activations::Nvfp4 && choices.nvfp4 == 0 {
            return Err(Error::Argument {
                option: "activations",
                found: "\"nvfp4\"".to_owned(),
                allowed:
                    "only layers with nvfp4 weights quantize their inputs, and this model has none; weights=\"nvfp4\" quantizes layers \
                          whose columns are a multiple of 16"
                        .to_owned(),
            }
            .into());
        }
        let (kv, kv_missing) = kv_spec(checkpoint, &spec, options, &weights.layers.iter().map(|l| l.kv_scales).collect::<Vec<_>>())?;
        let report = Report {
            weights: choices.layers_format(),
            lm_head: backend.format(&weights.lm_head),
            activations: if quantized_inputs && choices.nvfp4 > 0 { "nvfp4" } else { "float" },
            kv: kv.format.name(),
            calibration: choices.calibration(),
            kv_scales: kv_scales_from(&kv, kv_missing, choices.dynamic),
            unquantized: std::mem::take(&mut choices.unquantized),
        };
        let mut model = Self { spec, weights, backend, kv: Arc::new(kv), report };
        if !choices.missing.is_empty() || (kv_missing && !choices.dynamic) {
            let texts = match &options.calibration {
                Calibration::Texts(texts) => texts.clone(),
                _ => calibrate::random_texts(&model.spec),
            };
            let measured = model.measure_with(&texts, pause)?;
            model.set_measured(&measured, &choices.missing, kv_missing)?;
        }
        Ok(model)
    }

    /// Sets the scales of the layers `missing` and, if asked, of the cache.
    fn set_measured(&mut self, measured: &Measured, missing: &[String], kv: bool) -> Result<()> {
        let Self { weights, backend, .. } = self;
        let named = weights
            .layers
            .iter_mut()
            .enumerate()
            .flat_map(|(index, layer)| layer.linears_mut().map(|(name, linear)| (format!("model.layers.{index}.{name}"), linear)));
        for (name, linear) in named.chain([("lm_head".to_owned(), &mut weights.lm_head)]) {
            if missing.contains(&name) {
                let amax = measured.inputs.get(&name).copied().unwrap_or(0.0);
                backend.set_inputs(linear, Inputs::Static(calibrate::input_scale(&name, amax)?));
            }
        }
        if kv {
            let spec = Arc::make_mut(&mut self.kv);
            for (index, (scales, amax)) in spec.scales.iter_mut().zip(&measured.kv).enumerate() {
                for (scale, &amax) in scales.iter_mut().zip(amax) {
                    *scale = calibrate::kv_scale(&format!("model.layers.{index}.self_attn"), amax)?;
                }
            }
        }
        Ok(())
    }
}

/// What was met while the layers streamed by.
#[derive(Default)]
struct Choices {
    quantized_inputs: bool,
    mixed: bool, // layers without an input scale have float inputs
    dynamic: bool,
    layers: Format,             // wanted
    head: Format,               // wanted
    nvfp4: usize,               // layers, the head included
    stored: usize,              // of those, with the checkpoint's input scale
    missing: Vec<String>,       // of those, whose input scale has to be measured
    formats: Vec<&'static str>, // of the blocks' layers, each once
    unquantized: Vec<String>,
}

impl Choices {
    fn inputs(&mut self, name: &str, layer: &LinearWeights) -> Inputs {
        let format = layer.weight.format();
        let in_block = name.starts_with("model.layers.");
        if in_block && !self.formats.contains(&format) {
            self.formats.push(format);
        }
        if !matches!(layer.weight, Matrix::Nvfp4(_)) {
            let wanted = if in_block { self.layers } else { self.head };
            if wanted == Format::Nvfp4 && name != "model.embed_tokens" && !layer.weight.cols().is_multiple_of(16) {
                self.unquantized.push(name.to_owned());
            }
            return Inputs::Float;
        }
        self.nvfp4 += 1;
        match layer.input_scale {
            _ if !self.quantized_inputs => Inputs::Float,
            None if self.mixed => Inputs::Float,
            _ if self.dynamic => Inputs::Dynamic,
            Some(scale) => {
                self.stored += 1;
                Inputs::Static(scale)
            }
            None => {
                self.missing.push(name.to_owned());
                Inputs::Float
            }
        }
    }

    fn layers_format(&self) -> &'static str {
        match self.formats[..] {
            _ if self.formats.contains(&"nvfp4") => "nvfp4",
            [one] => one,
            _ => "mixed",
        }
    }

    fn calibration(&self) -> &'static str {
        match (self.quantized_inputs && self.nvfp4 > 0, self.dynamic) {
            (false, _) => "",
            (true, true) => "dynamic",
            (true, false) if self.missing.is_empty() => "checkpoint",
            (true, false) if self.stored == 0 => "measured",
            (true, false) => "checkpoint, else measured",
        }
    }
}

/// Format and scales of the cache, and whether scales are missing.
fn kv_spec(
    checkpoint: &Checkpoint,
    spec: &ModelSpec,
    options: &LoadOptions,
    stored: &[Option<crate::checkpoint::KvScales>],
) -> Result<(KvSpec, bool)> {
    let prescribed = checkpoint.kv_cache_scheme().map(|scheme| match scheme {
        KvCacheScheme::Fp8 => KvFormat::Fp8,
        KvCacheScheme::Nvfp4 => KvFormat::Nvfp4,
    });
    let format = options.kv.or(prescribed).unwrap_or(KvFormat::Bf16);
    if format == KvFormat::Nvfp4 && !spec.head_dim.is_multiple_of(16) {
        return Err(Error::config(
            "kv",
            format!("nvfp4 needs heads of a multiple of 16, head_dim is {}; kv=\"bf16\" works", spec.head_dim),
        ));
    }
    let quantized = matches!(format, KvFormat::Fp8 | KvFormat::Nvfp4);
    let missing = quantized && stored.iter().any(Option::is_none);
    let scales = stored.iter().map(|s| s.filter(|_| quantized && !missing).map_or([1.0, 1.0], |s| [s.k, s.v])).collect();
    Ok((KvSpec { format, heads: spec.kv_heads, head_dim: spec.head_dim, scales }, missing))
}

fn kv_scales_from(kv: &KvSpec, missing: bool, dynamic: bool) -> &'static str {
    match (kv.format, missing, dynamic) {
        (KvFormat::F32 | KvFormat::Bf16, ..) => "",
        (_, false, _) => "checkpoint",
        (_, true, false) => "measured",
        (_, true, true) => "one",
    }
}
