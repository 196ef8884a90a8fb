//! The session of a CUDA device: logits, policy and draw stay there, and the host reads tokens behind it.
//!
//! ```text
//! device   step ─ step ─ step ─ step ─ …            each a replay of one graph
//! host          token ─ token ─ …                   up to AHEAD steps later, from a ring in its own memory
//! ```
//!
//! A sequence that ends (a stop id, a stop string, its last token) is noticed late: what the device drew for it since is thrown away. Requests
//! that need the host for each token (a policy written in Python, boundaries decided on text, a very long window) run on a [`HostSession`]
//! beside it, on the same model; each advance gives one step for every active sequence of both.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use crate::backend::cuda::engine::sampling::{MOST_WINDOW, Wishes};
use crate::backend::cuda::engine::step::{ROWS, Step as DeviceStep};
use crate::backend::cuda::engine::{Cuda, FEW};
use crate::backend::cuda::records;
use crate::controller::{Decision, EntropyThreshold, Fixed, Greedy, StepAware};
use crate::decode::{Decoder, Model, SequenceId};
use crate::error::{Error, Result};
use crate::generate::{Finish, HostSession, Request, Session, Step};
use crate::simd::Table;

/// Steps that the device may be ahead of the host.
const AHEAD: u64 = 4;
/// Records of a row in the ring.
const SLOTS: usize = 16;

/// A sequence in a row of the step.
struct Active {
    number: usize,
    request: Request,
    sequence: SequenceId,
    row: usize,
    started: u64,  // tokens the device was asked for
    position: u64, // tokens the host has
    most: u64,     // tokens it may have
    reserved: usize,
    finished: bool,
}

/// A prompt already in the cache, while queued requests still want it.
struct Prefilled {
    prompt: Arc<[u32]>,
    sequence: SequenceId,
    logits: Arc<[f32]>,
}

/// Where a request runs, by its number here.
#[derive(Clone, Copy)]
enum Place {
    Device,
    Host(usize),
}

/// Sequences on a CUDA device. The step goes before what its graphs name, the model last.
pub struct DeviceSession {
    step: Option<DeviceStep>,
    host: Option<HostSession<Cuda>>,
    decoder: Decoder<Cuda>,
    table: &'static Table,
    batch_size: usize,
    places: Vec<Place>,
    numbers: Vec<usize>, // of the host's requests
    queue: VecDeque<(usize, Request)>,
    active: Vec<Active>,
    prefilled: Option<Prefilled>,
    model: Arc<Model<Cuda>>,
}

impl Drop for DeviceSession {
    fn drop(&mut self) {
        // Steps under way still write into the ring, which goes with this.
        if self.step.as_ref().is_none_or(DeviceStep::comes_to_rest) {
            let _ = self.model.backend.synchronize(); // a device that fails now is not waited for
        } else {
            // A device that does not come to an end would be waited for if anything it uses were freed.
            let decoder = mem::replace(&mut self.decoder, Decoder::new(Arc::clone(&self.model)));
            mem::forget((self.step.take(), self.host.take(), decoder, Arc::clone(&self.model)));
        }
    }
}

impl DeviceSession {
    /// A session that decodes up to `batch_size` sequences together, at most eight on the device; `table` serves those that need the host.
    pub fn new(model: Arc<Model<Cuda>>, table: &'static Table, batch_size: usize) -> Result<Self> {
        if batch_size == 0 {
            return Err(Error::Argument { option: "batch_size", found: "0".into(), allowed: "give at least 1".into() });
        }
        let decoder = Decoder::new(Arc::clone(&model));
        let (places, numbers, queue, active) = (Vec::new(), Vec::new(), VecDeque::new(), Vec::new());
        Ok(Self { step: None, host: None, decoder, table, batch_size, places, numbers, queue, active, prefilled: None, model })
    }

    /// Graph nodes and edges of the step that was launched last.
    pub fn shape(&self) -> Option<crate::backend::cuda::graph::Shape> {
        self.step.as_ref().and_then(DeviceStep::shape)
    }

    /// Rows of the step: the smallest that hold the batch, eight at most.
    fn rows(&self) -> usize {
        ROWS.into_iter().find(|&rows| rows >= self.batch_size).unwrap_or(ROWS[ROWS.len() - 1])
    }

    fn step(&mut self) -> Result<&mut DeviceStep> {
        if self.step.is_none() {
            self.step = Some(self.model.device_step(self.rows(), SLOTS)?);
        }
        self.step.as_mut().ok_or_else(|| Error::config("the step", "it is not there"))
    }

    /// The prompt of the next request in the cache, alone or as a fork; None if `go_on` said no.
    fn prefill(&mut self, prompt: &Arc<[u32]>, go_on: &mut dyn FnMut() -> bool) -> Result<Option<Prefilled>> {
        match self.prefilled.take() {
            Some(ready) if Arc::ptr_eq(&ready.prompt, prompt) => return Ok(Some(ready)),
            Some(unused) => self.decoder.remove(unused.sequence),
            None => {}
        }
        let Some(sequence) = self.decoder.prefill_while(prompt, go_on)? else { return Ok(None) };
        Ok(Some(Prefilled { prompt: Arc::clone(prompt), sequence, logits: self.decoder.logits(0).into() }))
    }

