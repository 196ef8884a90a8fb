//! The architectures, one file each: what they add to the common description, and their defaults where `config.json` is silent.
//!
//! All have the Llama forward pass (norm, attention, norm, gated MLP) and the Llama tensor names; an architecture says
//! where biases are, whether heads are normalized, and which layers see a window only.

mod llama;
mod qwen2;
mod qwen3;

use crate::error::{Error, Result};
use crate::model::Bias;
use crate::model::fields::{Fields, wrong};

/// Every architecture this crate runs.
pub const ARCHITECTURES: &[&Architecture] = &[&llama::LLAMA, &qwen2::QWEN2, &qwen3::QWEN3];

/// An entry of [`ARCHITECTURES`].
#[derive(Debug)]
pub struct Architecture {
    /// Name in `architectures`.
    pub name: &'static str,
    /// Name in `model_type`, asked where `architectures` is absent.
    pub model_type: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// Reads what is particular to it.
    pub(super) traits: fn(&Fields) -> Result<Traits>,
}

/// What an architecture adds to the common fields.
#[derive(Debug)]
pub struct Traits {
    /// `head_dim` where the file has none; `None`: hidden size over heads.
    pub head_dim: Option<usize>,
    /// `max_position_embeddings` where the file has none.
    pub max_positions: usize,
    /// Where linear layers have a bias.
    pub bias: Bias,
    /// Whether query and key heads are normalized.
    pub qk_norm: bool,
    /// Per layer: the attention window, where there is one.
    pub windows: Vec<Option<usize>>,
}

impl Architecture {
    /// The architecture that the file names.
    pub(super) fn of(fields: &Fields) -> Result<&'static Self> {
        let works = || {
            let names: Vec<_> = ARCHITECTURES.iter().map(|a| a.name).collect();
            format!("what runs: {}", names.join(", "))
        };
        let found = match fields.list("architectures")? {
            Some([name]) => name.as_str().ok_or_else(|| wrong("architectures", name, "a name"))?,
            Some([]) | None => match fields.text("model_type")? {
                Some(kind) => {
                    let known = ARCHITECTURES.iter().copied().find(|a| a.model_type == kind);
                    return known.ok_or_else(|| Error::config("model_type", format!("\"{kind}\" is not known; {}", works())));
                }
                None => return Err(Error::config("architectures", format!("is missing; {}", works()))),
            },
            Some(_) => return Err(Error::config("architectures", format!("holds several names; {}", works()))),
        };
        let known = ARCHITECTURES.iter().copied().find(|a| a.name == found);
        known.ok_or_else(|| {
            let found: String = found.chars().take(60).collect();
            Error::config("architectures", format!("\"{found}\" is not known; {}", works()))
        })
    }
}

/// Windows as the Qwen family spells them: `use_sliding_window`, `sliding_window`, and either `layer_types` or
/// `max_window_layers` (the first layer that has one).
fn qwen_windows(fields: &Fields) -> Result<Vec<Option<usize>>> {
    let layers = fields.size("num_hidden_layers")?.min(1 << 16);
    let used = fields.flag("use_sliding_window", false)?;
    let window = if used { Some(fields.optional_size("sliding_window")?.unwrap_or(4096)) } else { None };
    let Some(types) = fields.list("layer_types")? else {
        let first = match fields.get("max_window_layers") {
            Some(found) => found.as_u64().ok_or_else(|| wrong("max_window_layers", found, "a number of layers"))? as usize,
            None => 28,
        };
        return Ok((0..layers).map(|layer| window.filter(|_| layer >= first)).collect());
    };
    if types.len() != layers {
        return Err(Error::config("layer_types", format!("holds {} entries for {layers} layers", types.len())));
    }
    types
        .iter()
        .map(|kind| match (kind.as_str(), window) {
            (Some("full_attention"), _) => Ok(None),
            (Some("sliding_attention"), Some(window)) => Ok(Some(window)),
            (Some("sliding_attention"), None) => Err(Error::config(
                "layer_types",
                "holds \"sliding_attention\" while use_sliding_window is off; set use_sliding_window and sliding_window",
            )),
            _ => Err(wrong("layer_types", kind, "\"full_attention\" or \"sliding_attention\"")),
        })
        .collect()
}
