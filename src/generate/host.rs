//! The session that runs controller and sampler on the host.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::backend::Backend;
use crate::backend::cpu::Cpu;
use crate::controller::{Controller, Decision};
use crate::decode::{Decoder, SequenceId};
use crate::error::Error;
use crate::error::Result;
use crate::generate::{Finish, Request, Session, Step};
use crate::logits::LogitStats;
use crate::sampler::{self, Draw, DrawKey};
use crate::simd::Table;
use crate::simd::logits::Partial;

/// A sequence in the batch.
struct Active {
    number: usize,
    request: Request,
    sequence: SequenceId,
    controller: Controller,
    position: usize,
    /// The token to feed next; none right after prefill, whose logits wait in `first_logits`.
    last: Option<u32>,
    first_logits: Arc<[f32]>,
    finished: bool,
}

/// A prompt already in the cache, while queued requests still want it.
struct Prefilled {
    prompt: Arc<[u32]>,
    sequence: SequenceId,
    logits: Arc<[f32]>,
}

/// Where the logits of an active sequence are.
enum RowLogits {
    /// Row of the decoder's last step.
    Decoded(usize),
    /// Kept since its prompt was read.
    Prefilled(Arc<[f32]>),
}

/// The next token of an active sequence, while it is chosen.
struct Choice {
    stats: LogitStats,
    decision: Decision,
    draw: Option<Result<Draw>>,
}

/// Sequences on a [`Decoder`], with temperature and draw on the host.
pub struct HostSession<B: Backend = Cpu> {
    decoder: Decoder<B>,
    table: &'static Table,
    batch_size: usize,
    added: usize,
    queue: VecDeque<(usize, Request)>,
    active: Vec<Active>,
    prefilled: Option<Prefilled>,
    feed: Vec<(SequenceId, u32)>,
    partials: Vec<Partial>, // room of the entropy pass
}

