//! Static scales from measured magnitudes, and the tokens to measure on where there is no text.

use crate::error::{Error, Result};
use crate::model::ModelSpec;

/// Largest E2M1 times largest E4M3: a block of the largest magnitude then has the largest block scale.
const NVFP4_RANGE: f32 = 2688.0;
/// Largest E4M3.
const E4M3_RANGE: f32 = 448.0;

/// Tensor scale of a linear layer's input whose largest magnitude is `amax`.
pub fn input_scale(layer: &str, amax: f32) -> Result<f32> {
    scale(layer, "input", amax, NVFP4_RANGE)
}

/// Scale of a layer's keys or values. NVFP4 caches use the same: their block scales then stay below 75.
pub fn kv_scale(attention: &str, amax: f32) -> Result<f32> {
    scale(attention, "keys or values", amax, E4M3_RANGE)
}

fn scale(layer: &str, what: &str, amax: f32, range: f32) -> Result<f32> {
    if !amax.is_finite() {
        let problem = format!("its {what} reach {amax} on the calibration texts, so no scale holds them; use activations=\"float\"");
        return Err(Error::config(layer, problem));
    }
    let scale = amax / range;
    // An input that is always zero needs no scale; any positive one is right.
    Ok(if scale > 0.0 { scale } else { 1.0 })
}

/// Eight sequences of 64 seeded random tokens (shorter where the model is).
pub fn random_texts(spec: &ModelSpec) -> Vec<Vec<u32>> {
    let mut state = 0x5EED_u64;
    let mut next = || {
        // SplitMix64.
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let length = spec.max_positions.min(64);
    (0..8).map(|_| (0..length).map(|_| (next() % spec.vocab_size as u64) as u32).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_follow_the_formats() {
        assert_eq!(input_scale("x", 2688.0).unwrap(), 1.0);
        assert_eq!(kv_scale("x", 448.0).unwrap(), 1.0);
        assert_eq!(input_scale("x", 0.0).unwrap(), 1.0);
        assert!(input_scale("model.layers.3.mlp.down_proj", f32::INFINITY).unwrap_err().to_string().contains("down_proj"));
    }
}
