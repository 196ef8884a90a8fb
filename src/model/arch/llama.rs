//! Llama 1 to 3: no norm on heads, biases only where the configuration asks for them.

use crate::error::Result;
use crate::model::Bias;
use crate::model::arch::{Architecture, Traits};
use crate::model::fields::Fields;

pub const LLAMA: Architecture = Architecture {
    name: "LlamaForCausalLM",
    model_type: "llama",
    summary: "Llama 1 to 3 and models of its shape, with llama3, linear or yarn rope scaling",
    traits,
};

fn traits(fields: &Fields) -> Result<Traits> {
    let attention = fields.flag("attention_bias", false)?;
    Ok(Traits {
        head_dim: None,
        max_positions: 2048,
        bias: Bias { qkv: attention, output: attention, mlp: fields.flag("mlp_bias", false)? },
        qk_norm: false,
        windows: vec![None; fields.size("num_hidden_layers")?.min(1 << 16)],
    })
}
