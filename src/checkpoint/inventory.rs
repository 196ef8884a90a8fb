//! Which linear layers a checkpoint holds, how each is stored, and why a plain one is plain.
//!
//! A file does not say which matrices are linear layers. The rule here is that of the quantizing tools, in terms of
//! names: a matrix `weight` inside a numbered decoder layer, or `lm_head`; embeddings and routers are not.

use crate::checkpoint::dialect::{DIALECTS, Dialect};
use crate::checkpoint::pattern::{matches, natural_key};
use crate::checkpoint::{ActivationScheme, Checkpoint, Quantization, header};
use crate::nvfp4::BLOCK;
use safetensors::Dtype;

/// One linear layer as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearLayer {
    /// Name of the module: `model.layers.0.mlp.up_proj`.
    pub name: String,
    /// Out features.
    pub rows: usize,
    /// In features.
    pub cols: usize,
    /// `None` for floats.
    pub dialect: Option<&'static Dialect>,
    /// Element type of the weight as stored.
    pub dtype: Dtype,
}

impl LinearLayer {
    /// Storage format as options and reports spell it.
    pub fn format(&self) -> String {
        match (self.dialect, self.dtype) {
            (Some(_), _) => "nvfp4".to_owned(),
            (None, Dtype::F32) => "f32".to_owned(),
            (None, Dtype::F16) => "f16".to_owned(),
            (None, Dtype::BF16) => "bf16".to_owned(),
            (None, other) => other.to_string(),
        }
    }
}

/// Last name of a module.
fn last(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Whether a module with a matrix is a linear layer that the tools quantize.
fn is_linear(module: &str) -> bool {
    const ROUTERS: [&str; 3] = ["gate", "router", "shared_expert_gate"];
    if last(module) == "lm_head" {
        return true;
    }
    let mut parts = module.split('.').skip_while(|&part| part != "layers" && part != "h" && part != "blocks").skip(1);
    parts.next().is_some_and(|n| n.parse::<u32>().is_ok()) && parts.next().is_some() && !ROUTERS.contains(&last(module))
}

impl Checkpoint {
    /// All linear layers, in layer order. Values and scales are not looked at.
    pub fn linear_layers(&self) -> Vec<LinearLayer> {
        let mut layers = Vec::new();
        for (name, (_, info)) in &self.tensors {
            let Some((module, suffix)) = name.rsplit_once('.') else { continue };
            let &[rows, stored] = info.shape.as_slice() else { continue };
            let dialect = DIALECTS.iter().copied().find(|d| {
                let part = |suffix: &str| format!("{module}.{suffix}");
                d.codes == suffix && info.dtype == Dtype::U8 && self.contains(&part(d.block_scales)) && self.contains(&part(d.tensor_scale))
            });
            if is_linear(module) && (dialect.is_some() || suffix == "weight") {
                let cols = if dialect.is_some() { stored.saturating_mul(2) } else { stored };
                layers.push(LinearLayer { name: module.to_owned(), rows, cols, dialect, dtype: info.dtype });
            }
        }
        layers.sort_by(|a, b| natural_key(&a.name).cmp(&natural_key(&b.name)));
        layers
    }

    /// What the tensors say where no configuration does: the dialect of the first NVFP4 layer, and NVFP4 activations if
    /// any layer has an input scale.
    pub(crate) fn unannounced_quantization(&self) -> Option<Quantization> {
        let layers = self.linear_layers();
        let dialect = layers.iter().find_map(|layer| layer.dialect)?;
        let calibrated = layers.iter().any(|layer| self.contains(&format!("{}.{}", layer.name, dialect.input_scale)));
        Some(Quantization {
            dialect,
            algorithm: "unannounced".to_owned(),
            activations: if calibrated { ActivationScheme::Nvfp4 } else { ActivationScheme::Float },
            mixed_activations: false,
            kv_cache: None,
            ignore: Vec::new(),
            producer: None,
        })
    }

    /// Why `layer` is not NVFP4, for a reader; `None` if it is.
    pub fn why_plain(&self, layer: &LinearLayer) -> Option<String> {
        if layer.dialect.is_some() {
            return None;
        }
        let ignored = self.quantization().and_then(|q| q.ignore.iter().find(|pattern| matches(pattern, &layer.name)));
        Some(if !matches!(layer.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16) {
            format!("stored as {}, which is not supported", layer.dtype)
        } else if !layer.cols.is_multiple_of(BLOCK) {
            format!("its {} columns are not a multiple of {BLOCK}", layer.cols)
        } else if self.quantization().is_none() {
            "the checkpoint is not quantized".to_owned()
        } else if let Some(pattern) = ignored {
            format!("left alone by the checkpoint ({})", header::quote(pattern))
        } else {
            "stored as floats".to_owned()
        })
    }

    /// Whether the output head is the embedding: `config.json` says so, or there is no head of its own.
    pub fn tied_embeddings(&self) -> bool {
        let head = |suffix: &str| self.contains(&format!("lm_head.{suffix}"));
        let own_head = head("weight") || DIALECTS.iter().any(|d| head(d.codes));
        self.config().get("tie_word_embeddings").and_then(serde_json::Value::as_bool).unwrap_or(!own_head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_layers_are_told_from_embeddings_norms_and_routers() {
        for (module, expected) in [
            ("model.layers.0.self_attn.q_proj", true),
            ("model.layers.31.mlp.experts.7.down_proj", true),
            ("lm_head", true),
            ("model.embed_tokens", false),
            ("model.layers.3.mlp.gate", false),
            ("model.layers.3.mlp.gate_proj", true),
            ("model.layers.3", false),
            ("model.layers.x.q_proj", false),
            ("model.norm", false),
        ] {
            assert_eq!(is_linear(module), expected, "{module}");
        }
    }
}
