//! A decode step that needs no host: from the tokens drawn last to the next ones, captured once as a graph and replayed.
//!
//! ```text
//! embed → per block: norm ─ q, k, v ─ rotate, store ─ attend ─ merge ─ output (+ residual)
//!                    norm ─ gate, up ─ swiglu ─ down (+ residual)
//!       → norm ─ head ─ entropy, policy ─ filters ─ draw → tokens, positions, ring
//! ```
//!
//! Rows are 1, 2, 4 or 8; those without a sequence are idle: they run along at position 0 of nobody's page. Tokens, positions and tables lie in
//! device memory, so that one graph serves all steps whose positions fit its attention grid; a longer one is captured when it is needed.

use std::collections::BTreeMap;

use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::engine::layers::{Feed, Linear, Ready};
use crate::backend::cuda::engine::mirror::Room;
use crate::backend::cuda::engine::pages::Cache;
use crate::backend::cuda::engine::queue::{Heads, Pages, Queue, Split};
use crate::backend::cuda::engine::sampling::{Sampler, Wishes};
use crate::backend::cuda::engine::{Cuda, State};
use crate::backend::cuda::graph::{Graph, Shape};
use crate::backend::cuda::plan::{self, Form, PAGE};
use crate::backend::cuda::records::{Outcome, Prepared};
use crate::backend::cuda::stream::Event;
use crate::error::Result;

/// Rows that a step may have.
pub const ROWS: [usize; 4] = [1, 2, 4, 8];
/// Splits of attention's grid: 2048 positions, then twice as many each.
const SPLITS: usize = 16;

