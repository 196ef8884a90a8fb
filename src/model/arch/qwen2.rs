//! Qwen2, Qwen2.5 and the R1 distillations into them: a bias on query, key and value projections, always.

use crate::error::Result;
use crate::model::Bias;
use crate::model::arch::{Architecture, Traits, qwen_windows};
use crate::model::fields::Fields;

pub const QWEN2: Architecture =
    Architecture { name: "Qwen2ForCausalLM", model_type: "qwen2", summary: "Qwen2, Qwen2.5 and DeepSeek-R1-Distill-Qwen", traits };

fn traits(fields: &Fields) -> Result<Traits> {
    Ok(Traits {
        head_dim: None,
        max_positions: 32_768,
        bias: Bias { qkv: true, output: false, mlp: false },
        qk_norm: false,
        windows: qwen_windows(fields)?,
    })
}
