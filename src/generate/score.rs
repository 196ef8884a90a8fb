//! Teacher forcing: what the model and a policy say about tokens that are given, not drawn.

use crate::backend::Backend;
use crate::controller::Boundaries;
use crate::controller::Controller;
use crate::controller::Policy;
use crate::decode::Model;
use crate::error::Error;
use crate::error::Result;
use crate::generate::Step;
use crate::logits::LogitStats;
use crate::sampler::GREEDY_TEMPERATURE;
use crate::simd::Table;

/// One step for each token of `ids` from index `prompt_len` on, as if it had been drawn: log-probabilities, entropy, and the decision of
/// `policy`. `pause` is called between chunks of positions and may end the work.
///
/// # Errors
/// `Argument` for a prompt length outside `1..ids.len()` or ids outside the vocabulary; whatever `pause` returns.
pub fn score<B: Backend, E: From<Error>>(
    model: &Model<B>,
    table: &'static Table,
    ids: &[u32],
    prompt_len: usize,
    policy: Box<dyn Policy>,
    boundaries: Boundaries,
    mut pause: impl FnMut() -> Result<(), E>,
) -> Result<Vec<Step>, E> {
    if !(1..ids.len()).contains(&prompt_len) {
        let allowed =
            format!("of {} tokens, at least one has to come before the first that is scored, and one has to be scored", ids.len());
        return Err(Error::Argument { option: "prompt_length", found: prompt_len.to_string(), allowed }.into());
    }
    model.check_ids(0, ids)?;
    let mut controller = Controller::new(policy, boundaries);
    let mut scaled = Vec::new();
    let mut steps = Vec::with_capacity(ids.len() - prompt_len);
    // The last token's own logits would say what comes after it: nothing is asked of them.
    model.visit_logits(&ids[..ids.len() - 1], |position, logits| {
        pause()?;
        for (row, logits) in logits.chunks_exact(model.spec.vocab_size).enumerate() {
            let index = position + row + 1;
            if index >= prompt_len {
                steps.push(step(table, &mut controller, &mut scaled, logits, index - prompt_len, ids[index])?);
            }
        }
        Ok::<(), E>(())
    })?;
    Ok(steps)
}

fn step(table: &Table, controller: &mut Controller, scaled: &mut Vec<f32>, logits: &[f32], position: usize, token: u32) -> Result<Step> {
    let broken = |problem| Error::config(format!("logits of token {position}"), format!("{problem}; the weights or scales overflow"));
    let stats = LogitStats::of(table, logits).map_err(broken)?;
    let decision = controller.step(stats.entropy as f32)?;
    controller.observe(token);
    let logit = logits[token as usize];
    let temperature = decision.temperature;
    let sampling_logprob = if temperature <= GREEDY_TEMPERATURE {
        if token == stats.argmax { 0.0 } else { f64::NEG_INFINITY }
    } else {
        let scale = |x: f32| (f64::from(x) / temperature) as f32;
        scaled.clear();
        scaled.extend(logits.iter().map(|&x| scale(x)));
        LogitStats::of(table, scaled).map_err(broken)?.logprob(scale(logit))
    };
    Ok(Step { request: 0, position, token, logprob: stats.logprob(logit), sampling_logprob, decision, finish: None })
}
