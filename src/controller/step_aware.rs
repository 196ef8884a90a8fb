//! `ReSET`: the step-aware entropy threshold.
//!
//! Quantization adds noise where the model is unsure. `ReSET` lowers the temperature at sure tokens and keeps it at unsure
//! ones, and it measures "unsure" against the reasoning step: in a step that is more uncertain than the sequence so far, a
//! token has to stand out from its own step before it may explore.
//!
//! ```text
//! Ĥ_step = mean of the last w entropies      while the step has fewer than w tokens
//!          mean of the step's entropies      afterwards
//! H̄      = mean of all entropies so far
//! τ_t    = Ĥ_step if Ĥ_step > H̄ else τ_0
//! T_t    = T_high if H_t ≥ τ_t else T_low
//! ```
//!
//! All means are over the tokens before `H_t`. The paper's figure writes the sums including it: `include_current` lets `H_t`
//! join the step and the window (never `H̄`). Source: arXiv 2606.13233.

use super::Entry;
use super::Policy;
use super::Signal;
use super::Verdict;
use super::non_negative;
use super::running::check_window;
use super::temperatures;
use crate::error::Error;
use crate::error::Result;

/// The policy's line in [`super::POLICIES`].
pub const ENTRY: Entry =
    Entry { name: "reset", summary: "ReSET: T_high where the entropy reaches a threshold that adapts to the reasoning step, else T_low." };

/// The paper's window.
pub const DEFAULT_WINDOW: usize = 32;

/// Published parameters of one model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preset {
    /// Name on the Hugging Face hub.
    pub model: &'static str,
    /// `T_low`.
    pub t_low: f64,
    /// `τ_0` in nats.
    pub tau_0: f64,
}

/// The parameters the paper publishes; `T_high` = 1 and a window of 32 throughout.
pub const PRESETS: &[Preset] = &[
    Preset { model: "Qwen/Qwen3-8B", t_low: 0.1, tau_0: 0.5505 },
    Preset { model: "Qwen/Qwen3-14B", t_low: 0.3, tau_0: 0.4863 },
    Preset { model: "Qwen/Qwen3-32B", t_low: 0.1, tau_0: 0.5363 },
    Preset { model: "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", t_low: 0.4, tau_0: 0.6446 },
    Preset { model: "deepseek-ai/DeepSeek-R1-Distill-Qwen-14B", t_low: 0.3, tau_0: 0.6488 },
];

/// The parameters of `ReSET`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepAware {
    /// Temperature below the threshold.
    pub t_low: f64,
    /// Threshold of a step that is not uncertain, in nats.
    pub tau_0: f64,
    /// Temperature from the threshold on.
    pub t_high: f64,
    /// Tokens `w` of the sliding window.
    pub window: usize,
    /// Whether `H_t` joins the step and the window before `Ĥ_step`.
    pub include_current: bool,
}

impl StepAware {
    /// Checked parameters.
    pub fn new(t_low: f64, tau_0: f64, t_high: f64, window: usize, include_current: bool) -> Result<Self> {
        let (t_low, t_high) = temperatures(t_low, t_high)?;
        Ok(Self { t_low, tau_0: non_negative("tau_0", tau_0)?, t_high, window: check_window(window)?, include_current })
    }

    /// The published parameters of `model`.
    pub fn preset(model: &str) -> Result<Self> {
        let Some(p) = PRESETS.iter().find(|p| p.model == model) else {
            let known: Vec<_> = PRESETS.iter().map(|p| p.model).collect();
            let allowed = format!(
                "the paper has parameters for {}; for another model, calibrate tau_0, tune t_low, and give the path of the calibration",
                known.join(", ")
            );
            return Err(Error::Argument { option: "preset", found: format!("{model:?}"), allowed });
        };
        Self::new(p.t_low, p.tau_0, 1.0, DEFAULT_WINDOW, false)
    }
}

impl Policy for StepAware {
    fn decide(&mut self, signal: &Signal) -> Result<Verdict> {
        let Signal { entropy, step_entropy, global_mean, .. } = *signal;
        let uncertain = step_entropy > global_mean;
        let threshold = if uncertain { step_entropy } else { self.tau_0 };
        let temperature = if entropy >= threshold { self.t_high } else { self.t_low };
        Ok(Verdict { temperature, threshold, step_entropy, global_mean, uncertain })
    }

    fn window(&self) -> usize {
        self.window
    }

    fn include_current(&self) -> bool {
        self.include_current
    }

    fn duplicate(&self) -> Result<Box<dyn Policy>> {
        Ok(Box::new(*self))
    }
}
