//! What a model is: its sizes, its weights, how each architecture names them.
//!
//! ```text
//! config.json ── arch (what kind) ──→ ModelSpec (sizes, rope, windows) ──→ weights (streamed from the checkpoint)
//! ```
//!
//! [`ModelSpec::from_config`] reads old and new spellings (`rope_theta` + `rope_scaling` or `rope_parameters`) and judges every
//! field: after it returns, the sizes fit each other and fit in memory arithmetic.

pub mod arch;
mod fields;
pub mod rope;
pub mod weights;

use serde_json::Value;

use crate::error::{Error, Result};

pub use arch::{ARCHITECTURES, Architecture};
use fields::Fields;
pub use rope::Rope;
pub use weights::{Format, Layer, LoadOptions, Weights};

/// A decoder-only transformer of the Llama family: what its forward pass needs to know.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Name as `config.json` spells it.
    pub architecture: &'static str,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// Longest sequence the model was made for.
    pub max_positions: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f32,
    /// Rotary position embedding.
    pub rope: Rope,
    /// Per layer: how many positions back attention sees (itself included), where limited.
    pub windows: Vec<Option<usize>>,
    /// Where linear layers have a bias.
    pub bias: Bias,
    /// Whether query and key heads are normalized before the rotation.
    pub qk_norm: bool,
    /// Whether the head is the embedding.
    pub tied: bool,
}

/// Which linear layers have a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bias {
    /// `q_proj`, `k_proj`, `v_proj`.
    pub qkv: bool,
    /// `o_proj`.
    pub output: bool,
    /// `gate_proj`, `up_proj`, `down_proj`.
    pub mlp: bool,
}

