//! What a caller asks of one sequence.

use std::sync::Arc;

use crate::controller::Boundaries;
use crate::controller::Policy;
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
