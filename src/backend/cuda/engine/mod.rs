//! Models on a device.
//!
//! [`Cuda`] has the operations of a block one by one, each a launch or two: prompts, whole passes, calibration, and decode steps whose policy is
//! the host's run on them. A decode step that needs no host is a [`step::Step`]: the same kernels, with operands made where their inputs are
//! made, layers of one input stacked, logits, policy and draw on the device, as one graph. Both give the same bits.
//!
//! | file | holds |
//! |---|---|
//! | `queue` | one call for each kernel |
//! | `layers` | linear layers, stacks of them, what they read |
//! | `pages` | keys and values |
//! | `mirror` | small facts of the host, copied when they change |
//! | `step`, `wait` | a decode step as a graph; its tokens, waited for |
//! | `measure` | what a layer costs |
//! | `sampling` | policies, filters and draws of a step's rows |

mod layers;
pub mod measure;
mod mirror;
mod pages;
mod queue;
pub mod sampling;
pub mod step;
mod wait;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::compile::architecture;
use crate::backend::cuda::plan::{self, Form, MOST_GROUP, MOST_HEAD_DIM, PAGE};
use crate::backend::cuda::records::Prepared;
use crate::backend::cuda::runtime::{Places, Runtime};
use crate::backend::cuda::stream::{Event, Stream};
use crate::backend::{Angles, Attention, Backend, Inputs, KvSpec, LinearParts, Row};
use crate::error::{Error, Result};
use crate::parallel::Pool;
use layers::{Feed, Ready};
use mirror::{Constants, Mirror, Room};
use pages::PagePool;
use queue::{Heads, Pages, Queue, Split};

pub use layers::Linear;
pub use pages::Cache;

/// Rows up to which a layer is computed as in a decode step; more are a prompt's. A batch never has more, so that its size changes nothing.
pub const FEW: usize = 16;
/// Rows of a launch, which has one block or more for each.
const MOST_ROWS: usize = 1 << 15;
/// f32 elements of attention's partial sums at a time: 256 MiB.
const MOST_PARTIALS: usize = 64 << 20;

/// A device as a backend.
pub struct Cuda {
    pool: Pool,
    label: String,
    architecture: String,
    state: Mutex<State>,
    pages: Mutex<Option<Arc<PagePool>>>,
}

impl fmt::Debug for Cuda {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cuda").field("device", &self.label).finish_non_exhaustive()
    }
}

/// What one thread at a time puts to use.
struct State {
    queue: Queue,
    norms: Constants,
    ids: Mirror<u32>,
    cos: Mirror<f32>,
    sin: Mirror<f32>,
    positions: Mirror<u32>,
    places: Mirror<u32>,
    tables: Mirror<u32>,
    operand: Room<u32>,
    row_scales: Room<f32>,
    split_sums: Room<f32>,
    arrivals: Room<u32>,
    partials: Room<f32>,
    logits: Room<f32>,
}

/// Activations: room is made when something is first written.
#[derive(Debug)]
pub struct Tensor {
    len: usize,
    buffer: Option<Buffer<f32>>,
}

impl Tensor {
    fn write(&mut self, queue: &Queue) -> Result<u64> {
        if self.buffer.is_none() {
            self.buffer = Some(Buffer::new(&queue.device, self.len)?);
        }
        Ok(self.read())
    }

    fn read(&self) -> u64 {
        self.buffer.as_ref().map_or(0, Buffer::pointer)
    }
}

impl Cuda {
    /// Device `ordinal`, its kernels compiled and loaded; `threads` of the host (`None`: all this process may use).
    pub fn open(ordinal: usize, places: &Places, threads: Option<usize>) -> Result<Self> {
        let runtime = Runtime::open(ordinal, places)?;
        let queue = Queue::new(&runtime)?;
        let architecture = architecture(runtime.device().card().compute_capability);
        let state = State {
            queue,
            norms: Constants::default(),
            ids: Mirror::default(),
            cos: Mirror::default(),
            sin: Mirror::default(),
            positions: Mirror::default(),
            places: Mirror::default(),
            tables: Mirror::default(),
            operand: Room::default(),
            row_scales: Room::default(),
            split_sums: Room::default(),
            arrivals: Room::default(),
            partials: Room::default(),
            logits: Room::default(),
        };
        let label = format!("cuda:{ordinal}");
        Ok(Self { pool: Pool::new(threads), label, architecture, state: Mutex::new(state), pages: Mutex::default() })
    }