/// One block, as the step reads it.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Before attention.
    pub attention_norm: &'a [f32],
    /// Queries, keys, values.
    pub qkv: [&'a Linear; 3],
    /// Over each query head, over each key head.
    pub head_norms: [Option<&'a [f32]>; 2],
    /// Attention's output.
    pub output: &'a Linear,
    /// Before the MLP.
    pub mlp_norm: &'a [f32],
    /// Gate and up.
    pub gate_up: [&'a Linear; 2],
    /// Down.
    pub down: &'a Linear,
    /// How many positions back attention sees.
    pub window: Option<usize>,
}

/// What writes the cosines and sines of a position.
pub type Angles<'a> = dyn Fn(usize, &mut [f32], &mut [f32]) + 'a;

/// A model, as the step reads it.
pub struct Network<'a> {
    /// The blocks.
    pub blocks: Vec<Block<'a>>,
    /// Before the head.
    pub norm: &'a [f32],
    /// The head.
    pub head: &'a Linear,
    /// Rows by token.
    pub embedding: &'a Linear,
    /// Query heads.
    pub heads: usize,
    /// Added to the mean square in every norm.
    pub eps: f32,
    /// Writes the cosines and sines of a position.
    pub angles: &'a Angles<'a>,
}

/// A step of some rows. Holds addresses of the network it was made for, which its owner keeps.
#[derive(Debug)]
pub struct Step {
    rows: usize,
    sampler: Sampler,
    residual: Buffer<f32>,
    plain: Buffer<f32>,
    wide: Buffer<f32>,
    turned: Buffer<f32>,
    attended: Buffer<f32>,
    operand: Buffer<u32>,
    row_scales: Buffer<f32>,
    split_sums: Buffer<f32>,
    arrivals: Buffer<u32>,
    positions: Buffer<u32>,
    places: Buffer<u32>,
    tables: Buffer<u32>,
    most_pages: usize,
    given_pages: Vec<Vec<u32>>,
    partials: Room<f32>,
    cos: Room<f32>,
    sin: Room<f32>,
    angle_rows: usize,
    graphs: BTreeMap<usize, Graph>,
    growths: u64,
    pub(super) launched: Event,
}

impl Step {
    /// Idle rows for sequences of at most `most_positions`, which may run `slots` tokens ahead of the host.
    pub fn new(cuda: &Cuda, network: &Network<'_>, rows: usize, most_positions: usize, slots: usize) -> Result<Self> {
        assert!(ROWS.contains(&rows), "{rows} rows");
        let state = cuda.state();
        let queue = &state.queue;
        let (device, stream) = (&queue.device, &queue.stream);
        let layers = || network.blocks.iter().flat_map(|b| b.qkv.into_iter().chain([b.output]).chain(b.gate_up).chain([b.down]));
        let stacks: Vec<Linear> = layers().chain([network.head]).flat_map(|l| [l.clone(), l.whole()]).collect();
        let most = |size: &dyn Fn(&Linear) -> usize| stacks.iter().map(size).max().unwrap_or(0);
        let operand = most(&|l| {
            let feed = l.feed(false);
            let group = feed.group().min(rows as u32);
            if feed == Feed::Plain { 0 } else { 4 * feed.form().pieces(rows as u32, l.cols, group * feed.form().terms()) }
        });
        let wide = network.blocks.iter().map(|b| width(&b.qkv).max(width(&b.gate_up))).max().unwrap_or(0);
        let query = network.blocks.first().map_or(0, |b| b.qkv[0].rows);
        let columns = most(&|l| l.cols);
        let most_pages = (most_positions + slots).div_ceil(PAGE) + 1;
        let tensor = |len: usize| Buffer::<f32>::zeros(device, stream, rows * len);
        Ok(Self {
            rows,
            sampler: Sampler::new(queue, rows, network.head.rows, slots)?,
            residual: tensor(network.norm.len())?,
            plain: tensor(columns)?,
            wide: tensor(wide)?,
            turned: tensor(query)?,
            attended: tensor(query)?,
            operand: Buffer::zeros(device, stream, operand)?,
            row_scales: tensor(1)?,
            split_sums: Buffer::new(device, most(&|l| l.split_room(queue)[0]))?,
            arrivals: Buffer::zeros(device, stream, most(&|l| l.split_room(queue)[1]))?,
            positions: Buffer::zeros(device, stream, rows)?,
            places: Buffer::from_slice(device, stream, &(0..rows as u32).collect::<Vec<_>>())?,
            tables: Buffer::zeros(device, stream, rows * most_pages)?,
            most_pages,
            given_pages: vec![Vec::new(); rows],
            partials: Room::default(),
            cos: Room::default(),
            sin: Room::default(),
            angle_rows: 0,
            graphs: BTreeMap::new(),
            growths: 0,
            launched: Event::new(device)?,
        })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Tokens of `row` that may still be started when `started` have been, so that none is lost.
    pub fn room(&self, row: usize, started: u64) -> u64 {
        self.sampler.ring().room(row, started)
    }

    /// Gives `row` to a sequence of `length` positions and draws its first token from its `logits`. Waits for the steps under way.
    pub fn begin(&mut self, cuda: &Cuda, row: usize, wishes: &Wishes, logits: &[f32], length: usize) -> Result<()> {
        let state = cuda.state();
        state.queue.stream.synchronize()?;
        // The draw moves the row on to the position of the token it draws.
        self.positions.upload(&state.queue.stream, row, &[length as u32 - 1])?;
        self.sampler.begin(&state.queue, row, wishes, logits, self.positions.pointer())?;
        self.launched.record(&state.queue.stream)
    }

    /// Makes `row` idle.
    pub fn end(&mut self, cuda: &Cuda, row: usize) -> Result<()> {
        let state = cuda.state();
        self.sampler.end(&state.queue, row)?;
        self.positions.upload(&state.queue.stream, row, &[0])?;
        self.give_pages(&state.queue, row, Vec::new())
    }

    /// Makes room in a sequence's cache for the positions from `first` to `last`, and shows `row` its pages.
    pub fn reserve(&mut self, cuda: &Cuda, row: usize, cache: &mut Cache, first: usize, last: usize) -> Result<()> {
        let state = cuda.state();
        cache.reserve(&state.queue, first, last)?;
        self.give_pages(&state.queue, row, cache.pages().collect())
    }

    fn give_pages(&mut self, queue: &Queue, row: usize, pages: Vec<u32>) -> Result<()> {
        if self.given_pages[row] != pages {
            let mut line = pages.clone();
            line.resize(self.most_pages, 0);
            self.tables.upload(&queue.stream, row * self.most_pages, &line)?;
            self.given_pages[row] = pages;
        }
        Ok(())
    }

    /// Starts one token for every row that is not idle, none beyond position `last`. Does not wait.
    pub fn launch(&mut self, cuda: &Cuda, network: &Network<'_>, cache: &Cache, last: usize) -> Result<()> {
        let mut state = cuda.state();
        let splits = splits_for(last);
        self.prepare(&mut state, network, cache, last, splits)?;
        let graph = &self.graphs[&splits];
        // SAFETY: every address in the graph is of a buffer of this step, of the network, or of the pages, and `prepare` drops the graphs
        // when one of them moves.
        #[allow(unsafe_code, reason = "replays a graph")]
        unsafe { graph.launch(&state.queue.stream) }?;
        self.launched.record(&state.queue.stream)
    }

    /// What a step is made of, once one was launched.
    pub fn shape(&self) -> Option<Shape> {
        self.graphs.values().next_back().map(Graph::shape)
    }

    /// The next token of `row`, if it has arrived.
    pub fn take(&mut self, row: usize) -> Result<Option<Outcome>> {
        self.sampler.take(row)
    }

    /// Makes tables and the graph for `splits`, if they are not there.
    fn prepare(&mut self, state: &mut State, network: &Network<'_>, cache: &Cache, last: usize, splits: usize) -> Result<()> {
        let State { queue, norms: known, .. } = state;
        let queue = &*queue;
        let (spec, growths) = (&cache.spec, cache.pool().layer(0).1);
        if growths != self.growths {
            self.graphs.clear();
            self.growths = growths;
        }
        if last >= self.angle_rows {
            self.graphs.clear();
            // Twice as many each time: what a table costs is paid a few times in the longest sequence.
            let rows = (last + 1).next_multiple_of(SPLITS * PAGE).max(2 * self.angle_rows).min(self.most_pages * PAGE);
            let half = spec.head_dim / 2;
            let (mut cos, mut sin) = (vec![0.0; rows * half], vec![0.0; rows * half]);
            for (position, (cos, sin)) in cos.chunks_exact_mut(half).zip(sin.chunks_exact_mut(half)).enumerate() {
                (network.angles)(position, cos, sin);
            }
            self.cos.at_least(queue, cos.len())?;
            self.cos.upload(queue, 0, &cos)?;
            self.sin.at_least(queue, sin.len())?;
            self.sin.upload(queue, 0, &sin)?;
            self.angle_rows = rows;
        }
        if self.graphs.contains_key(&splits) {
            return Ok(());
        }
        let needed = plan::attend_partials(self.rows, network.heads, spec.head_dim, splits);
        if self.partials.len() < needed {
            self.graphs.clear();
            self.partials.at_least(queue, needed)?;
        }
        let mut norms = Vec::new();
        for block in &network.blocks {
            let mut of = |norm: Option<&[f32]>| norm.map_or(Ok(0), |weight| known.get(queue, weight));
            let [queries, keys] = block.head_norms;
            norms.push([of(Some(block.attention_norm))?, of(queries)?, of(keys)?, of(Some(block.mlp_norm))?]);
        }
        let last_norm = known.get(queue, network.norm)?;
        let addresses = Addresses {
            norms,
            last_norm,
            partials: self.partials.at_least(queue, needed)?,
            cos: self.cos.at_least(queue, 0)?,
            sin: self.sin.at_least(queue, 0)?,
        };
        let graph = Graph::capture(&queue.stream, || self.record(queue, network, cache, splits, &addresses))?;
        graph.upload(&queue.stream)?;
        self.graphs.insert(splits, graph);
        Ok(())
    }

    /// Puts the launches of one step into the stream.
    fn record(&self, queue: &Queue, network: &Network<'_>, cache: &Cache, splits: usize, addresses: &Addresses) -> Result<()> {
        let (rows, eps) = (self.rows, network.eps);
        let residual = self.residual.pointer();
        network.embedding.embed(queue, self.sampler.tokens(), residual, rows)?;
        for (layer, (block, norms)) in network.blocks.iter().zip(&addresses.norms).enumerate() {
            let Block { qkv, output, gate_up, down, window, .. } = *block;
            let spec = &cache.spec;
            let pages = Pages {
                memory: cache.pool().layer(layer).0,
                format: spec.format,
                scales: spec.scales[layer],
                kv_heads: spec.heads,
                head_dim: spec.head_dim,
                positions: self.positions.pointer(),
                places: self.places.pointer(),
                tables: self.tables.pointer(),
                line: self.most_pages,
            };
            let (from, strides) = self.norm_project(queue, &qkv, norms[0], eps)?;
            let (cos, sin) = (addresses.cos, addresses.sin);
            let turned = self.turned.pointer();
            let norms_of_heads = [norms[1], norms[2]];
            let heads = Heads { from, strides, norms: norms_of_heads, eps, cos, sin, by_position: true, turned, queries: network.heads };
            queue.rotate_store(&heads, Some(&pages), spec.head_dim, rows)?;
            queue.attend(&pages, turned, addresses.partials, splits, window, network.heads, rows)?;
            let feed = output.feed(false);
            let at_once = feed != Feed::Plain && !feed.form().needs_row() && spec.head_dim.is_multiple_of(16);
            let prepared = if at_once { self.prepared(feed) } else { Prepared::NONE };
            let attended = if at_once { 0 } else { self.attended.pointer() };
            let shape = [rows, network.heads, spec.head_dim];
            queue.merge(addresses.partials, pages.positions, splits, window, attended, prepared, shape)?;
            self.finish(queue, output, attended, at_once, residual)?;

            let (from, strides) = self.norm_project(queue, &gate_up, norms[3], eps)?;
            let feed = down.feed(false);
            let at_once = feed != Feed::Plain;
            let plain = if at_once { 0 } else { self.plain.pointer() };
            queue.swiglu(from[0], from[1], plain, self.prepared(feed), feed.form(), rows, down.cols, strides[0])?;
            self.finish(queue, down, plain, at_once, residual)?;
        }
        let feed = network.head.feed(false);
        let plain = if feed == Feed::Plain { self.plain.pointer() } else { 0 };
        queue.rms_norm(residual, (addresses.last_norm, eps), plain, self.prepared(feed), rows, network.norm.len())?;
        self.apply(queue, network.head, plain, 0, self.sampler.logits())?;
        self.sampler.launch(queue, self.positions.pointer())
    }

    fn prepared(&self, feed: Feed) -> Prepared {
        feed.prepared(self.operand.pointer(), self.row_scales.pointer(), feed.group().min(self.rows as u32))
    }

    /// A norm of the residual stream, and the layers that read it: where each row's results begin, and the strides between rows.
    fn norm_project<const N: usize>(&self, queue: &Queue, layers: &[&Linear; N], norm: u64, eps: f32) -> Result<([u64; 3], [usize; 3])> {
        let (residual, wide, cols) = (self.residual.pointer(), self.wide.pointer(), layers[0].cols);
        let feed = layers[0].feed(false);
        let (mut at, mut from, mut strides) = (0, [0; 3], [0; 3]);
        if Linear::are_one(layers) {
            let whole = layers[0].whole();
            let plain = if feed == Feed::Plain { self.plain.pointer() } else { 0 };
            queue.rms_norm(residual, (norm, eps), plain, self.prepared(feed), self.rows, cols)?;
            self.apply(queue, &whole, plain, 0, wide)?;
            for (index, layer) in layers.iter().enumerate() {
                (from[index], strides[index]) = (wide + 4 * at as u64, whole.rows);
                at += layer.padded_rows();
            }
            return Ok((from, strides));
        }
        // Layers that read differently: the norm as it is, and an operand for each.
        let plain = self.plain.pointer();
        queue.rms_norm(residual, (norm, eps), plain, Prepared::NONE, self.rows, cols)?;
        for (index, layer) in layers.iter().enumerate() {
            let out = wide + 4 * (at * self.rows) as u64;
            self.make_operand(queue, layer, plain)?;
            self.apply(queue, layer, plain, 0, out)?;
            (from[index], strides[index]) = (out, layer.rows);
            at += layer.rows;
        }
        Ok((from, strides))
    }

    fn make_operand(&self, queue: &Queue, layer: &Linear, plain: u64) -> Result<()> {
        let feed = layer.feed(false);
        if feed == Feed::Plain {
            return Ok(());
        }
        queue.activations(plain, self.prepared(feed), feed.form(), self.rows, layer.cols)
    }

    /// `residual += layer(x)`, where `x` lies plainly unless its operand is ready.
    fn finish(&self, queue: &Queue, layer: &Linear, plain: u64, ready: bool, residual: u64) -> Result<()> {
        if !ready {
            self.make_operand(queue, layer, plain)?;
        }
        self.apply(queue, layer, plain, residual, residual)
    }

    /// A layer whose operand is ready, or that reads `plain`; group after group.
    fn apply(&self, queue: &Queue, layer: &Linear, plain: u64, residual: u64, out: u64) -> Result<()> {
        let feed = layer.feed(false);
        let split = Split { partials: self.split_sums.pointer(), arrivals: self.arrivals.pointer() };
        let Feed::Operand(form, ..) = feed else {
            return layer.apply(queue, Ready { x: plain, scales: 0, form: Form::None }, self.rows as u32, residual, out, split);
        };
        let group = feed.group().min(self.rows as u32) as usize;
        let pieces = form.pieces(group as u32, layer.cols, group as u32 * form.terms());
        for number in 0..self.rows / group {
            let (first, rows) = (number * group, 4 * layer.rows as u64);
            let ready = Ready {
                x: self.operand.pointer() + 16 * (number * pieces) as u64,
                scales: self.row_scales.pointer() + 4 * first as u64,
                form,
            };
            let offset = first as u64 * rows;
            let from = if residual == 0 { 0 } else { residual + offset };
            layer.apply(queue, ready, group as u32, from, out + offset, split)?;
        }
        Ok(())
    }
}

/// Addresses that a graph names besides the step's own.
struct Addresses {
    norms: Vec<[u64; 4]>,
    last_norm: u64,
    partials: u64,
    cos: u64,
    sin: u64,
}

/// Rows of layers side by side.
fn width(layers: &[&Linear]) -> usize {
    layers.iter().map(|layer| layer.padded_rows()).sum()
}

/// Splits of the attention grid that serves positions up to `last`.
fn splits_for(last: usize) -> usize {
    let mut splits = SPLITS;
    while splits < plan::splits(last) {
        splits *= 2;
    }
    splits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grid_serves_its_positions_and_is_not_much_larger() {
        for (last, splits) in
            [(0, 16), (2047, 16), (2048, 32), (4095, 32), (4096, 64), (8192, 128), (32_767, 256), (32_768, 512), (131_071, 1024)]
        {
            assert_eq!(splits_for(last), splits);
        }
    }
}