    /// Gives a free row to the next request; false if `go_on` said no.
    fn admit(&mut self, row: usize, go_on: &mut dyn FnMut() -> bool) -> Result<bool> {
        let Some((number, request)) = self.queue.pop_front() else { return Ok(true) };
        let Some(ready) = self.prefill(&request.prompt, go_on)? else {
            self.queue.push_front((number, request));
            return Ok(false);
        };
        let logits = Arc::clone(&ready.logits);
        let wanted_again = self.queue.front().is_some_and(|(_, next)| Arc::ptr_eq(&next.prompt, &request.prompt));
        let sequence = if wanted_again {
            let fork = self.decoder.fork(ready.sequence)?;
            self.prefilled = Some(ready);
            fork
        } else {
            ready.sequence
        };
        let length = request.prompt.len();
        let positions = self.model.spec.max_positions;
        let most = request.max_new_tokens.min(positions - length) as u64;
        let wishes = wishes(&request, self.model.spec.vocab_size)?;
        let model = Arc::clone(&self.model);
        self.step()?;
        let mut active = Active { number, request, sequence, row, started: 1, position: 0, most, reserved: 0, finished: false };
        self.reserve(&mut active)?;
        self.step()?.begin(&model.backend, row, &wishes, &logits, length)?;
        self.active.push(active);
        Ok(true)
    }

    /// Pages for what the device may write before the host looks again.
    fn reserve(&mut self, active: &mut Active) -> Result<()> {
        let length = active.request.prompt.len();
        let last = (length + active.position as usize + SLOTS).min(self.model.spec.max_positions - 1).max(length);
        if active.reserved > last {
            return Ok(());
        }
        let model = Arc::clone(&self.model);
        let first = active.reserved.max(length);
        // A page at a time, and the next one before the last is full.
        let last = last.next_multiple_of(64);
        let Some(step) = self.step.as_mut() else { return Ok(()) };
        step.reserve(&model.backend, active.row, self.decoder.cache_mut(active.sequence)?, first, last)?;
        active.reserved = last + 1;
        Ok(())
    }