    /// As the `device` option spells it.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Refuses models whose heads the kernels do not serve: `heads` query heads, `kv_heads` key and value heads of `head_dim`.
    pub fn check_heads(&self, heads: usize, kv_heads: usize, head_dim: usize) -> Result<()> {
        if head_dim > MOST_HEAD_DIM {
            let problem = format!("{head_dim}; on {} {MOST_HEAD_DIM} is the most; device=\"cpu\" runs any", self.label);
            return Err(Error::config("head_dim", problem));
        }
        if heads / kv_heads > MOST_GROUP {
            let problem = format!("{heads} for {kv_heads} key and value heads; on {} at most {MOST_GROUP} share one", self.label);
            return Err(Error::config("num_attention_heads", problem));
        }
        Ok(())
    }

    /// Waits for everything put into the device's queue.
    pub fn synchronize(&self) -> Result<()> {
        self.state().queue.stream.synchronize()
    }

    /// One layer: `y = x · Wᵀ`, `x` `[rows, cols]`, from and to the host.
    pub fn multiply(&self, linear: &Linear, x: &[f32], rows: usize, y: &mut [f32]) -> Result<()> {
        let mut state = self.state();
        let from = Buffer::from_slice(&state.queue.device, &state.queue.stream, x)?;
        let to = Buffer::new(&state.queue.device, y.len())?;
        state.project(linear, linear.feed(false), from.pointer(), rows, to.pointer())?;
        to.download(&state.queue.stream, 0, y)
    }

    /// The same on device memory, in the order of another stream. Does not wait.
    ///
    /// Error: `x` is no multiple of 16, in which pieces rows are read.
    ///
    /// # Safety
    /// `x` and `y` are addresses of `rows · cols` and `rows · rows of the layer` f32 elements of this device, and `stream` is a stream of its
    /// primary context, or 0.
    #[allow(unsafe_code, reason = "borrows a caller's stream")]
    pub unsafe fn multiply_on(&self, linear: &Linear, x: u64, rows: usize, y: u64, stream: u64) -> Result<()> {
        let mut state = self.state();
        if !x.is_multiple_of(16) {
            let found = format!("{x:#x} on {}", self.label);
            return Err(Error::Argument { option: "x's address", found, allowed: "a multiple of 16 bytes: copy it first".to_owned() });
        }
        // SAFETY: the caller's promise.
        let theirs = unsafe { Stream::borrowed(&state.queue.device, stream) };
        let (before, after) = (Event::new(&state.queue.device)?, Event::new(&state.queue.device)?);
        before.record(&theirs)?;
        state.queue.stream.wait(&before)?;
        state.queue.after_an_event();
        state.project(linear, linear.feed(false), x, rows, y)?;
        after.record(&state.queue.stream)?;
        theirs.wait(&after)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first operand columns' worth of rows through a layer, group after group.
    fn project(&mut self, linear: &Linear, feed: Feed, x: u64, rows: usize, out: u64) -> Result<()> {
        let Self { queue, operand, row_scales, split_sums, arrivals, .. } = self;
        let form = feed.form();
        if form == Form::None {
            let plain = Ready { x, scales: 0, form };
            return linear.apply(queue, plain, rows as u32, 0, out, Split { partials: 0, arrivals: 0 });
        }
        let cols = linear.cols;
        if let Some(tiles) = linear.tiles().filter(|_| rows > FEW) {
            for first in (0..rows).step_by(MOST_ROWS) {
                let count = MOST_ROWS.min(rows - first);
                let x_operand = operand.at_least(queue, 4 * form.pieces(count as u32, cols, plan::COLUMNS))?;
                let scales = row_scales.at_least(queue, count)?;
                let (from, to) = (x + 4 * (first * cols) as u64, out + 4 * (first * linear.rows) as u64);
                queue.activations(from, feed.prepared(x_operand, scales, feed.group()), form, count, cols)?;
                queue.nvfp4_prefill(&tiles, x_operand, scales, form, count, to)?;
            }
            return Ok(());
        }
        let [sums, counts] = linear.split_room(queue);
        let split = Split { partials: split_sums.at_least(queue, sums)?, arrivals: arrivals.zeros(queue, counts)? };
        let x_operand = operand.at_least(queue, 4 * form.pieces(feed.group(), cols, feed.group() * form.terms()))?;
        let scales = row_scales.at_least(queue, feed.group() as usize)?;
        let step = feed.group() as usize;
        for first in (0..rows).step_by(step) {
            let count = step.min(rows - first) as u32;
            let from = x + 4 * (first * cols) as u64;
            queue.activations(from, feed.prepared(x_operand, scales, count), form, count as usize, cols)?;
            let ready = Ready { x: x_operand, scales, form };
            linear.apply(queue, ready, count, 0, out + 4 * (first * linear.rows) as u64, split)?;
        }
        Ok(())
    }

    /// Brings rows, and the pages of their sequences, to the device.
    fn pages_of(&mut self, caches: &[Cache], rows: &[Row], layer: usize) -> Result<Pages> {
        let Self { queue, positions, places, tables, .. } = self;
        let cache = &caches[rows[0].sequence];
        let most_pages = rows.iter().map(|row| row.position / PAGE + 1).max().unwrap_or(1);
        let mut sequences: Vec<usize> = Vec::new();
        let mut place = Vec::with_capacity(rows.len());
        for row in rows {
            let known = sequences.iter().position(|&s| s == row.sequence);
            place.push(known.unwrap_or(sequences.len()) as u32);
            if known.is_none() {
                sequences.push(row.sequence);
            }
        }
        let mut table = vec![0; sequences.len() * most_pages];
        for (line, &sequence) in table.chunks_exact_mut(most_pages).zip(&sequences) {
            for (to, page) in line.iter_mut().zip(caches[sequence].pages()) {
                *to = page;
            }
        }
        let position: Vec<u32> = rows.iter().map(|row| row.position as u32).collect();
        Ok(Pages {
            memory: cache.pool().layer(layer).0,
            format: cache.spec.format,
            scales: cache.spec.scales[layer],
            kv_heads: cache.spec.heads,
            head_dim: cache.spec.head_dim,
            positions: positions.set(queue, &position)?,
            places: places.set(queue, &place)?,
            tables: tables.set(queue, &table)?,
            line: most_pages,
        })
    }

    fn download(&self, x: &Tensor, len: usize) -> Result<Vec<f32>> {
        let mut host = vec![0.0; len];
        if let Some(buffer) = &x.buffer {
            buffer.download(&self.queue.stream, 0, &mut host)?;
        }
        Ok(host)
    }
}

/// Largest magnitude as the CPU finds it: infinity or NaN where there is one.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    f32::from_bits(values.map(|x| x.to_bits() & 0x7FFF_FFFF).max().unwrap_or(0))
}

