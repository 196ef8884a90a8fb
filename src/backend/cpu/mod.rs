//! The CPU backend: a thread pool, an instruction set, and plain vectors of f32.
//!
//! Between the linear layers' sections of the pool stand the small ones: norms, rotations, the gate. A decode step's are
//! done by the calling thread in a microsecond or two each; a prefill's are shared out by rows. The result is the same.

pub mod activations;
mod attention;
mod cache;
mod elementwise;
pub mod linear;
mod tune;

use std::sync::{Arc, Mutex, PoisonError};

use crate::backend::{Angles, Attention, Backend, Inputs, KvSpec, LinearParts, Row};
use crate::error::Result;
use crate::parallel::Pool;
use crate::simd::{self, Table};
use linear::{Activations, PackedMatrix, Product};

pub use cache::Cache;

/// The CPU backend.
#[derive(Debug)]
pub struct Cpu {
    pool: Pool,
    table: &'static Table,
    spare: Mutex<Vec<attention::Scratch>>,
    tiles: Mutex<Vec<linear::Scratch>>,
}

/// Weights up to this size stay in a core's own cache, or nearly: a step of them is arithmetic and the joins of threads.
const SMALL_WEIGHTS: usize = 8 << 20;
/// Rows of a share below which a thread has too little to do with each weight that it widens.
const ROWS_OF_A_SHARE: usize = 2;

/// A linear layer, packed.
#[derive(Debug)]
pub struct Linear {
    matrix: PackedMatrix,
    pre_quant_scale: Option<Vec<f32>>,
    activations: Activations,
}

impl Linear {
    /// How the layer computes with its input.
    pub fn activations(&self) -> Activations {
        self.activations
    }

    fn product<'a>(&'a self, rows: usize, exact: bool, y: &'a mut [f32]) -> Product<'a> {
        let activations = if exact { Activations::Float } else { self.activations };
        Product { weight: &self.matrix, activations, y: &mut y[..rows * self.matrix.rows()] }
    }
}

impl Cpu {
    /// A backend of `threads` threads (`None`: all this process may use) on the instruction set `table`.
    pub fn new(threads: Option<usize>, table: &'static Table) -> Self {
        Self { pool: Pool::new(threads), table, spare: Mutex::default(), tiles: Mutex::default() }
    }

    /// A backend on the best instruction set of this machine.
    pub fn best(threads: Option<usize>) -> Self {
        Self::new(threads, simd::best())
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The inner loops in use.
    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// `N` linear layers of one input, `[rows, cols]`, in one section of the pool.
    fn apply<const N: usize>(&self, linears: [&Linear; N], x: &[f32], rows: usize, exact: bool, mut out: [&mut [f32]; N]) {
        let x = &x[..rows * linears[0].matrix.cols()];
        let spare = || self.tiles.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tiles = spare().pop().unwrap_or_default();
        let (pool, table) = (&self.pool, self.table);
        if linears.iter().all(|l| l.pre_quant_scale.is_none()) {
            let mut outputs = linears.iter().zip(out);
            let products: [_; N] = std::array::from_fn(|_| {
                let (linear, y) = outputs.next().expect("N outputs");
                linear.product(rows, exact, y)
            });
            linear::linear_many(pool, table, &mut tiles, products, x);
        } else {
            // AWQ's factors differ from layer to layer, so each has an input of its own.
            for (linear, y) in linears.iter().zip(&mut out) {
                let scaled = linear.pre_quant_scale.as_ref().map(|scale| self.scaled(x, scale));
                linear::linear_many(pool, table, &mut tiles, [linear.product(rows, exact, y)], scaled.as_deref().unwrap_or(x));
            }
        }
        spare().push(tiles);
    }

    /// `x · scale`, row by row.
    fn scaled(&self, x: &[f32], scale: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0; x.len()];
        for (x, out) in x.chunks_exact(scale.len()).zip(out.chunks_exact_mut(scale.len())) {
            (self.table.vector.mul)(x, scale, out);
        }
        out
    }
}

impl Backend for Cpu {
    type Tensor = Vec<f32>;
    type Linear = Linear;
    type Cache = Cache;

    fn table_name(&self) -> &str {
        self.table.name
    }

    fn pool(&self) -> &Pool {
        &self.pool
    }

    fn tensor(&self, len: usize) -> Vec<f32> {
        vec![0.0; len]
    }

    fn linear(&self, parts: LinearParts) -> Result<Linear> {
        let LinearParts { weight, bias, pre_quant_scale, inputs } = parts;
        let matrix = PackedMatrix::pack(weight).with_bias(bias);
        if let Some((panels, tiles)) = matrix.nvfp4_panels() {
            tune::prefetch_distance(&self.pool, self.table, panels, tiles);
        }
        let mut linear = Linear { matrix, pre_quant_scale, activations: Activations::Float };
        self.set_inputs(&mut linear, inputs);
        Ok(linear)
    }