    /// Takes finished sequences out of their rows and fills these from the queue; false if `go_on` said no.
    fn refill(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<bool> {
        let (ended, active): (Vec<_>, Vec<_>) = std::mem::take(&mut self.active).into_iter().partition(|a| a.finished);
        self.active = active;
        for ended in ended {
            if let Some(step) = &mut self.step {
                step.end(&self.model.backend, ended.row)?;
            }
            self.decoder.remove(ended.sequence);
        }
        let most = self.rows().min(self.batch_size);
        while self.active.len() < most && !self.queue.is_empty() {
            let row = (0..most).find(|row| self.active.iter().all(|a| a.row != *row)).unwrap_or(0);
            if !self.admit(row, go_on)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Keeps the device busy: steps until it is [`AHEAD`] of the host, or every sequence has all its tokens on the way.
    fn launch(&mut self) -> Result<()> {
        loop {
            let wanted = self.active.iter().any(|a| !a.finished && a.started < a.most && a.started < a.position + AHEAD);
            let held = self.active.iter().any(|a| self.step.as_ref().is_none_or(|s| s.room(a.row, a.started) == 0));
            if !wanted || held {
                return Ok(());
            }
            let mut active = std::mem::take(&mut self.active);
            let reserved = active.iter_mut().try_for_each(|a| self.reserve(a));
            self.active = active;
            reserved?;
            let last = self.active.iter().map(|a| a.request.prompt.len() + a.started as usize).max().unwrap_or(0);
            let Some(first) = self.active.first() else { return Ok(()) };
            let sequence = first.sequence;
            let model = Arc::clone(&self.model);
            let (Some(step), cache) = (&mut self.step, self.decoder.cache_mut(sequence)?) else { return Ok(()) };
            model.with_network(|network| step.launch(&model.backend, network, cache, last))?;
            for active in &mut self.active {
                active.started += 1;
            }
        }
    }

    /// Waits for the next token of each row.
    fn collect(&mut self) -> Result<Vec<Step>> {
        let positions = self.model.spec.max_positions;
        let Some(step) = &mut self.step else { return Ok(Vec::new()) };
        let mut steps = Vec::with_capacity(self.active.len());
        for active in &mut self.active {
            let outcome = step.wait(&self.model.backend, active.row, active.position, &|| format!("sequence {}", active.number))?;
            let request = &active.request;
            if let Some(problem) = outcome.fault() {
                return Err(Error::config(format!("logits of token {} of sequence {}", active.position, active.number), problem));
            }
            let position = active.position as usize;
            let length = request.prompt.len() + position + 1;
            let finish = if request.stop_ids.contains(&outcome.token) {
                Some(Finish::Stop)
            } else if position + 1 >= request.max_new_tokens || length >= positions {
                Some(Finish::Length)
            } else {
                None
            };
            steps.push(Step {
                request: active.number,
                position,
                token: outcome.token,
                logprob: outcome.logprob,
                sampling_logprob: outcome.sampling_logprob,
                decision: Decision {
                    temperature: outcome.temperature,
                    entropy: outcome.entropy,
                    step_entropy: outcome.step_entropy,
                    global_mean: outcome.global_mean,
                    threshold: outcome.threshold,
                    boundary: outcome.flags & 1 != 0,
                    uncertain: outcome.flags & 2 != 0,
                    step_index: outcome.step_index,
                },
                finish,
            });
            active.position += 1;
            active.finished = finish.is_some();
        }
        Ok(steps)
    }
}

/// Policy and filters as the device takes them; None for those that need the host.
fn device_policy(request: &Request) -> Option<records::Policy> {
    let policy: &dyn Any = request.policy.as_ref();
    let mut found = records::Policy { window: 1, ..records::Policy::default() };
    if let Some(p) = policy.downcast_ref::<StepAware>() {
        (found.kind, found.t_low, found.t_high, found.tau_0) = (records::Policy::RESET, p.t_low, p.t_high, p.tau_0);
        (found.window, found.include_current) = (p.window as u32, u32::from(p.include_current));
    } else if let Some(p) = policy.downcast_ref::<EntropyThreshold>() {
        (found.kind, found.t_low, found.t_high, found.tau_0) = (records::Policy::THRESHOLD, p.t_low, p.t_high, p.tau_0);
    } else if let Some(p) = policy.downcast_ref::<Fixed>() {
        found.t_high = p.temperature;
    } else if !policy.is::<Greedy>() {
        return None;
    }
    let filters = &request.filters;
    (found.top_p, found.min_p) = (filters.top_p().unwrap_or(1.0), filters.min_p().unwrap_or(0.0));
    found.top_k = u32::try_from(filters.top_k().unwrap_or(0)).unwrap_or(u32::MAX);
    (found.seed, found.stream) = (request.seed, request.stream);
    (!request.boundaries_by_caller && found.window as usize <= MOST_WINDOW).then_some(found)
}

fn wishes(request: &Request, vocab: usize) -> Result<Wishes> {
    let policy = device_policy(request).ok_or_else(|| Error::config("the policy", "it needs the host"))?;
    let mut banned = vec![u32::MAX; vocab.div_ceil(32)];
    for id in request.banned.allowed(vocab).flatten() {
        banned[id / 32] &= !(1 << (id % 32));
    }
    let mut flags = vec![0; vocab];
    for (ids, bit) in [(request.boundaries.newline_ids(), 1), (request.boundaries.double_newline_ids(), 2)] {
        for &id in ids.iter().filter(|&&id| (id as usize) < vocab) {
            flags[id as usize] |= bit;
        }
    }
    Ok(Wishes { policy, banned, flags })
}

impl Session for DeviceSession {
    fn add(&mut self, request: Request) -> Result<usize> {
        let number = self.places.len();
        if device_policy(&request).is_some() {
            request.check(self.model.spec.max_positions)?;
            self.places.push(Place::Device);
            self.queue.push_back((number, request));
            return Ok(number);
        }
        // More rows would be computed as a prompt's are, in another order of sums: tokens would depend on the batch.
        let batch_size = self.batch_size.min(FEW);
        let host = match &mut self.host {
            Some(host) => host,
            None => self.host.insert(HostSession::new(Decoder::new(Arc::clone(&self.model)), self.table, batch_size)?),
        };
        let there = host.add(request)?;
        self.places.push(Place::Host(there));
        self.numbers.push(number);
        Ok(number)
    }

    fn advance(&mut self, go_on: &mut dyn FnMut() -> bool) -> Result<Vec<Step>> {
        if !self.refill(go_on)? {
            return Ok(Vec::new());
        }
        self.launch()?;
        let mut steps = self.collect()?;
        self.launch()?;
        if let Some(host) = &mut self.host {
            steps.extend(host.advance(go_on)?.into_iter().map(|step| Step { request: self.numbers[step.request], ..step }));
        }
        Ok(steps)
    }

    fn set_boundary(&mut self, request: usize, boundary: bool) {
        if let (Some(Place::Host(there)), Some(host)) = (self.places.get(request), &mut self.host) {
            host.set_boundary(*there, boundary);
        }
    }

    fn finish(&mut self, request: usize) {
        if let (Some(Place::Host(there)), Some(host)) = (self.places.get(request), &mut self.host) {
            return host.finish(*there);
        }
        if let Some(active) = self.active.iter_mut().find(|a| a.number == request) {
            active.finished = true;
        }
        self.queue.retain(|(number, _)| *number != request);
    }

    fn remaining(&self) -> usize {
        let here = self.queue.len() + self.active.iter().filter(|a| !a.finished).count();
        here + self.host.as_ref().map_or(0, HostSession::remaining)
    }
}
