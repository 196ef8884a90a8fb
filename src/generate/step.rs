//! What one step of one sequence says.

use crate::controller::Decision;

/// Why a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// A stop id was drawn.
    Stop,
    /// The token limit or the end of the context was reached.
    Length,
}

impl Finish {
    /// Name as results spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
        }
    }
}

/// One token of one sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// The request's number.
    pub request: usize,
    /// Tokens generated before this one.
    pub position: usize,
    /// The token drawn.
    pub token: u32,
    /// Its log-probability under the raw distribution, in nats.
    pub logprob: f64,
    /// Its log-probability under the distribution drawn from, after temperature and filters.
    pub sampling_logprob: f64,
    /// Entropy, estimates, threshold and temperature.
    pub decision: Decision,
    /// Set on the last token.
    pub finish: Option<Finish>,
}
