//! The kernels of a model, loaded, behind one call each: addresses and sizes in, a launch in the stream out.
//!
//! Layouts and launches are stated at the head of each file of `kernels/`. Addresses come from buffers that the callers in this folder hold
//! until the stream has passed them: a buffer that is freed waits for the device first, and those that a graph names live as long as it.

#![allow(unsafe_code, reason = "launches kernels")]

use std::cell::Cell;

use crate::backend::KvFormat;
use crate::backend::cuda::device::Device;
use crate::backend::cuda::launch::{Arguments, Plan};
use crate::backend::cuda::module::Function;
use crate::backend::cuda::plan::{self, Form};
use crate::backend::cuda::records::Prepared;
use crate::backend::cuda::runtime::Runtime;
use crate::backend::cuda::stream::Stream;
use crate::error::Result;

/// Files of kernels that a model needs.
const FILES: &[&str] = &[
    "activations",
    "attention",
    "bf16_linear",
    "dense_linear",
    "draw",
    "embed",
    "logits",
    "narrow",
    "nvfp4_linear",
    "nvfp4_prefill",
    "rms_norm",
    "rotate",
];

/// A stream and the kernels to put into it.
#[derive(Debug)]
pub struct Queue {
    /// Where they run.
    pub device: Device,
    /// In what order.
    pub stream: Stream,
    kernels: Kernels,
    /// The next kernel begins when everything before it has ended.
    apart: Cell<bool>,
}

#[derive(Debug)]
struct Kernels {
    nvfp4_linear: Function,
    nvfp4_prefill: Function,
    bf16_linear: [Function; 3],
    dense_linear: [Function; 3],
    activations: Function,
    swiglu: Function,
    add: Function,
    rms_norm: Function,
    rotate_store: Function,
    attend: [Function; 4],
    merge: Function,
    embed: [Function; 4],
    logits_decide: Function,
    narrow: Function,
    draw: Function,
}

/// Storage of a dense matrix, in the order of the kernels' entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dense {
    F32,
    F16,
    Bf16,
}

/// An NVFP4 layer, or some rows of a stack of layers.
#[derive(Clone, Copy, Debug)]
pub struct Tiles {
    pub units: u64,
    pub scales: u64,
    pub bias: u64,
    pub rows: usize,
    pub cols: usize,
    /// The split of K, the same for a stack and its parts: see [`plan::nvfp4_linear`].
    pub slice_units: u32,
}

/// Room for sums that several blocks share.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    pub partials: u64,
    pub arrivals: u64,
}

/// Where a sequence's keys and values of one layer are.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    pub memory: u64,
    pub format: KvFormat,
    pub scales: [f32; 2],
    pub kv_heads: usize,
    pub head_dim: usize,
    pub positions: u64,
    pub places: u64,
    pub tables: u64,
    /// Pages of a line of the tables.
    pub line: usize,
}

/// Heads on their way to attention and cache.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Addresses of queries, keys, values.
    pub from: [u64; 3],
    /// Their strides, in elements.
    pub strides: [usize; 3],
    /// Addresses of the norms of queries and keys, or 0.
    pub norms: [u64; 2],
    pub eps: f32,
    pub cos: u64,
    pub sin: u64,
    pub by_position: bool,
    pub turned: u64,
    /// Query heads.
    pub queries: usize,
}

/// State of policies, filters and draws; arrays over rows.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    pub logits: u64,
    pub banned: u64,
    pub flags: u64,
    pub policies: u64,
    pub states: u64,
    pub windows: u64,
    pub most_window: usize,
    pub decisions: u64,
    pub partials: u64,
    pub arrivals: u64,
    pub candidates: u64,
    pub counts: u64,
    pub tails: u64,
    pub scores: u64,
    pub winners: u64,
    pub masses: u64,
    pub tokens: u64,
    pub positions: u64,
    pub ring: u64,
    pub slots: usize,
    pub ring_rows: usize,
    pub vocab: usize,
}

impl Kernels {
    fn all(&self) -> impl Iterator<Item = &Function> {
        let Self { nvfp4_linear, nvfp4_prefill, bf16_linear, dense_linear, activations, swiglu, add, rms_norm, .. } = self;
        let Self { rotate_store, attend, merge, embed, logits_decide, narrow, draw, .. } = self;
        let single = [nvfp4_linear, nvfp4_prefill, activations, swiglu, add, rms_norm, rotate_store, merge, logits_decide, narrow, draw];
        single.into_iter().chain(bf16_linear).chain(dense_linear).chain(attend).chain(embed)
    }
}

