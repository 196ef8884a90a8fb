//! Qwen3 (dense): query and key heads are normalized before the rotation; the head width is independent of the hidden size.

use crate::error::Result;
use crate::model::Bias;
use crate::model::arch::{Architecture, Traits, qwen_windows};
use crate::model::fields::Fields;

pub const QWEN3: Architecture =
    Architecture { name: "Qwen3ForCausalLM", model_type: "qwen3", summary: "Qwen3, dense sizes from 0.6B to 32B", traits };

fn traits(fields: &Fields) -> Result<Traits> {
    let attention = fields.flag("attention_bias", false)?;
    Ok(Traits {
        head_dim: Some(128),
        max_positions: 32_768,
        bias: Bias { qkv: attention, output: attention, mlp: false },
        qk_norm: true,
        windows: qwen_windows(fields)?,
    })
}