impl<B: Backend> HostSession<B> {
    /// A session that decodes up to `batch_size` sequences together; `table` runs the passes over the vocabulary.
    pub fn new(decoder: Decoder<B>, table: &'static Table, batch_size: usize) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::Argument { option: "batch_size", found: "0".into(), allowed: "give at least 1".into() });
        }
        Ok(Self {
            decoder,
            table,
            batch_size,
            added: 0,
            queue: VecDeque::new(),
            active: Vec::new(),
            prefilled: None,
            feed: Vec::new(),
            partials: Vec::new(),
        })
    }

    /// Prefills the next request of the queue, or forks the prompt that is already there; None if `go_on` said no.
    fn admit(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<Option<Active>> {
        let Some((number, request)) = self.queue.pop_front() else { return Ok(None) };
        let ready = match self.prefilled.take() {
            Some(ready) if Arc::ptr_eq(&ready.prompt, &request.prompt) => ready,
            other => {
                if let Some(unused) = other {
                    self.decoder.remove(unused.sequence);
                }
                let Some(sequence) = self.decoder.prefill_while(&request.prompt, go_on)? else {
                    self.queue.push_front((number, request));
                    return Ok(None);
                };
                let logits = self.decoder.logits(0).into();
                Prefilled { prompt: request.prompt.clone(), sequence, logits }
            }
        };
        let first_logits = ready.logits.clone();
        let wanted_again = self.queue.front().is_some_and(|(_, next)| Arc::ptr_eq(&next.prompt, &request.prompt));
        let sequence = if wanted_again {
            let fork = self.decoder.fork(ready.sequence)?;
            self.prefilled = Some(ready);
            fork
        } else {
            ready.sequence
        };
        let controller = Controller::new(request.policy.duplicate()?, request.boundaries.clone());
        Ok(Some(Active { number, request, sequence, controller, position: 0, last: None, first_logits, finished: false }))
    }

    /// Puts a sequence into the batch whose cache holds `context` positions of zeros, for measurements.
    pub(super) fn start_blank(&mut self, request: Request, context: usize) -> Result<()> {
        let number = self.added;
        self.added += 1;
        let sequence = self.decoder.start_blank(context)?;
        let controller = Controller::new(request.policy.duplicate()?, request.boundaries.clone());
        let (last, first_logits) = (Some(0), Arc::from([]));
        self.active.push(Active { number, request, sequence, controller, position: 0, last, first_logits, finished: false });
        Ok(())
    }

    /// Takes finished sequences out of the batch and fills it from the queue; false if `go_on` said no.
    fn refill(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<bool> {
        let decoder = &mut self.decoder;
        self.active.retain(|active| {
            if active.finished {
                decoder.remove(active.sequence);
            }
            !active.finished
        });
        while self.active.len() < self.batch_size && !self.queue.is_empty() {
            let Some(active) = self.admit(go_on)? else { return Ok(false) };
            self.active.push(active);
        }
        Ok(true)
    }

    /// Temperature and token of every active sequence.
    fn choose(&mut self) -> Result<Vec<(Decision, Draw)>> {
        let table = self.table;
        let mut fed = 0;
        let rows = self.active.iter().map(|active| {
            fed += usize::from(active.last.is_some());
            if active.last.is_some() { RowLogits::Decoded(fed - 1) } else { RowLogits::Prefilled(active.first_logits.clone()) }
        });
        let rows: Vec<RowLogits> = rows.collect();
        let rows: Vec<&[f32]> = rows
            .iter()
            .map(|row| match row {
                RowLogits::Decoded(row) => self.decoder.logits(*row),
                RowLogits::Prefilled(logits) => logits,
            })
            .collect();
        // The entropy pass is all that the policy costs.
        let pool = self.decoder.model().backend.pool();
        let vocab = self.decoder.model().spec.vocab_size;
        let mut choices = Vec::with_capacity(rows.len());
        for (active, stats) in self.active.iter_mut().zip(sampler::statistics(pool, table, &rows, &mut self.partials)) {
            let stats = stats.map_err(|problem| {
                let what = format!("logits of token {} of sequence {}", active.position, active.number);
                Error::config(what, format!("{problem}; the weights or scales of this checkpoint overflow"))
            })?;
            let decision = active.controller.step(stats.entropy as f32)?;
            choices.push(Choice { stats, decision, draw: None });
        }
        let draw = |first: usize, choices: &mut [Choice]| {
            for (choice, index) in choices.iter_mut().zip(first..) {
                let Active { request, position, .. } = &self.active[index];
                let key = DrawKey { seed: request.seed, stream: request.stream, position: *position as u32 };
                let (stats, temperature) = (&choice.stats, choice.decision.temperature);
                choice.draw = Some(sampler::draw(pool, table, rows[index], stats, temperature, &request.filters, key, &request.banned));
            }
        };
        // One sequence per thread needs fewer joins than all threads on one sequence after the other.
        if choices.len() >= pool.threads() && choices.len() * vocab >= sampler::SHARED {
            pool.fill_items(&mut choices, draw);
        } else {
            draw(0, &mut choices);
        }
        let done = |Choice { decision, draw, .. }| Ok((decision, draw.expect("every sequence has its draw")?));
        choices.into_iter().map(done).collect()
    }
}

impl<B: Backend> Session for HostSession<B> {
    fn add(&mut self, request: Request) -> Result<usize> {
        request.check(self.decoder.model().spec.max_positions)?;
        let number = self.added;
        self.added += 1;
        self.queue.push_back((number, request));
        Ok(number)
    }

    fn advance(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<Vec<Step>> {
        if !self.refill(go_on)? {
            return Ok(Vec::new());
        }
        self.feed.clear();
        self.feed.extend(self.active.iter().filter_map(|a| a.last.map(|token| (a.sequence, token))));
        if !self.feed.is_empty() {
            self.decoder.decode(&self.feed)?;
        }
        let positions = self.decoder.model().spec.max_positions;
        let chosen = self.choose()?;
        let mut steps = Vec::with_capacity(chosen.len());
        for (active, (decision, draw)) in self.active.iter_mut().zip(chosen) {
            let request = &active.request;
            active.controller.observe(draw.token);
            let length = request.prompt.len() + active.position + 1;
            let finish = if request.stop_ids.contains(&draw.token) {
                Some(Finish::Stop)
            } else if active.position + 1 >= request.max_new_tokens || length >= positions {
                Some(Finish::Length)
            } else {
                None
            };
            steps.push(Step {
                request: active.number,
                position: active.position,
                token: draw.token,
                logprob: draw.logprob,
                sampling_logprob: draw.sampling_logprob,
                decision,
                finish,
            });
            active.position += 1;
            active.first_logits = Arc::new([]);
            active.last = Some(draw.token);
            active.finished = finish.is_some();
        }
        Ok(steps)
    }

    fn set_boundary(&mut self, request: usize, boundary: bool) {
        if let Some(active) = self.active.iter_mut().find(|a| a.number == request) {
            active.controller.observe_boundary(boundary);
        }
    }

    fn finish(&mut self, request: usize) {
        if let Some(active) = self.active.iter_mut().find(|a| a.number == request) {
            active.finished = true;
        }
        self.queue.retain(|(number, _)| *number != request);
    }

    fn remaining(&self) -> usize {
        self.queue.len() + self.active.iter().filter(|a| !a.finished).count()
    }
}