impl Queue {
    /// Compiles what is not compiled yet, and loads it.
    pub fn new(runtime: &Runtime) -> Result<Self> {
        runtime.prepare(FILES)?;
        let one = |file: &str, entry: &str| runtime.function(file, entry);
        let kernels = Kernels {
            nvfp4_linear: one("nvfp4_linear", "nvfp4_linear")?,
            nvfp4_prefill: one("nvfp4_prefill", "nvfp4_prefill")?,
            bf16_linear: [one("bf16_linear", "bf16_linear_1")?, one("bf16_linear", "bf16_linear_2")?, one("bf16_linear", "bf16_linear_3")?],
            dense_linear: [
                one("dense_linear", "dense_linear_f32")?,
                one("dense_linear", "dense_linear_f16")?,
                one("dense_linear", "dense_linear_bf16")?,
            ],
            activations: one("activations", "activations")?,
            swiglu: one("activations", "swiglu")?,
            add: one("activations", "add")?,
            rms_norm: one("rms_norm", "rms_norm")?,
            rotate_store: one("rotate", "rotate_store")?,
            attend: [
                one("attention", "attend_f32")?,
                one("attention", "attend_bf16")?,
                one("attention", "attend_fp8")?,
                one("attention", "attend_nvfp4")?,
            ],
            merge: one("attention", "merge")?,
            embed: [one("embed", "embed_f32")?, one("embed", "embed_f16")?, one("embed", "embed_bf16")?, one("embed", "embed_nvfp4")?],
            logits_decide: one("logits", "logits_decide")?,
            narrow: one("narrow", "narrow")?,
            draw: one("draw", "draw")?,
        };
        let device = runtime.device().clone();
        // What a block may have at most, less what these kernels declare themselves.
        let most = device.card().shared_per_block;
        for kernel in [&kernels.nvfp4_linear, &kernels.nvfp4_prefill].into_iter().chain(&kernels.attend) {
            kernel.allow_shared(most - kernel.facts().shared_bytes)?;
        }
        // A multiprocessor divides its memory between shared memory and first-level cache as the kernel on it prefers, and is empty while it
        // changes that: kernels that are to overlap prefer the same.
        for kernel in kernels.all() {
            kernel.prefer_shared()?;
        }
        Ok(Self { stream: Stream::new(&device)?, device, kernels, apart: Cell::new(false) })
    }

    /// Says that the stream was told to wait for an event: a kernel that begins early waits for the kernel before it, and for nothing else.
    pub fn after_an_event(&self) {
        self.apart.set(true);
    }

    fn run(&self, kernel: &Function, plan: Plan, arguments: &Arguments) -> Result<()> {
        let plan = plan.with_overlap(!self.apart.replace(false), self.device.card());
        // SAFETY: the calls below give what the kernels declare, in their order; addresses are the callers' (see the head of this file).
        unsafe { kernel.launch(&self.stream, plan, arguments) }
    }

    /// `out[r] = table[ids[r]]`, dense.
    pub fn embed(&self, format: Dense, table: u64, ids: u64, out: u64, rows: usize, cols: usize) -> Result<()> {
        let arguments = Arguments::new().with(table).with(ids).with(out).with(cols as u32);
        self.run(&self.kernels.embed[format as usize], plan::embed(rows), &arguments)
    }

    /// The same from NVFP4.
    pub fn embed_nvfp4(&self, units: u64, tensor_scale: f32, ids: u64, out: u64, rows: usize, cols: usize) -> Result<()> {
        let arguments = Arguments::new().with(units).with(tensor_scale).with(ids).with(out).with(cols as u32);
        self.run(&self.kernels.embed[3], plan::embed(rows), &arguments)
    }

    /// Norm of `rows` rows; to `out` if it is not 0, and to `prepared`.
    pub fn rms_norm(&self, x: u64, (weight, eps): (u64, f32), out: u64, prepared: Prepared, rows: usize, cols: usize) -> Result<()> {
        let arguments = Arguments::new().with(x).with(weight).with(eps).with(out).with_structure(prepared).with(cols as u32);
        self.run(&self.kernels.rms_norm, plan::rms_norm(rows), &arguments)
    }

