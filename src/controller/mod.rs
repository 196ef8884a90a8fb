//! Temperature policies: an entropy and a boundary flag in, a temperature out.
//!
//! A *policy* chooses the temperature of the next draw from what is known before it: the entropy `H_t` of the raw next-token
//! distribution, and running means of the entropies so far. A [`Controller`] holds one sequence's running state and asks its
//! policy once per token. It knows nothing of logits, models or engines:
//!
//! ```text
//! observe(token produced last) → step(H_t) → Decision { temperature, … } → draw a token → observe(token) → …
//! ```
//!
//! ```
//! use reset::controller::{Boundaries, Controller, StepAware};
//!
//! let policy = StepAware::new(0.3, 0.5, 1.0, 32, false)?;
//! let mut controller = Controller::new(Box::new(policy), Boundaries::new([198], [271]));
//! let first = controller.step(0.8)?;          // H_1 = 0.8 ≥ τ_0 = 0.5: explore
//! assert_eq!(first.temperature, 1.0);
//! controller.observe(271);                    // "\n\n": the next token begins reasoning step 1
//! let second = controller.step(0.1)?;
//! assert!(second.boundary && second.step_index == 1);
//! assert_eq!(second.temperature, 0.3);
//! # Ok::<(), reset::Error>(())
//! ```
//!
//! One step costs a few additions, whatever the length of the sequence, and allocates nothing.

mod boundary;
mod fixed;
mod running;
mod step_aware;
mod threshold;

use crate::error::Error;
use crate::error::Result;

pub use boundary::Boundaries;
pub use fixed::Fixed;
pub use fixed::Greedy;
pub use running::MAX_WINDOW;
pub use running::Parts;
pub use running::Running;
pub use step_aware::DEFAULT_WINDOW;
pub use step_aware::PRESETS;
pub use step_aware::Preset;
pub use step_aware::StepAware;
pub use threshold::EntropyThreshold;

/// A policy by name, for parsing, help and documentation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name as options and reports spell it.
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
}

/// The built-in policies.
pub const POLICIES: &[Entry] = &[step_aware::ENTRY, threshold::ENTRY, fixed::FIXED, fixed::GREEDY];

/// What a policy may look at. All entropies are in nats, rounded to f32, and held as f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Signal {
    /// `H_t`: entropy of the raw distribution of the token about to be drawn.
    pub entropy: f64,
    /// `Ĥ_step`: the entropy of the current reasoning step, estimated with the policy's [`Policy::window`].
    pub step_entropy: f64,
    /// `H̄`: mean of the entropies before this one (of `Ĥ_step` for the first token).
    pub global_mean: f64,
    /// A new reasoning step begins with this token.
    pub boundary: bool,
    /// Reasoning steps begun before this one.
    pub step_index: u64,
    /// Tokens of the current step before this one.
    pub step_position: u64,
    /// Tokens generated before this one; the prompt does not count.
    pub position: u64,
}

/// A policy's answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Temperature of the draw; at most 10⁻⁶ means the most probable token.
    pub temperature: f64,
    /// The entropy from which on the policy explores; NaN where it has none.
    pub threshold: f64,
    /// `Ĥ_step` where the policy uses it, else NaN.
    pub step_entropy: f64,
    /// `H̄` where the policy uses it, else NaN.
    pub global_mean: f64,
    /// The step is more uncertain than the sequence so far.
    pub uncertain: bool,
}

impl Verdict {
    /// A temperature that rests on no threshold and no mean.
    pub fn plain(temperature: f64) -> Self {
        Self { temperature, threshold: f64::NAN, step_entropy: f64::NAN, global_mean: f64::NAN, uncertain: false }
    }
}

/// A rule that turns a [`Signal`] into a temperature.
pub trait Policy: std::any::Any + std::fmt::Debug + Send + Sync {
    /// Chooses the temperature of the next draw.
    fn decide(&mut self, signal: &Signal) -> Result<Verdict>;

    /// Tokens `w` of the sliding window that stands in for a step shorter than `w`.
    fn window(&self) -> usize {
        DEFAULT_WINDOW
    }

    /// Whether `H_t` itself joins the step and the window before `Ĥ_step` is taken.
    fn include_current(&self) -> bool {
        false
    }

    /// A copy with its own state, for another sequence or a snapshot.
    fn duplicate(&self) -> Result<Box<dyn Policy>>;

    /// Forgets what it learned from the sequence so far. The built-in policies keep all state in the controller.
    fn reset(&mut self) -> Result<()> {
        Ok(())
    }
}

/// What the controller decided for one token.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// Temperature of the draw; at most 10⁻⁶ means the most probable token.
    pub temperature: f64,
    /// `H_t` in nats, rounded to f32.
    pub entropy: f64,
    /// `Ĥ_step`; NaN where the policy has no such quantity.
    pub step_entropy: f64,
    /// `H̄`; NaN where the policy has no such quantity.
    pub global_mean: f64,
    /// `τ_t`; NaN where the policy has no such quantity.
    pub threshold: f64,
    /// A new reasoning step begins with this token.
    pub boundary: bool,
    /// `Ĥ_step > H̄`.
    pub uncertain: bool,
    /// Reasoning steps begun before this one: 0 at first, one more at each boundary.
    pub step_index: u64,
}

