//! Which layers of a checkpoint become NVFP4, and which of them share a tensor scale.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::checkpoint::pattern::{matches, natural_key};
use crate::checkpoint::{Checkpoint, LinearLayer};
use crate::error::{Error, Result};
use crate::nvfp4::BLOCK;

/// Projections of one input, which engines run as one matrix: their tensor scales must be equal.
const SHARING: [&[&str]; 4] =
    [&["q_proj", "k_proj", "v_proj"], &["gate_proj", "up_proj"], &["q_a_proj", "kv_a_proj_with_mqa"], &["w1", "w3"]];

/// What is to be done with a checkpoint.
#[derive(Debug)]
pub struct Plan {
    /// Layers to quantize, in layer order.
    pub quantized: Vec<LinearLayer>,
    /// Layers that stay, the output head among them even if it is the embedding.
    pub plain: Vec<String>,
    /// Other modules with a matrix: embeddings.
    pub embeddings: Vec<String>,
    /// Modules with keys and values.
    pub attention: Vec<String>,
}

impl Plan {
    /// Chooses all linear layers of `checkpoint` that no pattern of `ignore` names and whose columns fill blocks.
    ///
    /// # Errors
    /// `Argument` for a source that is quantized already, for a pattern that names no layer, and where nothing is left.
    pub fn new(checkpoint: &Checkpoint, ignore: &[String]) -> Result<Self> {
        let layers = checkpoint.linear_layers();
        if checkpoint.quantization().is_some() || layers.iter().any(|l| l.dialect.is_some()) {
            return Err(Error::Argument {
                option: "src",
                found: format!("{}, which is quantized already", checkpoint.dir().display()),
                allowed: "give the checkpoint with F32, F16 or BF16 weights that it was made from".to_owned(),
            });
        }
        check_patterns(ignore, &layers)?;
        let tied_head = |layer: &LinearLayer| checkpoint.tied_embeddings() && layer.name.ends_with("lm_head");
        let (mut quantized, mut plain) = (Vec::new(), Vec::new());
        let attention = layers.iter().filter_map(|l| l.name.strip_suffix(".k_proj")).map(str::to_owned).collect();
        for layer in layers {
            let ignored = ignore.iter().any(|pattern| matches(pattern, &layer.name));
            if ignored || tied_head(&layer) || !layer.cols.is_multiple_of(BLOCK) {
                plain.push(layer.name);
            } else {
                quantized.push(layer);
            }
        }
        if quantized.is_empty() {
            return Err(Error::Argument {
                option: "ignore",
                found: format!("{ignore:?}"),
                allowed: format!("no linear layer with a multiple of {BLOCK} columns is left to quantize"),
            });
        }
        if checkpoint.tied_embeddings() && !plain.iter().any(|name| name == "lm_head") {
            plain.push("lm_head".to_owned()); // a module without a tensor of its own
        }
        let known: BTreeSet<&str> = quantized.iter().map(|l| l.name.as_str()).chain(plain.iter().map(String::as_str)).collect();
        let embeddings: Vec<String> = checkpoint
            .names()
            .filter_map(|name| name.strip_suffix(".weight").filter(|_| checkpoint.shape(name).is_some_and(|s| s.len() == 2)))
            .filter(|module| !known.contains(module))
            .map(str::to_owned)
            .collect();
        Ok(Self { quantized, plain, embeddings, attention })
    }

    /// Indices into `quantized` of layers that share a tensor scale, in order.
    pub fn groups(&self) -> Vec<Vec<usize>> {
        let mut groups = BTreeMap::<(&str, usize), Vec<usize>>::new();
        let mut order = Vec::new();
        for (index, layer) in self.quantized.iter().enumerate() {
            let (parent, last) = layer.name.rsplit_once('.').unwrap_or(("", &layer.name));
            // A layer that shares with none has a key of its own: its index, after those of the families.
            let family = SHARING.iter().position(|family| family.contains(&last)).unwrap_or(SHARING.len() + index);
            let members = groups.entry((parent, family)).or_default();
            if members.is_empty() {
                order.push((parent, family));
            }
            members.push(index);
        }
        order.into_iter().filter_map(|key| groups.remove(&key)).collect()
    }
}

/// A pattern that names no layer is a slip, except the default: heads that are the embedding have no tensor.
fn check_patterns(ignore: &[String], layers: &[LinearLayer]) -> Result<()> {
    let useless = |pattern: &&String| pattern.as_str() != "lm_head" && !layers.iter().any(|layer| matches(pattern, &layer.name));
    let Some(pattern) = ignore.iter().find(useless) else { return Ok(()) };
    let example = layers.iter().find(|l| l.name != "lm_head").map_or("lm_head", |l| l.name.as_str());
    Err(Error::Argument {
        option: "ignore",
        found: format!("{pattern:?}"),
        allowed: format!("it names no linear layer; layers are called like \"{example}\", and * stands for any characters"),
    })
}

/// Tensors of `checkpoint` by module, in layer order; a module's tensors go into one file.
pub fn modules(checkpoint: &Checkpoint) -> Vec<(&str, Vec<&str>)> {
    let mut modules = BTreeMap::<&str, Vec<&str>>::new();
    for name in checkpoint.names() {
        modules.entry(name.rsplit_once('.').map_or("", |(module, _)| module)).or_default().push(name);
    }
    let mut modules: Vec<_> = modules.into_iter().collect();
    modules.sort_by(|(a, _), (b, _)| natural_key(a).cmp(&natural_key(b)));
    modules
}

/// The settings of a run, for the record kept beside the weights.
pub fn record(format: &str, method: &str, activations: &str, kv_cache: Option<&str>, ignore: &[String]) -> Value {
    serde_json::json!({
        "producer": concat!("reset-nvfp4 ", env!("CARGO_PKG_VERSION")), "format": format, "method": method,
        "activations": activations, "kv": kv_cache, "ignore": ignore,
    })
}
