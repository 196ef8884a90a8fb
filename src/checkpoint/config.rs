//! What a checkpoint says about its quantization, in one form whichever file and dialect says it.

use std::path::Path;

use serde_json::Value;

use crate::checkpoint::dialect::{DIALECTS, Dialect, modelopt};
use crate::checkpoint::header::quote;
use crate::error::{Error, Result};

/// How the inputs of quantized layers are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivationScheme {
    /// As floats: W4A16.
    Float,
    /// Quantized to NVFP4 with a static tensor scale: W4A4.
    Nvfp4,
}

impl ActivationScheme {
    /// The scheme called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        choose("activations", name, [Self::Float, Self::Nvfp4].map(|scheme| (scheme.name(), scheme)))
    }

    /// Name as options and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float => "float",
            Self::Nvfp4 => "nvfp4",
        }
    }
}

/// How a checkpoint wants its key and value cache stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvCacheScheme {
    /// E4M3 with one scale per layer for keys and one for values.
    Fp8,
    /// NVFP4 with the same scales; block scales are made while running.
    Nvfp4,
}

impl KvCacheScheme {
    /// The scheme called `name`.
    pub fn parse(name: &str) -> Result<Self> {
        choose("kv", name, [Self::Fp8, Self::Nvfp4].map(|scheme| (scheme.name(), scheme)))
    }

    /// Name as options and reports spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fp8 => "fp8",
            Self::Nvfp4 => "nvfp4",
        }
    }

    /// Reads `{"num_bits": 8 | 4, "type": "float", …}`; null is no scheme.
    pub(crate) fn from_scheme(scheme: &Value) -> Result<Option<Self>, String> {
        let bits = scheme.get("num_bits").and_then(Value::as_u64);
        match (scheme, bits, scheme.get("type").and_then(Value::as_str)) {
            (Value::Null, ..) => Ok(None),
            (_, Some(8), Some("float")) => Ok(Some(Self::Fp8)),
            (_, Some(4), Some("float")) => Ok(Some(Self::Nvfp4)),
            _ => Err(format!("`kv_cache_scheme` {}", shown(&scheme.to_string()))),
        }
    }
}

/// The quantization a checkpoint announces. Which layers are quantized is decided by their tensors, not from here.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantization {
    /// Whose tensor names and scalars.
    pub dialect: &'static Dialect,
    /// The recipe as the file names it: `NVFP4`, `W4A16_NVFP4`, `nvfp4-pack-quantized` …
    pub algorithm: String,
    /// Inputs of quantized layers.
    pub activations: ActivationScheme,
    /// Whether the file announces layers with NVFP4 inputs and others with float inputs: those without an input scale.
    pub mixed_activations: bool,
    /// Key and value cache, where the file prescribes one.
    pub kv_cache: Option<KvCacheScheme>,
    /// Patterns of layers left alone; for reports only.
    pub ignore: Vec<String>,
    /// The program that wrote the file, where it says.
    pub producer: Option<String>,
}

/// The value of an option among its names.
fn choose<T: Copy, const N: usize>(option: &'static str, name: &str, choices: [(&str, T); N]) -> Result<T> {
    choices.iter().find(|(n, _)| *n == name).map(|&(_, value)| value).ok_or_else(|| Error::Argument {
        option,
        found: format!("{name:?}"),
        allowed: format!("choose one of {}", choices.map(|(n, _)| n).join(", ")),
    })
}

/// What to say after "… is not supported".
pub(crate) fn supported() -> String {
    let dialects: Vec<_> = DIALECTS.iter().map(|d| d.name).collect();
    format!("what loads: F32, F16 and BF16 weights, and NVFP4 with float or NVFP4 activations as {} store it", dialects.join(" or "))
}

/// A layout that is not read, found in `path`.
pub(crate) fn unsupported(path: &Path, layout: impl Into<String>) -> Error {
    Error::Format { path: path.to_path_buf(), layout: layout.into(), supported: supported() }
}

/// Text from a file as it may appear in a message.
pub(crate) fn shown(text: &str) -> String {
    quote(text)
}

/// The strings of a JSON array.
pub(crate) fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Reads the quantization of a checkpoint from `config.json`, else from `hf_quant_config.json`.
pub(crate) fn quantization(dir: &Path, config: &Value, hf_quant_config: Option<&Value>) -> Result<Option<Quantization>> {
    let config_path = dir.join("config.json");
    let filled = |value: Option<&Value>| value.is_some_and(|v| !v.is_null());
    if let Some(announced) = config.get("quantization_config").filter(|v| !v.is_null()) {
        let method = announced.get("quant_method").and_then(Value::as_str);
        let dialect = match method {
            Some(method) => DIALECTS.iter().copied().find(|d| d.quant_methods.contains(&method)),
            // Old ModelOpt files give no method.
            None => (announced.get("quant_algo").is_some() || filled(announced.get("quantization"))).then_some(&modelopt::DIALECT),
        };
        let Some(dialect) = dialect else {
            let layout = match method {
                Some(method) => format!("quant_method {}", shown(method)),
                None if filled(announced.get("bits")) => "MLX quantization (`bits` and `group_size` without `quant_method`)".to_owned(),
                None => "a `quantization_config` without `quant_method`".to_owned(),
            };
            return Err(unsupported(&config_path, layout));
        };
        return (dialect.read_config)(announced).map(Some).map_err(|layout| unsupported(&config_path, layout));
    }
    if filled(config.get("quantization")) {
        return Err(unsupported(&config_path, "MLX quantization (`quantization`)"));
    }
    let Some(announced) = hf_quant_config else { return Ok(None) };
    let path = dir.join("hf_quant_config.json");
    if !announced.get("quantization").is_some_and(Value::is_object) {
        return Err(Error::checkpoint(&path, "has no object `quantization`"));
    }
    (modelopt::DIALECT.read_config)(announced).map(Some).map_err(|layout| unsupported(&path, layout))
}
