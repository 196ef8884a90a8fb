//! Times steps of generation on the host: decode, entropy, policy and draw, as [`HostSession`] runs them.

use std::sync::Arc;
use std::time::Instant;

use crate::backend::Backend;
use crate::controller::{Boundaries, Policy};
use crate::decode::{Decoder, Model};
use crate::error::Result;
use crate::generate::{HostSession, Request, Session};
use crate::sampler::{Banned, Filters};
use crate::simd::Table;

/// Steps before the first that counts.
pub const WARM_UP: usize = 3;

/// Seconds of each of `steps` steps, after [`WARM_UP`] others, of `batch` sequences that already hold `context` positions. A step gives one
/// token to each sequence; nothing is filtered, as random weights have flat logits, which no filter would shorten.
pub fn time_steps<B: Backend>(
    model: &Arc<Model<B>>,
    table: &'static Table,
    (batch, context, steps): (usize, usize, usize),
    policy: &dyn Policy,
) -> Result<Vec<f64>> {
    let mut session = HostSession::new(Decoder::new(Arc::clone(model)), table, batch)?;
    for row in 0..batch {
        let request = Request {
            prompt: [0].into(),
            policy: policy.duplicate()?,
            boundaries: Boundaries::default(),
            boundaries_by_caller: false,
            filters: Filters::default(),
            seed: 1,
            stream: row as u64,
            max_new_tokens: WARM_UP + steps,
            stop_ids: [].into(),
            banned: Arc::new(Banned::none()),
        };
        session.start_blank(request, context)?;
    }
    let mut seconds = Vec::with_capacity(steps);
    for step in 0..WARM_UP + steps {
        let start = Instant::now();
        session.advance(&mut || true)?;
        if step >= WARM_UP {
            seconds.push(start.elapsed().as_secs_f64());
        }
    }
    Ok(seconds)
}
