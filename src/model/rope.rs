//! Rotary position embedding: pair `i` of a head turns by `position · inverse_frequency[i]`.
//!
//! ```text
//! default   f_i = theta^(−2i/d)
//! linear    f_i / factor
//! llama3    long waves / factor, short waves as they are, a ramp between (Llama 3.1)
//! yarn      a ramp over i between f_i and f_i / factor; cosines and sines also times an attention factor (Qwen's long contexts)
//! ```
//!
//! Frequencies are rounded to f32 and multiplied with the position in f32 before the cosine, as transformers does: at
//! position 30,000 another rounding would already turn a pair by 1e-3.

use std::f64::consts::TAU;

use crate::error::{Error, Result};
use crate::model::fields::Fields;

/// Frequencies of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// `[head_dim / 2]`.
    pub inverse_frequencies: Vec<f32>,
    /// Factor of every cosine and sine; 1 but for yarn.
    pub attention_factor: f32,
}

impl Rope {
    /// Reads `rope_parameters`, or `rope_scaling` with `rope_theta`.
    pub(super) fn from_config(config: &Fields, head_dim: usize, max_positions: usize) -> Result<Self> {
        let empty = serde_json::Value::Object(serde_json::Map::new());
        let nested = match config.object("rope_scaling")? {
            Some(scaling) => scaling,
            None => config.object("rope_parameters")?.unwrap_or(Fields::of(&empty)?),
        };
        for fields in [&nested, config] {
            if fields.positive("partial_rotary_factor")?.is_some_and(|part| part != 1.0) {
                return Err(Error::config("partial_rotary_factor", "heads that turn in part are not supported; 1 or absent works"));
            }
        }
        for kind in ["full_attention", "sliding_attention"] {
            if nested.get(kind).is_some() {
                let problem = format!("holds an entry of its own for \"{kind}\"; one embedding for all layers is supported");
                return Err(Error::config("rope_parameters", problem));
            }
        }
        let theta = nested.positive("rope_theta")?.or(config.positive("rope_theta")?).unwrap_or(10_000.0);
        let kind = nested.text("rope_type")?.or(nested.text("type")?).unwrap_or("default");
        let wanted = |name: &'static str| {
            nested.positive(name)?.ok_or_else(|| Error::config(name, format!("is missing; rope scaling \"{kind}\" needs it")))
        };
        let original = || -> Result<f64> {
            let found =
                config.optional_size("original_max_position_embeddings")?.or(nested.optional_size("original_max_position_embeddings")?);
            Ok(found.unwrap_or(max_positions) as f64)
        };
        let plain = plain(theta, head_dim);
        match kind {
            "default" => Ok(Self::unscaled(plain)),
            "linear" => {
                let factor = wanted("factor")? as f32;
                Ok(Self::unscaled(plain.into_iter().map(|f| f / factor).collect()))
            }
            "llama3" => {
                let (low, high) = (wanted("low_freq_factor")?, wanted("high_freq_factor")?);
                if low >= high {
                    return Err(Error::config("high_freq_factor", format!("{high} is not above low_freq_factor = {low}")));
                }
                Ok(Self::unscaled(llama3(&plain, wanted("factor")?, low, high, original()?)))
            }
            "yarn" if theta <= 1.0 => Err(Error::config("rope_theta", format!("{theta} is not above 1; yarn takes its logarithm"))),
            "yarn" => yarn(&nested, &plain, theta, head_dim, max_positions, original()?),
            other => {
                let other: String = other.chars().take(60).collect();
                Err(Error::config("rope_type", format!("\"{other}\" is not supported; default, linear, llama3 and yarn are")))
            }
        }
    }

    fn unscaled(inverse_frequencies: Vec<f32>) -> Self {
        Self { inverse_frequencies, attention_factor: 1.0 }
    }

    /// Cosines and sines of `position`, `[head_dim / 2]` each.
    pub fn angles_into(&self, position: usize, cos: &mut [f32], sin: &mut [f32]) {
        for ((cos, sin), &frequency) in cos.iter_mut().zip(sin).zip(&self.inverse_frequencies) {
            let angle = f64::from(position as f32 * frequency);
            *cos = angle.cos() as f32 * self.attention_factor;
            *sin = angle.sin() as f32 * self.attention_factor;
        }
    }
}

/// `1 / theta^(2i/d)`, each step rounded to f32.
fn plain(theta: f64, head_dim: usize) -> Vec<f32> {
    let theta = f64::from(theta as f32);
    let power = |i: usize| theta.powf(f64::from((2 * i) as f32 / head_dim as f32)) as f32;
    (0..head_dim / 2).map(|i| 1.0 / power(i)).collect()
}

/// Waves longer than `original / low` positions are stretched, those shorter than `original / high` are not.
fn llama3(plain: &[f32], factor: f64, low: f64, high: f64, original: f64) -> Vec<f32> {
    let stretch = |f: f32| {
        let frequency = f64::from(f);
        let wavelength = TAU / frequency;
        let share = (original / wavelength - low) / (high - low); // 0: stretched, 1: as it is
        ((1.0 - share.clamp(0.0, 1.0)) * frequency / factor + share.clamp(0.0, 1.0) * frequency) as f32
    };
    plain.iter().map(|&f| stretch(f)).collect()
}

/// Frequencies that turn more than `beta_fast` times within the original context stay, those below `beta_slow` are stretched.
fn yarn(scaling: &Fields, plain: &[f32], theta: f64, head_dim: usize, max_positions: usize, original: f64) -> Result<Rope> {
    let factor = scaling.positive("factor")?.unwrap_or(max_positions as f64 / original);
    let magnitude = |scale: f64| if factor <= 1.0 { 1.0 } else { 0.1 * scale * factor.ln() + 1.0 };
    // Zero counts as absent in these two, as in transformers.
    let number = |name: &str| scaling.get(name).filter(|v| v.as_f64() != Some(0.0)).map_or(Ok(None), |_| scaling.positive(name));
    let attention_factor = match (scaling.positive("attention_factor")?, number("mscale")?, number("mscale_all_dim")?) {
        (Some(given), ..) => given,
        (None, Some(scale), Some(all)) => magnitude(scale) / magnitude(all),
        _ => magnitude(1.0),
    };
    let (fast, slow) = (number("beta_fast")?.unwrap_or(32.0), number("beta_slow")?.unwrap_or(1.0));
    // The pair that turns `rotations` times within the original context.
    let pair_of = |rotations: f64| head_dim as f64 * (original / (rotations * TAU)).ln() / (2.0 * theta.ln());
    let (mut low, mut high) = (pair_of(fast), pair_of(slow));
    if scaling.flag("truncate", true)? {
        (low, high) = (low.floor(), high.ceil());
    }
    let (low, mut high) = (low.max(0.0), high.min((head_dim - 1) as f64));
    if low == high {
        high += 0.001; // a step instead of a ramp
    }
    let inverse_frequencies = plain
        .iter()
        .enumerate()
        .map(|(i, &f)| {
            let stretched = ((i as f64 - low) / (high - low)).clamp(0.0, 1.0);
            (f64::from(f) / factor * stretched + f64::from(f) * (1.0 - stretched)) as f32
        })
        .collect();
    Ok(Rope { inverse_frequencies, attention_factor: attention_factor as f32 })
}