    fn set_inputs(&self, linear: &mut Linear, inputs: Inputs) {
        linear.activations = match inputs {
            Inputs::Float => Activations::Float,
            Inputs::Static(scale) => Activations::Nvfp4 { input_scale: Some(scale) },
            Inputs::Dynamic => Activations::Nvfp4 { input_scale: None },
        };
    }

    fn format(&self, linear: &Linear) -> &'static str {
        linear.matrix.format()
    }

    fn nbytes(&self, linear: &Linear) -> usize {
        linear.matrix.nbytes() + linear.pre_quant_scale.as_ref().map_or(0, |scale| 4 * scale.len())
    }

    fn cache(&self, spec: &Arc<KvSpec>) -> Cache {
        Cache::new(Arc::clone(spec))
    }

    fn bytes_per_position(&self, spec: &KvSpec) -> usize {
        Cache::bytes_per_position(spec)
    }

    fn embed(&self, table: &Linear, ids: &[u32], out: &mut Vec<f32>) -> Result<()> {
        let width = table.matrix.cols();
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(width)) {
            table.matrix.row_to_f32(id as usize, out);
        }
        Ok(())
    }

    fn rms_norm(&self, x: &Vec<f32>, weight: &[f32], eps: f32, rows: usize, out: &mut Vec<f32>) -> Result<()> {
        elementwise::rms_norm(&self.pool, self.table, x, weight, eps, &mut out[..rows * weight.len()]);
        Ok(())
    }

    fn project<const N: usize>(
        &self,
        linears: [&Linear; N],
        x: &Vec<f32>,
        rows: usize,
        exact: bool,
        out: [&mut Vec<f32>; N],
    ) -> Result<()> {
        self.apply(linears, x, rows, exact, out.map(Vec::as_mut_slice));
        Ok(())
    }

    fn input_absmax(&self, linear: &Linear, x: &Vec<f32>, rows: usize) -> Result<f32> {
        let x = &x[..rows * linear.matrix.cols()];
        Ok(match &linear.pre_quant_scale {
            None => (self.table.vector.absmax)(x),
            Some(scale) => (self.table.vector.absmax)(&self.scaled(x, scale)),
        })
    }

    fn absmax(&self, x: &Vec<f32>, len: usize) -> Result<f32> {
        Ok((self.table.vector.absmax)(&x[..len]))
    }

    fn rotate(
        &self,
        x: &Vec<f32>,
        width: usize,
        norm: Option<(&[f32], f32)>,
        angles: &Angles,
        rows: usize,
        out: &mut Vec<f32>,
    ) -> Result<()> {
        elementwise::rotate(&self.pool, self.table, x, width, norm, angles, &mut out[..rows * width]);
        Ok(())
    }

    fn store(&self, caches: &mut [Cache], layer: usize, rows: &[Row], key: &Vec<f32>, value: &Vec<f32>) -> Result<()> {
        for (index, row) in rows.iter().enumerate() {
            let cache = &mut caches[row.sequence];
            let width = cache.spec().heads * cache.spec().head_dim;
            let range = index * width..(index + 1) * width;
            cache.store(self.table, layer, row.position, &key[range.clone()], &value[range]);
        }
        Ok(())
    }

    fn attend(&self, caches: &[Cache], attention: Attention, rows: &[Row], query: &Vec<f32>, out: &mut Vec<f32>) -> Result<()> {
        attention::attend(self, caches, attention, rows, query, out);
        Ok(())
    }

    fn silu_mul(&self, gate: &mut Vec<f32>, up: &Vec<f32>, len: usize) -> Result<()> {
        elementwise::silu_mul(&self.pool, self.table, &mut gate[..len], up);
        Ok(())
    }

    fn add(&self, x: &mut Vec<f32>, y: &Vec<f32>, len: usize) -> Result<()> {
        (self.table.vector.add)(&mut x[..len], &y[..len]);
        Ok(())
    }

    fn logits(&self, head: &Linear, x: &Vec<f32>, rows: usize, exact: bool, out: &mut [f32]) -> Result<()> {
        self.apply([head], x, rows, exact, [out]);
        Ok(())
    }

    fn shares(&self, weight_bytes: usize, rows: usize) -> usize {
        if weight_bytes > SMALL_WEIGHTS { 1 } else { (rows / ROWS_OF_A_SHARE).clamp(1, self.pool.threads()) }
    }

    fn run_shares(&self, shares: usize, work: &(dyn Fn(usize) + Sync)) {
        self.pool.run(|index, count| (index..shares).step_by(count).for_each(work));
    }

    fn take_row(&self, x: &Vec<f32>, row: usize, width: usize, out: &mut Vec<f32>) -> Result<()> {
        out[..width].copy_from_slice(&x[row * width..(row + 1) * width]);
        Ok(())
    }
}
