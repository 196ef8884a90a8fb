//! Activations as the kernels read them: in tiles, as f32 or quantized to NVFP4.
//!
//! W4A4 quantizes each row of activations at run time, with vLLM's order of operations (its emulation of the hardware path;
//! [`Ops::quantize`](crate::simd::linear::Ops) states it). The tensor scale is static where the checkpoint was calibrated,
//! and activations beyond it saturate; without one, each row gets its own, `max|x| / 2688`, so that nothing saturates.
//!
//! Rows that hold NaN or infinity give NaN in all results of that row, so that a broken layer is seen and not hidden by
//! saturation. A row of zeros, or one too small for its scale to have a finite reciprocal, gives zeros.

use crate::parallel::Pool;
use crate::simd::Table;
use crate::simd::linear::{ActivationTile, TILE};

/// How activations enter a product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Activations {
    /// As f32.
    Float,
    /// Quantized to NVFP4.
    Nvfp4 {
        /// Tensor scale (a multiplier); `None`: one per row, from its largest magnitude.
        input_scale: Option<f32>,
    },
}

/// Largest magnitude that a tensor scale of 1 covers: 6 · 448.
const LARGEST: f32 = 2688.0;
/// Rows whose tiles lie together, so that they stay in the cache while all panels pass by.
pub const ROW_BLOCK: usize = 64;
/// Elements from which filling tiles is shared out to threads.
const PARALLEL: usize = 32 * 1024;

/// Activations in tiles: blocks of [`ROW_BLOCK`] rows; in a block, tile `t` of row `i` is number `t · rows of the block + i`.
#[derive(Debug, Default)]
pub struct Tiles {
    float: Vec<[f32; TILE]>,
    nvfp4: Vec<ActivationTile>,
    row_scales: Vec<f32>, // tensor scale of each row of `nvfp4`
}

impl Tiles {
    /// f32 tiles of `x`, `[m, cols]`.
    pub fn float(&self) -> &[[f32; TILE]] {
        &self.float
    }

    /// NVFP4 tiles of `x`.
    pub fn nvfp4(&self) -> &[ActivationTile] {
        &self.nvfp4
    }

    /// Tensor scales of the NVFP4 rows, `[m]`.
    pub fn row_scales(&self) -> &[f32] {
        &self.row_scales
    }

    /// Fills the f32 tiles.
    pub fn fill_float(&mut self, pool: &Pool, x: &[f32], m: usize, cols: usize) {
        let tiles = cols.div_ceil(TILE);
        self.float.resize(m * tiles, [0.0; TILE]);
        share(pool, m * cols, &mut self.float, |first, out| {
            for (number, out) in (first..).zip(out) {
                let (row, tile) = place(number, m, tiles);
                load_tile(x, cols, row, tile, out);
            }
        });
    }

    /// Quantizes into the NVFP4 tiles.
    pub fn fill_nvfp4(&mut self, pool: &Pool, table: &Table, input_scale: Option<f32>, x: &[f32], m: usize, cols: usize) {
        let tiles = cols.div_ceil(TILE);
        self.row_scales.resize(m, 0.0);
        match input_scale {
            Some(scale) => self.row_scales.fill(scale),
            None => share(pool, m * cols, &mut self.row_scales, |first, out| {
                for (row, scale) in x.chunks_exact(cols).skip(first).zip(out) {
                    *scale = largest(row) / LARGEST;
                }
            }),
        }
        self.nvfp4.resize(m * tiles, ActivationTile::ZERO);
        let scales = &self.row_scales;
        share(pool, m * cols, &mut self.nvfp4, |first, out| {
            let mut buffer = [0.0; TILE];
            for (number, out) in (first..).zip(out) {
                let (row, tile) = place(number, m, tiles);
                let divisor = 1.0 / scales[row];
                if let Some(whole) = x[row * cols..(row + 1) * cols][tile * TILE..].first_chunk() {
                    (table.linear.quantize)(whole, divisor, out);
                } else {
                    load_tile(x, cols, row, tile, &mut buffer);
                    (table.linear.quantize)(&buffer, divisor, out);
                }
            }
        });
    }
}

/// Row and tile of a row of the tile `number` of `m` rows with `tiles` each.
fn place(number: usize, m: usize, tiles: usize) -> (usize, usize) {
    let block = number / (ROW_BLOCK * tiles);
    let rows = ROW_BLOCK.min(m - block * ROW_BLOCK);
    let index = number - block * ROW_BLOCK * tiles;
    (block * ROW_BLOCK + index % rows, index / rows)
}

/// Fills items out of `elements` numbers, by several threads where that is worth a join.
fn share<T: Send>(pool: &Pool, elements: usize, items: &mut [T], fill: impl Fn(usize, &mut [T]) + Sync) {
    if elements < PARALLEL {
        fill(0, items);
    } else {
        pool.fill_items(items, fill);
    }
}

/// Columns `64 t ..` of a row, zeros beyond the last.
fn load_tile(x: &[f32], cols: usize, row: usize, tile: usize, out: &mut [f32; TILE]) {
    let from = &x[row * cols..][..cols][tile * TILE..];
    let length = from.len().min(TILE);
    out[..length].copy_from_slice(&from[..length]);
    out[length..].fill(0.0);
}

/// Largest magnitude; infinity or NaN where the row holds one.
fn largest(row: &[f32]) -> f32 {
    // Magnitudes compare as integers, which vectorizes and does not lose NaN.
    f32::from_bits(row.iter().map(|x| x.to_bits() & 0x7FFF_FFFF).max().unwrap_or(0))
}