/// One sequence's state and its policy.
#[derive(Debug)]
pub struct Controller {
    policy: Box<dyn Policy>,
    boundaries: Boundaries,
    state: State,
}

/// Everything that changes from token to token.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Sums and window of the entropies.
    pub running: Running,
    /// Boundaries so far.
    pub step_index: u64,
    /// The last token was a single newline.
    pub after_newline: bool,
    /// The next token begins a new reasoning step.
    pub boundary_ahead: bool,
}

/// A controller's state at one moment, with its policy's.
#[derive(Debug)]
pub struct Snapshot {
    /// The controller's part.
    pub state: State,
    /// The policy, with what it may have learned.
    pub policy: Box<dyn Policy>,
}

impl Controller {
    /// A controller before the first generated token.
    pub fn new(policy: Box<dyn Policy>, boundaries: Boundaries) -> Self {
        let running = Running::new(policy.window(), policy.include_current());
        let state = State { running, step_index: 0, after_newline: false, boundary_ahead: false };
        Self { policy, boundaries, state }
    }

    /// Takes note of the token produced by the last step, which decides whether the next one begins a reasoning step.
    ///
    /// Before the first step there is none, and a token passed then (the prompt's last one) does not count.
    pub fn observe(&mut self, token: u32) {
        if self.state.running.position() > 0 {
            self.state.boundary_ahead |= self.boundaries.begins_step(token, &mut self.state.after_newline);
        }
    }

    /// Says whether the next token begins a reasoning step, for callers that decide it on text. Overrules [`Self::observe`].
    pub fn observe_boundary(&mut self, boundary: bool) {
        if self.state.running.position() > 0 {
            self.state.boundary_ahead = boundary;
        }
    }

    /// Decides the temperature of the next draw. `entropy` is that of the raw distribution, in nats.
    pub fn step(&mut self, entropy: f32) -> Result<Decision> {
        if !entropy.is_finite() {
            let allowed = "an entropy is a finite number of nats; NaN or infinity says that the logits are broken".to_owned();
            return Err(Error::Argument { option: "entropy", found: entropy.to_string(), allowed });
        }
        let State { running, step_index, boundary_ahead, .. } = &mut self.state;
        let boundary = *boundary_ahead;
        let step_index = *step_index + u64::from(boundary);
        let entropy = f64::from(entropy);
        let estimate = running.estimate(entropy, boundary);
        let signal = Signal {
            entropy,
            step_entropy: estimate.step_entropy,
            global_mean: estimate.global_mean,
            boundary,
            step_index,
            step_position: estimate.step_position,
            position: running.position(),
        };
        // A policy that fails leaves the state as it was.
        let verdict = self.policy.decide(&signal)?;
        running.push(entropy, boundary);
        self.state.step_index = step_index;
        self.state.boundary_ahead = false;
        Ok(Decision {
            temperature: verdict.temperature,
            entropy,
            step_entropy: verdict.step_entropy,
            global_mean: verdict.global_mean,
            threshold: verdict.threshold,
            boundary,
            uncertain: verdict.uncertain,
            step_index,
        })
    }

    /// The state now, to come back to after a draft is rejected.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot { state: self.state.clone(), policy: self.policy.duplicate()? })
    }

    /// Goes back to `snapshot`, which has to come from a controller with the same window.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.restore_state(&snapshot.state)?;
        self.policy = snapshot.policy.duplicate()?;
        Ok(())
    }

    /// Takes over another controller's state and keeps the policy.
    pub fn restore_state(&mut self, state: &State) -> Result<()> {
        let (found, own) = (state.running.window(), self.state.running.window());
        if found != own {
            let allowed = format!("this controller's policy has window {own}; restore into a controller with the same window");
            return Err(Error::Argument { option: "snapshot window", found: found.to_string(), allowed });
        }
        self.state.clone_from(state);
        Ok(())
    }

    /// Back to before the first token.
    pub fn reset(&mut self) -> Result<()> {
        self.policy.reset()?;
        self.state.running.clear();
        (self.state.step_index, self.state.after_newline, self.state.boundary_ahead) = (0, false, false);
        Ok(())
    }

    /// The state, for inspection and storage.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The policy.
    pub fn policy(&self) -> &dyn Policy {
        self.policy.as_ref()
    }

    /// Tokens decided so far.
    pub fn position(&self) -> u64 {
        self.state.running.position()
    }
}

/// A number that has to be finite and not negative.
fn non_negative(option: &'static str, value: f64) -> Result<f64> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value + 0.0); // −0 becomes 0, so that equal parameters look equal
    }
    Err(Error::Argument { option, found: value.to_string(), allowed: "it has to be a finite number, 0 or more".into() })
}

/// A pair of temperatures in the right order.
fn temperatures(t_low: f64, t_high: f64) -> Result<(f64, f64)> {
    let (t_low, t_high) = (non_negative("t_low", t_low)?, non_negative("t_high", t_high)?);
    if t_low > t_high {
        let allowed = format!("it has to be at most t_high = {t_high}; are the two swapped?");
        return Err(Error::Argument { option: "t_low", found: t_low.to_string(), allowed });
    }
    Ok((t_low, t_high))
}

#[cfg(test)]
mod tests;
