//! The ablation of `ReSET` without its step term: one entropy threshold for all tokens.

use super::Entry;
use super::Policy;
use super::Signal;
use super::Verdict;
use super::non_negative;
use super::temperatures;
use crate::error::Result;

/// The policy's line in [`super::POLICIES`].
pub const ENTRY: Entry = Entry {
    name: "entropy-threshold",
    summary: "T_high where the entropy reaches the fixed threshold tau_0, else T_low; ReSET without steps.",
};

/// `T_high` if `H_t ≥ τ_0`, else `T_low`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EntropyThreshold {
    /// Temperature below the threshold.
    pub t_low: f64,
    /// The threshold, in nats.
    pub tau_0: f64,
    /// Temperature from the threshold on.
    pub t_high: f64,
}

impl EntropyThreshold {
    /// Checked parameters.
    pub fn new(t_low: f64, tau_0: f64, t_high: f64) -> Result<Self> {
        let (t_low, t_high) = temperatures(t_low, t_high)?;
        Ok(Self { t_low, tau_0: non_negative("tau_0", tau_0)?, t_high })
    }
}

impl Policy for EntropyThreshold {
    fn decide(&mut self, signal: &Signal) -> Result<Verdict> {
        let temperature = if signal.entropy >= self.tau_0 { self.t_high } else { self.t_low };
        Ok(Verdict { threshold: self.tau_0, ..Verdict::plain(temperature) })
    }

    fn duplicate(&self) -> Result<Box<dyn Policy>> {
        Ok(Box::new(*self))
    }
}
