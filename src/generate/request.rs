//! What a caller asks of one sequence.

use std::sync::Arc;

use crate::controller::Boundaries;
use crate::controller::Policy;
use crate::error::Error;
use crate::error::Result;
use crate::sampler::Banned;
use crate::sampler::Filters;

/// One sequence to generate.
#[derive(Debug)]
pub struct Request {
    /// Prompt ids; samples of one prompt share the allocation, and then its prefill too.
    pub prompt: Arc<[u32]>,
    /// Who sets the temperature.
    pub policy: Box<dyn Policy>,
    /// Token ids that begin a reasoning step; none where the caller decides on text.
    pub boundaries: Boundaries,
    /// The caller decides boundaries on text and says so with [`Session::set_boundary`](crate::generate::Session::set_boundary), before the
    /// next token is drawn.
    pub boundaries_by_caller: bool,
    /// Filters applied after the temperature.
    pub filters: Filters,
    /// Seed of the draws.
    pub seed: u64,
    /// Stream of the draws: a hash of what is generated, never of the batch row.
    pub stream: u64,
    /// Most tokens to generate, at least 1.
    pub max_new_tokens: usize,
    /// Ids that end the sequence; the end id is part of the output.
    pub stop_ids: Arc<[u32]>,
    /// Ids that are never drawn.
    pub banned: Arc<Banned>,
}

impl Request {
    /// Refuses what no session of a model with `positions` positions can run.
    pub fn check(&self, positions: usize) -> Result<()> {
        let argument = |option, found: usize, allowed: &str| Error::Argument { option, found: found.to_string(), allowed: allowed.into() };
        if self.prompt.is_empty() {
            return Err(argument("prompt", 0, "give at least one token id"));
        }
        if self.max_new_tokens == 0 {
            return Err(argument("max_new_tokens", 0, "give at least 1"));
        }
        if self.prompt.len() >= positions {
            let allowed = format!("prompt and answer together have {positions} positions in this model");
            return Err(argument("prompt length", self.prompt.len(), &allowed));
        }
        Ok(())
    }
}
