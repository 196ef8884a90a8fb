//! Times decode steps on a CUDA device as generation runs them: graphs, sampling included, the host reading behind.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use crate::backend::cuda::engine::Cuda;
use crate::backend::cuda::engine::sampling::Wishes;
use crate::backend::cuda::engine::step::{ROWS, Step};
use crate::backend::cuda::records::Policy;
use crate::decode::{Decoder, Model};
use crate::error::{Error, Result};
use crate::pipeline::synthetic::Timing;

/// Steps that the device may be ahead of the host, and records that the ring holds.
const AHEAD: u64 = 4;
const SLOTS: usize = 16;
/// Steps before those that are timed: a chip that was idle takes some tens of milliseconds to reach its clocks.
const WARM_UP: usize = 32;

/// Seconds between the tokens of `batch` sequences that already hold `context` positions, `steps` of them; temperatures are `ReSET`'s or fixed.
/// Each step gives one token to each sequence, entropy, policy and draw included.
pub fn time_device(model: &Arc<Model<Cuda>>, batch: usize, context: usize, steps: usize, reset: bool) -> Result<Timing> {
    let allowed = || format!("{ROWS:?}");
    if !ROWS.contains(&batch) {
        return Err(Error::Argument { option: "batch", found: batch.to_string(), allowed: allowed() });
    }
    let context = context.max(1);
    let last = context + WARM_UP + steps + SLOTS;
    model.check_ids(last, &[0])?;
    let mut step = model.device_step(batch, SLOTS)?;
    let mut decoder = Decoder::new(Arc::clone(model));
    let timed = run(model, &mut step, &mut decoder, [batch, context, steps, last], reset);
    if timed.is_err() && !step.comes_to_rest() {
        // A device that does not come to an end would be waited for if anything it uses were freed.
        mem::forget((step, decoder, Arc::clone(model)));
    }
    Ok(Timing::new(model, timed?, batch, context + WARM_UP))
}

/// Seconds between the tokens.
fn run(
    model: &Arc<Model<Cuda>>,
    step: &mut Step,
    decoder: &mut Decoder<Cuda>,
    [batch, context, steps, last]: [usize; 4],
    reset: bool,
) -> Result<Vec<f64>> {
    let (spec, backend) = (&model.spec, &model.backend);
    let mut sequences = Vec::new();
    for row in 0..batch {
        let sequence = decoder.start();
        step.reserve(backend, row, decoder.cache_mut(sequence)?, 0, last)?;
        let policy = Policy {
            kind: if reset { Policy::RESET } else { Policy::FIXED },
            t_low: 0.3,
            t_high: if reset { 1.0 } else { 0.6 },
            tau_0: 0.5,
            top_p: 1.0, // logits of random weights are flat: a filter would have to look at nearly all of them, as no model's has
            seed: 1,
            stream: row as u64,
            window: 32,
            ..Policy::default()
        };
        let wishes = Wishes { policy, banned: vec![0; spec.vocab_size.div_ceil(32)], flags: vec![0; spec.vocab_size] };
        step.begin(backend, row, &wishes, &vec![0.0; spec.vocab_size], context)?;
        sequences.push(sequence);
    }
    let (mut started, mut seconds) = (1, Vec::with_capacity(steps));
    let mut before = Instant::now();
    for token in 0..(WARM_UP + steps) as u64 {
        while started < token + AHEAD {
            let cache = decoder.cache_mut(sequences[0])?.clone();
            model.with_network(|network| step.launch(backend, network, &cache, last))?;
            started += 1;
        }
        for row in 0..batch {
            let whom = || format!("row {row} of {batch}");
            let outcome = step.wait(backend, row, token, &whom)?;
            if let Some(problem) = outcome.fault() {
                return Err(Error::config(format!("logits of token {token} of {}", whom()), problem));
            }
        }
        if token >= WARM_UP as u64 {
            seconds.push(before.elapsed().as_secs_f64());
        }
        before = Instant::now();
    }
    backend.synchronize()?;
    Ok(seconds)
}