    /// The operand of a plain tensor.
    pub fn activations(&self, x: u64, prepared: Prepared, form: Form, rows: usize, cols: usize) -> Result<()> {
        let arguments = Arguments::new().with(x).with_structure(prepared).with(cols as u32);
        self.run(&self.kernels.activations, plan::by_row(rows, cols, form), &arguments)
    }

    /// `silu(gate) · up`, to `out` if it is not 0, and to `prepared`.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub fn swiglu(
        &self,
        gate: u64,
        up: u64,
        out: u64,
        prepared: Prepared,
        form: Form,
        rows: usize,
        cols: usize,
        stride: usize,
    ) -> Result<()> {
        let arguments = Arguments::new().with(gate).with(up).with(out).with_structure(prepared).with(cols as u32).with(stride as u32);
        self.run(&self.kernels.swiglu, plan::by_row(rows, cols, form), &arguments)
    }

    /// `x += y`.
    pub fn add(&self, x: u64, y: u64, len: usize) -> Result<()> {
        self.run(&self.kernels.add, plan::add(len), &Arguments::new().with(x).with(y).with(len as u32))
    }

    /// An NVFP4 layer for one group of `columns` operand columns, `terms` a token.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub fn nvfp4_linear(
        &self,
        w: &Tiles,
        x: u64,
        x_scales: u64,
        columns: u32,
        terms: u32,
        residual: u64,
        out: u64,
        split: Split,
    ) -> Result<()> {
        let planned = plan::nvfp4_linear_split(w.rows, w.cols, columns, w.slice_units, self.device.card());
        let addresses = [w.units, w.scales, w.bias, x, x_scales, residual, out, split.partials, split.arrivals];
        let arguments = addresses.into_iter().fold(Arguments::new(), Arguments::with);
        let arguments = arguments.with(w.rows as u32).with(planned.units).with(planned.slice_units).with(columns).with(terms);
        self.run(&self.kernels.nvfp4_linear, planned.launch, &arguments)
    }

    /// An NVFP4 layer for a prompt's tokens, prepared in groups of eight columns.
    pub fn nvfp4_prefill(&self, w: &Tiles, x: u64, x_scales: u64, form: Form, tokens: usize, out: u64) -> Result<()> {
        let addresses = [w.units, w.scales, w.bias, x, x_scales, 0, out];
        let arguments = addresses.into_iter().fold(Arguments::new(), Arguments::with);
        let units = w.cols.div_ceil(crate::backend::cuda::pack::UNIT_COLS) as u32;
        let arguments = arguments.with(w.rows as u32).with(units).with(tokens as u32).with(form.terms());
        self.run(&self.kernels.nvfp4_prefill, plan::nvfp4_prefill(w.rows, tokens as u32, form), &arguments)
    }

    /// A bf16 layer for up to eight tokens.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub fn bf16_linear(
        &self,
        weights: u64,
        bias: u64,
        x: u64,
        residual: u64,
        out: u64,
        rows: usize,
        cols: usize,
        tokens: u32,
    ) -> Result<()> {
        let columns = tokens * Form::Bf16x3.terms();
        let (_, planned) = plan::bf16_linear(rows, tokens);
        let arguments = [weights, bias, x, residual, out].into_iter().fold(Arguments::new(), Arguments::with);
        let kernel = &self.kernels.bf16_linear[columns.div_ceil(plan::COLUMNS) as usize - 1];
        self.run(kernel, planned, &arguments.with(rows as u32).with(cols as u32).with(columns))
    }

    /// A dense layer of any format and shape from plain rows.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub fn dense_linear(
        &self,
        format: Dense,
        weights: u64,
        bias: u64,
        x: u64,
        residual: u64,
        out: u64,
        [rows, cols, tokens]: [usize; 3],
    ) -> Result<()> {
        let arguments = [weights, bias, x, residual, out].into_iter().fold(Arguments::new(), Arguments::with);
        let arguments = arguments.with(rows as u32).with(cols as u32);
        self.run(&self.kernels.dense_linear[format as usize], plan::dense_linear(rows, tokens), &arguments)
    }

    /// Norm and rotation of heads, and the cache: without `pages`, the queries alone; without queries (`heads` 0), keys and values alone.
    pub fn rotate_store(&self, h: &Heads, pages: Option<&Pages>, head_dim: usize, rows: usize) -> Result<()> {
        let arguments = h.from.into_iter().fold(Arguments::new(), Arguments::with);
        let arguments = h.strides.into_iter().fold(arguments, |a, stride| a.with(stride as u32));
        let arguments = arguments.with(h.norms[0]).with(h.norms[1]).with(h.eps).with(h.cos).with(h.sin).with(u32::from(h.by_position));
        let p = pages;
        let arguments = arguments.with(p.map_or(0, |p| p.positions)).with(p.map_or(0, |p| p.places)).with(p.map_or(0, |p| p.tables));
        let arguments = arguments.with(p.map_or(0, |p| p.line as u32)).with(h.turned).with(p.map_or(0, |p| p.memory));
        let [key_scale, value_scale] = p.map_or([1.0; 2], |p| p.scales);
        let arguments = arguments.with(p.map_or(0, |p| format_number(p.format))).with(key_scale).with(value_scale);
        let kv_heads = p.map_or(0, |p| p.kv_heads);
        let arguments = arguments.with(h.queries as u32).with(kv_heads as u32).with(head_dim as u32);
        self.run(&self.kernels.rotate_store, plan::rotate_store(rows, h.queries, kv_heads), &arguments)
    }

    /// Attention of `rows` rows in `splits` splits, into `partials`.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub fn attend(
        &self,
        p: &Pages,
        query: u64,
        partials: u64,
        splits: usize,
        window: Option<usize>,
        heads: usize,
        rows: usize,
    ) -> Result<()> {
        let arguments = [query, p.memory, p.positions, p.places, p.tables].into_iter().fold(Arguments::new(), Arguments::with);
        let arguments = arguments.with(p.line as u32).with(p.scales[0]).with(p.scales[1]).with(partials).with(splits as u32);
        let arguments = arguments.with(window.unwrap_or(0) as u32).with(heads as u32).with(p.head_dim as u32);
        let kernel = &self.kernels.attend[format_number(p.format) as usize];
        self.run(kernel, plan::attend(rows, heads, p.kv_heads, p.head_dim, splits), &arguments)
    }

    /// Joins the splits: to `out` if it is not 0, and to `prepared`, whose form must not need the whole row.
    #[expect(clippy::too_many_arguments, reason = "the kernel's")]
    pub fn merge(
        &self,
        partials: u64,
        positions: u64,
        splits: usize,
        window: Option<usize>,
        out: u64,
        prepared: Prepared,
        [rows, heads, head_dim]: [usize; 3],
    ) -> Result<()> {
        let arguments = Arguments::new().with(partials).with(positions).with(splits as u32).with(window.unwrap_or(0) as u32);
        let arguments = arguments.with(out).with_structure(prepared).with(heads as u32).with(head_dim as u32);
        self.run(&self.kernels.merge, plan::merge(rows, heads), &arguments)
    }

    /// From logits to tokens for `rows` rows from the first of each array on.
    pub fn sample(&self, s: &Sampling, rows: usize) -> Result<()> {
        let launch = plan::over_vocabulary(rows, s.vocab);
        let (vocab, window) = (s.vocab as u32, s.most_window as u32);
        let decide = [s.logits, s.banned, s.partials, s.arrivals, s.policies, s.states, s.windows];
        let decide = decide.into_iter().fold(Arguments::new(), Arguments::with).with(window).with(s.decisions).with(vocab);
        self.run(&self.kernels.logits_decide, launch, &decide)?;
        let narrow = [s.logits, s.banned, s.policies, s.decisions, s.candidates, s.counts, s.tails, s.arrivals];
        self.run(&self.kernels.narrow, launch, &narrow.into_iter().fold(Arguments::new(), Arguments::with).with(vocab))?;
        let draw = [s.logits, s.banned, s.flags, s.policies, s.states, s.decisions, s.scores, s.winners, s.masses, s.arrivals, s.tokens];
        let draw = draw.into_iter().chain([s.positions, s.ring]).fold(Arguments::new(), Arguments::with);
        self.run(&self.kernels.draw, launch, &draw.with(s.slots as u32).with(s.ring_rows as u32).with(vocab))
    }
}

fn format_number(format: KvFormat) -> u32 {
    match format {
        KvFormat::F32 => 0,
        KvFormat::Bf16 => 1,
        KvFormat::Fp8 => 2,
        KvFormat::Nvfp4 => 3,
    }
}
