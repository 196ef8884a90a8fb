//! What follows the logits, for the rows of a step: policies, filters and draws with their state on the device, tokens through the ring.

use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::engine::queue::{Queue, Sampling};
use crate::backend::cuda::plan::CHUNK;
use crate::backend::cuda::records::{DECISION_BYTES, Outcome, PARTIAL_BYTES, Policy};
use crate::backend::cuda::ring::Ring;
use crate::error::Result;

/// Largest window of a policy that the device keeps.
pub const MOST_WINDOW: usize = 1024;
const POLICY_WORDS: usize = size_of::<Policy>() / 8;
const OUTCOME_WORDS: usize = size_of::<Outcome>() / 8;
const STATE_WORDS: usize = 8;

/// What a sequence brings: its policy, and which tokens are banned, newlines or blank lines.
#[derive(Clone, Debug)]
pub struct Wishes {
    /// Policy, filters, seed and stream.
    pub policy: Policy,
    /// Bit `i` of word `w`: id `32 w + i` is never drawn.
    pub banned: Vec<u32>,
    /// By id: 1 a single newline, 2 a blank line.
    pub flags: Vec<u8>,
}

/// Arrays over the rows of a step.
#[derive(Debug)]
pub struct Sampler {
    rows: usize,
    vocab: usize,
    ring: Ring,
    /// What each row was last given, so that samples of one request are not copied anew.
    given: Vec<Option<(Vec<u32>, Vec<u8>)>>,
    logits: Buffer<f32>,
    banned: Buffer<u32>,
    flags: Buffer<u8>,
    policies: Buffer<u64>,
    states: Buffer<u64>,
    windows: Buffer<f64>,
    decisions: Buffer<u8>,
    partials: Buffer<u8>,
    arrivals: Buffer<u32>,
    candidates: Buffer<f32>,
    counts: Buffer<u32>,
    tails: Buffer<f64>,
    scores: Buffer<f64>,
    winners: Buffer<u32>,
    masses: Buffer<f64>,
    tokens: Buffer<u32>,
}

impl Sampler {
    /// Idle rows, whose sequences may run `slots` tokens ahead of the host.
    pub fn new(queue: &Queue, rows: usize, vocab: usize, slots: usize) -> Result<Self> {
        let (device, stream) = (&queue.device, &queue.stream);
        let chunks = vocab.div_ceil(CHUNK);
        let idle = Policy { kind: Policy::IDLE, ..Policy::default() };
        Ok(Self {
            rows,
            vocab,
            ring: Ring::new(device, slots, rows, OUTCOME_WORDS)?,
            given: vec![None; rows],
            logits: Buffer::zeros(device, stream, rows * vocab)?,
            banned: Buffer::zeros(device, stream, rows * vocab.div_ceil(32))?,
            flags: Buffer::zeros(device, stream, rows * vocab)?,
            policies: Buffer::from_slice(device, stream, &idle.words().repeat(rows))?,
            states: Buffer::zeros(device, stream, rows * STATE_WORDS)?,
            windows: Buffer::zeros(device, stream, rows * MOST_WINDOW)?,
            decisions: Buffer::zeros(device, stream, rows * DECISION_BYTES)?,
            partials: Buffer::new(device, rows * chunks * PARTIAL_BYTES)?,
            arrivals: Buffer::zeros(device, stream, rows)?,
            candidates: Buffer::new(device, rows * vocab)?,
            counts: Buffer::zeros(device, stream, rows)?,
            tails: Buffer::new(device, rows * chunks)?,
            scores: Buffer::new(device, rows * chunks)?,
            winners: Buffer::new(device, rows * chunks)?,
            masses: Buffer::new(device, rows * chunks * 2)?,
            tokens: Buffer::zeros(device, stream, rows)?,
        })
    }

    /// Where the head writes.
    pub fn logits(&self) -> u64 {
        self.logits.pointer()
    }

    /// Where the next step reads its tokens.
    pub fn tokens(&self) -> u64 {
        self.tokens.pointer()
    }

    /// The way back.
    pub fn ring(&self) -> &Ring {
        &self.ring
    }

    /// The arrays from row `first` on; `positions` are the step's.
    fn arrays(&self, first: usize, positions: u64) -> Sampling {
        let chunks = self.vocab.div_ceil(CHUNK);
        Sampling {
            logits: self.logits.pointer_at(first * self.vocab),
            banned: self.banned.pointer_at(first * self.vocab.div_ceil(32)),
            flags: self.flags.pointer_at(first * self.vocab),
            policies: self.policies.pointer_at(first * POLICY_WORDS),
            states: self.states.pointer_at(first * STATE_WORDS),
            windows: self.windows.pointer_at(first * MOST_WINDOW),
            most_window: MOST_WINDOW,
            decisions: self.decisions.pointer_at(first * DECISION_BYTES),
            partials: self.partials.pointer_at(first * chunks * PARTIAL_BYTES),
            arrivals: self.arrivals.pointer_at(first),
            candidates: self.candidates.pointer_at(first * self.vocab),
            counts: self.counts.pointer_at(first),
            tails: self.tails.pointer_at(first * chunks),
            scores: self.scores.pointer_at(first * chunks),
            winners: self.winners.pointer_at(first * chunks),
            masses: self.masses.pointer_at(2 * first * chunks),
            tokens: self.tokens.pointer_at(first),
            positions: positions + 4 * first as u64,
            ring: self.ring.pointer() + 8 * (first * OUTCOME_WORDS) as u64,
            slots: self.ring.slots() as usize,
            ring_rows: self.rows,
            vocab: self.vocab,
        }
    }

    /// One token for every row that is not idle.
    pub fn launch(&self, queue: &Queue, positions: u64) -> Result<()> {
        queue.sample(&self.arrays(0, positions), self.rows)
    }

    /// Gives `row` to a sequence and draws its first token from `logits`. The device must have no step of the row before it.
    pub fn begin(&mut self, queue: &Queue, row: usize, wishes: &Wishes, logits: &[f32], positions: u64) -> Result<()> {
        let stream = &queue.stream;
        if self.given[row].as_ref().is_none_or(|(banned, flags)| (banned, flags) != (&wishes.banned, &wishes.flags)) {
            self.given[row] = None;
            self.banned.upload(stream, row * wishes.banned.len(), &wishes.banned)?;
            self.flags.upload(stream, row * self.vocab, &wishes.flags)?;
            self.given[row] = Some((wishes.banned.clone(), wishes.flags.clone()));
        }
        self.policies.upload(stream, row * POLICY_WORDS, &wishes.policy.words())?;
        self.states.upload(stream, row * STATE_WORDS, &[0; STATE_WORDS])?;
        self.logits.upload(stream, row * self.vocab, logits)?;
        self.ring.restart(row, 0);
        queue.sample(&self.arrays(row, positions), 1)
    }

    /// Makes `row` idle, after the steps that are under way.
    pub fn end(&mut self, queue: &Queue, row: usize) -> Result<()> {
        let idle = Policy { kind: Policy::IDLE, ..Policy::default() };
        self.policies.upload(&queue.stream, row * POLICY_WORDS, &idle.words())
    }

    /// The next token of `row`, if it has arrived.
    pub fn take(&mut self, row: usize) -> Result<Option<Outcome>> {
        let mut words = [0; OUTCOME_WORDS];
        Ok(self.ring.take(row, &mut words)?.then(|| Outcome::of(words)))
    }
}