impl Backend for Cuda {
    type Tensor = Tensor;
    type Linear = Linear;
    type Cache = Cache;

    fn table_name(&self) -> &str {
        &self.architecture
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn tensor(&self, len: usize) -> Tensor {
        Tensor { len, buffer: None }
    }

    fn linear(&self, parts: LinearParts) -> Result<Linear> {
        Linear::new(&self.state().queue, parts)
    }

    fn again(&self, linear: &Linear) -> Option<Result<Linear>> {
        Some(linear.again(&self.state().queue))
    }

    fn set_inputs(&self, linear: &mut Linear, inputs: Inputs) {
        linear.set_inputs(inputs);
    }

    fn join(&self, layers: &mut [&mut Linear]) -> Result<()> {
        Linear::join(&self.state().queue, layers)
    }

    fn format(&self, linear: &Linear) -> &'static str {
        linear.format()
    }

    fn nbytes(&self, linear: &Linear) -> usize {
        linear.nbytes()
    }

    fn cache(&self, spec: &Arc<KvSpec>) -> Cache {
        let mut known = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        let pool = match &*known {
            Some(pool) if pool.serves(spec) => Arc::clone(pool),
            _ => Arc::clone(known.insert(Arc::new(PagePool::new(spec)))),
        };
        Cache::new(Arc::clone(spec), pool)
    }

    fn bytes_per_position(&self, spec: &KvSpec) -> usize {
        pages::page_bytes(spec) / PAGE * spec.scales.len()
    }

    fn embed(&self, table: &Linear, ids: &[u32], out: &mut Tensor) -> Result<()> {
        let State { queue, ids: mirror, .. } = &mut *self.state();
        let ids_at = mirror.set(queue, ids)?;
        table.embed(queue, ids_at, out.write(queue)?, ids.len())
    }

    fn rms_norm(&self, x: &Tensor, weight: &[f32], eps: f32, rows: usize, out: &mut Tensor) -> Result<()> {
        let State { queue, norms, .. } = &mut *self.state();
        let weight_at = norms.get(queue, weight)?;
        queue.rms_norm(x.read(), (weight_at, eps), out.write(queue)?, Prepared::NONE, rows, weight.len())
    }

    fn project<const N: usize>(&self, linears: [&Linear; N], x: &Tensor, rows: usize, exact: bool, out: [&mut Tensor; N]) -> Result<()> {
        let mut state = self.state();
        for (linear, out) in linears.into_iter().zip(out) {
            let to = out.write(&state.queue)?;
            state.project(linear, linear.feed(exact), x.read(), rows, to)?;
        }
        Ok(())
    }

    fn input_absmax(&self, linear: &Linear, x: &Tensor, rows: usize) -> Result<f32> {
        let state = self.state();
        let host = state.download(x, rows * linear.cols)?;
        let Some(scale) = linear.pre_scale() else { return Ok(largest(host.into_iter())) };
        let scale = scale.to_vec(&state.queue.stream)?;
        Ok(largest(host.iter().zip(scale.iter().cycle()).map(|(x, s)| x * s)))
    }