impl ModelSpec {
    /// Reads `config.json`.
    ///
    /// # Errors
    /// `Config`, naming the field, what was found and what would work.
    pub fn from_config(config: &Value) -> Result<Self> {
        let fields = Fields::of(config)?;
        let architecture = Architecture::of(&fields)?;
        let act = fields.text("hidden_act")?.unwrap_or("silu");
        if !matches!(act, "silu" | "swish") {
            return Err(Error::config("hidden_act", format!("found \"{act}\"; {} runs with \"silu\"", architecture.name)));
        }
        let hidden_size = fields.size("hidden_size")?;
        let heads = fields.size("num_attention_heads")?;
        let kv_heads = fields.optional_size("num_key_value_heads")?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(Error::config("num_key_value_heads", format!("{kv_heads} does not divide num_attention_heads = {heads}")));
        }
        let traits = (architecture.traits)(&fields)?;
        let head_dim = match fields.optional_size("head_dim")?.or(traits.head_dim) {
            Some(width) => width,
            None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => {
                let problem = format!("{heads} does not divide hidden_size = {hidden_size}, and there is no head_dim");
                return Err(Error::config("num_attention_heads", problem));
            }
        };
        if !head_dim.is_multiple_of(2) {
            return Err(Error::config("head_dim", format!("{head_dim} is odd; the rotary embedding turns pairs")));
        }
        let max_positions = fields.optional_size("max_position_embeddings")?.unwrap_or(traits.max_positions);
        let (vocab_size, intermediate_size) = (fields.size("vocab_size")?, fields.size("intermediate_size")?);
        let layers = fields.size("num_hidden_layers")?;
        check_extent([
            ("vocab_size", vocab_size, 1 << 24),
            ("hidden_size", hidden_size, 1 << 18),
            ("intermediate_size", intermediate_size, 1 << 20),
            ("num_hidden_layers", layers, 1 << 12),
            ("num_attention_heads", heads, 1 << 12),
            ("head_dim", head_dim, 1 << 12),
            ("max_position_embeddings", max_positions, 1 << 28),
        ])?;
        Ok(Self {
            architecture: architecture.name,
            vocab_size,
            hidden_size,
            intermediate_size,
            layers,
            heads,
            kv_heads,
            head_dim,
            max_positions,
            rms_norm_eps: fields.positive("rms_norm_eps")?.unwrap_or(1e-6) as f32,
            rope: Rope::from_config(&fields, head_dim, max_positions)?,
            windows: traits.windows,
            bias: traits.bias,
            qk_norm: traits.qk_norm,
            tied: fields.flag("tie_word_embeddings", false)?,
        })
    }

    /// Columns of the query projection's output.
    pub fn query_size(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Columns of the key (and of the value) projection's output.
    pub fn kv_size(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Refuses sizes (field, found, limit) that no real model has: nothing is allocated by them, and products of two cannot overflow.
fn check_extent<const N: usize>(sizes: [(&str, usize, usize); N]) -> Result<()> {
    match sizes.into_iter().find(|&(_, found, limit)| found > limit) {
        Some((field, found, limit)) => Err(Error::config(field, format!("{found} is more than any model has (at most {limit})"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn qwen3() -> Value {
        json!({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 256, "hidden_size": 64,
            "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "hidden_act": "silu", "rope_theta": 1e6,
        })
    }

    fn with(mut config: Value, field: &str, value: Value) -> Value {
        config[field] = value;
        config
    }

    fn refusal(config: &Value) -> String {
        ModelSpec::from_config(config).expect_err("refused").to_string()
    }

    #[test]
    fn old_and_new_rope_spellings_are_one() {
        let old = ModelSpec::from_config(&qwen3()).unwrap();
        let mut new = qwen3();
        new.as_object_mut().unwrap().remove("rope_theta");
        let new = with(new, "rope_parameters", json!({"rope_type": "default", "rope_theta": 1e6}));
        assert_eq!(ModelSpec::from_config(&new).unwrap(), old);
        let scaled = with(qwen3(), "rope_scaling", json!({"type": "linear", "factor": 4.0}));
        let named = with(qwen3(), "rope_parameters", json!({"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6}));
        assert_eq!(ModelSpec::from_config(&scaled).unwrap(), ModelSpec::from_config(&named).unwrap());
        assert_ne!(ModelSpec::from_config(&scaled).unwrap(), old);
    }

    #[test]
    fn defaults_follow_the_architecture() {
        let mut config = qwen3();
        config.as_object_mut().unwrap().remove("head_dim");
        assert_eq!(ModelSpec::from_config(&config).unwrap().head_dim, 128);
        for name in ["Qwen2ForCausalLM", "LlamaForCausalLM"] {
            let config = with(config.clone(), "architectures", json!([name]));
            let spec = ModelSpec::from_config(&config).unwrap();
            assert_eq!((spec.head_dim, spec.qk_norm, spec.tied), (16, false, false), "{name}");
            assert_eq!(spec.bias.qkv, name == "Qwen2ForCausalLM");
        }
        let biased = with(with(qwen3(), "architectures", json!(["LlamaForCausalLM"])), "attention_bias", json!(true));
        assert_eq!(ModelSpec::from_config(&biased).unwrap().bias, Bias { qkv: true, output: true, mlp: false });
    }

    #[test]
    fn sliding_windows_start_where_the_config_says() {
        let mut config = with(with(qwen3(), "use_sliding_window", json!(true)), "sliding_window", json!(8));
        config["max_window_layers"] = json!(1);
        assert_eq!(ModelSpec::from_config(&config).unwrap().windows, [None, Some(8)]);
        config["use_sliding_window"] = json!(false);
        assert_eq!(ModelSpec::from_config(&config).unwrap().windows, [None, None]);
    }

    #[test]
    fn hostile_values_are_refused_by_field() {
        for field in ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"] {
            for value in [json!(0), json!(-1), json!(1.5), json!("64"), json!(1u64 << 40), json!(1e300), json!(null), json!([64])] {
                let message = refusal(&with(qwen3(), field, value.clone()));
                assert!(message.starts_with(field), "{field} = {value}: {message}");
            }
        }
        for (field, value) in [
            ("head_dim", json!(15)),
            ("head_dim", json!(0)),
            ("head_dim", json!(1u64 << 32)), // the rotary embedding would take 8 GiB
            ("num_key_value_heads", json!(3)),
            ("num_key_value_heads", json!(8)),
            ("rms_norm_eps", json!(-1e-6)),
            ("rms_norm_eps", json!("small")),
            ("rope_theta", json!(0)),
            ("max_position_embeddings", json!(1u64 << 60)),
            ("hidden_act", json!("gelu")),
            ("tie_word_embeddings", json!("yes")),
            ("attention_bias", json!(1)),
            ("partial_rotary_factor", json!(0.5)),
            ("layer_types", json!(["full_attention"])),
            ("rope_parameters", json!({"full_attention": {"rope_theta": 1e6}})),
            ("layer_types", json!(["full_attention", "linear_attention"])),
        ] {
            let message = refusal(&with(qwen3(), field, value.clone()));
            assert!(message.starts_with(field), "{field} = {value}: {message}");
        }
        assert!(refusal(&json!([1])).contains("object"));
    }

    #[test]
    fn unknown_rope_types_and_architectures_are_refused_by_name() {
        for kind in ["dynamic", "longrope", "mrope"] {
            let message = refusal(&with(qwen3(), "rope_scaling", json!({"rope_type": kind, "factor": 2.0})));
            assert!(message.contains(kind) && message.contains("yarn"), "{message}");
        }
        let message = refusal(&with(qwen3(), "architectures", json!(["MixtralForCausalLM"])));
        assert!(message.contains("MixtralForCausalLM"), "{message}");
        for architecture in ARCHITECTURES {
            assert!(message.contains(architecture.name), "{message}");
        }
    }
}