    fn absmax(&self, x: &Tensor, len: usize) -> Result<f32> {
        Ok(largest(self.state().download(x, len)?.into_iter()))
    }

    fn rotate(&self, x: &Tensor, width: usize, norm: Option<(&[f32], f32)>, angles: &Angles, rows: usize, out: &mut Tensor) -> Result<()> {
        let State { queue, norms, cos, sin, .. } = &mut *self.state();
        let (head_dim, used) = (2 * angles.half, rows * angles.half);
        let norm_at = norm.map_or(Ok(0), |(weight, _)| norms.get(queue, weight))?;
        let heads = Heads {
            from: [x.read(); 3],
            strides: [width; 3],
            norms: [norm_at, 0],
            eps: norm.map_or(0.0, |(_, eps)| eps),
            cos: cos.set(queue, &angles.cos[..used])?,
            sin: sin.set(queue, &angles.sin[..used])?,
            by_position: false,
            turned: out.write(queue)?,
            queries: width / head_dim,
        };
        queue.rotate_store(&heads, None, head_dim, rows)
    }

    fn store(&self, caches: &mut [Cache], layer: usize, rows: &[Row], key: &Tensor, value: &Tensor) -> Result<()> {
        let mut state = self.state();
        for row in rows {
            caches[row.sequence].reserve(&state.queue, row.position, row.position)?;
        }
        let pages = state.pages_of(caches, rows, layer)?;
        let width = pages.kv_heads * pages.head_dim;
        let (strides, from) = ([0, width, width], [0, key.read(), value.read()]);
        let heads = Heads { from, strides, norms: [0; 2], eps: 0.0, cos: 0, sin: 0, by_position: false, turned: 0, queries: 0 };
        state.queue.rotate_store(&heads, Some(&pages), pages.head_dim, rows.len())
    }

    fn attend(&self, caches: &[Cache], attention: Attention, rows: &[Row], query: &Tensor, out: &mut Tensor) -> Result<()> {
        let mut state = self.state();
        let to = out.write(&state.queue)?;
        let pages = state.pages_of(caches, rows, attention.layer)?;
        let (heads, head_dim, window) = (attention.heads, pages.head_dim, attention.window);
        let splits = plan::splits(rows.iter().map(|row| row.position).max().unwrap_or(0));
        // A long prompt's rows go in turns through one room for partial sums.
        let at_once = (MOST_PARTIALS / plan::attend_partials(1, heads, head_dim, splits)).clamp(1, rows.len());
        let State { queue, partials, .. } = &mut *state;
        let room = partials.at_least(queue, plan::attend_partials(at_once, heads, head_dim, splits))?;
        for (first, count) in groups_of(rows.len(), at_once) {
            let offset = 4 * (first * heads * head_dim) as u64;
            let here = Pages { positions: pages.positions + 4 * first as u64, places: pages.places + 4 * first as u64, ..pages };
            queue.attend(&here, query.read() + offset, room, splits, window, heads, count)?;
            queue.merge(room, here.positions, splits, window, to + offset, Prepared::NONE, [count, heads, head_dim])?;
        }
        Ok(())
    }

    fn silu_mul(&self, gate: &mut Tensor, up: &Tensor, len: usize) -> Result<()> {
        let state = self.state();
        state.queue.swiglu(gate.read(), up.read(), gate.read(), Prepared::NONE, Form::None, 1, len, len)
    }

    fn add(&self, x: &mut Tensor, y: &Tensor, len: usize) -> Result<()> {
        self.state().queue.add(x.read(), y.read(), len)
    }

    fn logits(&self, head: &Linear, x: &Tensor, rows: usize, exact: bool, out: &mut [f32]) -> Result<()> {
        let mut state = self.state();
        let room = {
            let State { queue, logits, .. } = &mut *state;
            logits.at_least(queue, rows * head.rows)?
        };
        state.project(head, head.feed(exact), x.read(), rows, room)?;
        state.logits.download(&state.queue, &mut out[..rows * head.rows])
    }

    fn take_row(&self, x: &Tensor, row: usize, width: usize, out: &mut Tensor) -> Result<()> {
        let state = self.state();
        out.write(&state.queue)?;
        let (Some(to), Some(from)) = (&mut out.buffer, &x.buffer) else { return Ok(()) };
        to.copy_from(&state.queue.stream, 0, from, row * width..(row + 1) * width)
    }
}

/// First and count of parts of at most `most`.
fn groups_of(len: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(most).map(move |first| (first, most.min(len - first)))
}
