//! Linear layers on the CPU: `y = x · Wᵀ + bias`.
//!
//! A [`PackedMatrix`] is the only copy of a weight matrix; it serves decoding, batches and prefill, with float and with
//! quantized activations. [`linear`] multiplies it by `m` rows; [`linear_many`] multiplies several matrices by the same rows
//! in one parallel section (q, k, v; gate, up), quantizing them once. Each panel of 16 rows belongs to one thread, and the
//! order of operations of a result is that of [`simd::linear`](crate::simd::linear), so results depend neither on the
//! number of threads nor on `m`.
//!
//! ```text
//! y = scale · total + bias        scale = S (weights NVFP4), I · S (both NVFP4), 1 (dense);  S, I: tensor scales
//! ```

use half::{bf16, f16};

use crate::backend::cpu::activations::{ROW_BLOCK, Tiles};
use crate::nvfp4::Nvfp4Panels;
use crate::nvfp4::layout::{for_each_panel, zeroed_lines};
use crate::parallel::{Columns, ColumnsMut, Pool};
use crate::simd::Table;
use crate::simd::linear::{F32_LINES, HALF_LINES, Kernel, Line, NVFP4_LINES, PANEL, PanelSums, TILE};
use crate::tensor::{Dense, Matrix};

pub use crate::backend::cpu::activations::Activations;

/// A weight matrix in panels, as the kernels read it, with the layer's bias.
#[derive(Clone, Debug)]
pub struct PackedMatrix {
    weights: Weights,
    bias: Option<Vec<f32>>, // [rows]
}

#[derive(Clone, Debug)]
enum Weights {
    Nvfp4(Nvfp4Panels),
    Dense(DensePanels),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum DenseFormat {
    F32,
    F16,
    Bf16,
}

#[derive(Clone, Debug)]
struct DensePanels {
    lines: Vec<Line>, // [panels, tiles, lines of a tile]
    format: DenseFormat,
    rows: usize,
    cols: usize,
}

impl DenseFormat {
    fn lines(self) -> usize {
        if self == Self::F32 { F32_LINES } else { HALF_LINES }
    }

    /// Line of a tile and byte in it of row `r`, column `k`.
    fn place(self, r: usize, k: usize) -> (usize, usize) {
        match self {
            Self::F32 => (k, 4 * r),
            Self::F16 => (k / 2, 32 * (k % 2) + 2 * r),
            Self::Bf16 => (k / 2, 4 * r + 2 * (k % 2)),
        }
    }
}

/// Panels after which the rows they were made of are given back.
const FORGET: usize = 64;

impl DensePanels {
    fn pack<T: Copy + Sync, const BYTES: usize>(dense: &Dense<T>, format: DenseFormat, bytes: impl Fn(T) -> [u8; BYTES] + Sync) -> Self {
        let Dense { rows, cols, .. } = *dense;
        let panel_lines = cols.div_ceil(TILE) * format.lines();
        let mut lines = zeroed_lines(rows.div_ceil(PANEL) * panel_lines);
        for_each_panel(&mut lines, panel_lines, |panel, lines| {
            // Tile by tile: a tile stays in the first cache while its rows are written across its lines.
            for (t, tile) in lines.chunks_exact_mut(format.lines()).enumerate() {
                for r in 0..PANEL.min(rows - panel * PANEL) {
                    let row = &dense.data[(panel * PANEL + r) * cols..][..cols];
                    for (k, &value) in row[t * TILE..].iter().take(TILE).enumerate() {
                        let (line, at) = format.place(r, k);
                        tile[line].0[at..at + BYTES].copy_from_slice(&bytes(value));
                    }
                }
            }
            // A few megabytes at a time.
            if panel % FORGET == FORGET - 1 {
                let first = (panel + 1 - FORGET) * PANEL * cols;
                dense.data.forget(first..(panel + 1) * PANEL * cols);
            }
        });
        Self { lines, format, rows, cols }
    }

    fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        let panel_lines = self.cols.div_ceil(TILE) * self.format.lines();
        let panel = &self.lines[row / PANEL * panel_lines..][..panel_lines];
        for (k, out) in out[..self.cols].iter_mut().enumerate() {
            let (line, at) = self.format.place(row % PANEL, k % TILE);
            let bytes = &panel[k / TILE * self.format.lines() + line].0;
            *out = match self.format {
                DenseFormat::F32 => f32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]),
                DenseFormat::F16 => f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32(),
                DenseFormat::Bf16 => bf16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32(),
            };
        }
    }
}

impl PackedMatrix {
    /// Packs a matrix, and frees it.
    #[expect(clippy::needless_pass_by_value, reason = "one copy of the weights: the row-major one ends here")]
    pub fn pack(matrix: Matrix) -> Self {
        let weights = match &matrix {
            Matrix::Nvfp4(m) => Weights::Nvfp4(Nvfp4Panels::pack(m)),
            Matrix::F32(m) => Weights::Dense(DensePanels::pack(m, DenseFormat::F32, f32::to_le_bytes)),
            Matrix::F16(m) => Weights::Dense(DensePanels::pack(m, DenseFormat::F16, f16::to_le_bytes)),
            Matrix::Bf16(m) => Weights::Dense(DensePanels::pack(m, DenseFormat::Bf16, bf16::to_le_bytes)),
        };
        Self { weights, bias: None }
    }

    /// The same with a bias, `[rows]`, added to every product.
    ///
    /// # Panics
    /// If the length is not `rows`.
    #[must_use]
    pub fn with_bias(mut self, bias: Option<Vec<f32>>) -> Self {
        assert!(bias.as_ref().is_none_or(|b| b.len() == self.rows()), "one bias per row");
        self.bias = bias;
        self
    }

    /// Rows: the layer's outputs.
    pub fn rows(&self) -> usize {
        match &self.weights {
            Weights::Nvfp4(w) => w.rows(),
            Weights::Dense(w) => w.rows,
        }
    }

    /// Columns: the layer's inputs.
    pub fn cols(&self) -> usize {
        match &self.weights {
            Weights::Nvfp4(w) => w.cols(),
            Weights::Dense(w) => w.cols,
        }
    }

    /// Storage format, spelt as in [`Matrix::format`].
    pub fn format(&self) -> &'static str {
        match &self.weights {
            Weights::Nvfp4(_) => "nvfp4",
            Weights::Dense(w) => match w.format {
                DenseFormat::F32 => "f32",
                DenseFormat::F16 => "f16",
                DenseFormat::Bf16 => "bf16",
            },
        }
    }

    /// Bytes held, padding included.
    pub fn nbytes(&self) -> usize {
        size_of_val(self.lines()) + self.bias.as_ref().map_or(0, |b| 4 * b.len())
    }

    /// One row of the weights widened to f32 into `out`, `[cols]`.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        match &self.weights {
            Weights::Nvfp4(w) => w.row_to_f32(row, out),
            Weights::Dense(w) => w.row_to_f32(row, out),
        }
    }

    /// The panels of an NVFP4 matrix and the tiles of each.
    pub(super) fn nvfp4_panels(&self) -> Option<(&[Line], usize)> {
        match &self.weights {
            Weights::Nvfp4(w) => Some((w.lines(), w.cols().div_ceil(TILE))),
            Weights::Dense(_) => None,
        }
    }

    fn lines(&self) -> &[Line] {
        match &self.weights {
            Weights::Nvfp4(w) => w.lines(),
            Weights::Dense(w) => &w.lines,
        }
    }

    /// What these activations are multiplied as: dense weights take f32.
    fn effective(&self, activations: Activations) -> Activations {
        match self.weights {
            Weights::Nvfp4(_) => activations,
            Weights::Dense(_) => Activations::Float,
        }
    }
}

/// Buffers that products reuse, so that a steady stream of tokens allocates nothing.
#[derive(Debug, Default)]
pub struct Scratch {
    tiles: Tiles,
}

/// One product of several that share their input.
#[derive(Debug)]
pub struct Product<'a> {
    /// The weights.
    pub weight: &'a PackedMatrix,
    /// How the input enters; dense weights always take f32.
    pub activations: Activations,
    /// Results, `[m, rows]`.
    pub y: &'a mut [f32],
}

/// `y = x · Wᵀ + bias` for `x` `[m, cols]` and `y` `[m, rows]`, row-major.
///
/// # Panics
/// If the lengths of `x` and `y` do not match the weights.
pub fn linear(
    pool: &Pool,
    table: &Table,
    scratch: &mut Scratch,
    weight: &PackedMatrix,
    activations: Activations,
    x: &[f32],
    y: &mut [f32],
) {
    linear_many(pool, table, scratch, [Product { weight, activations, y }], x);
}

/// Several products of the same `x`, `[m, cols]`, in one parallel section.
///
/// # Panics
/// If the lengths of `x` and of an output do not match the weights.
pub fn linear_many<const N: usize>(pool: &Pool, table: &Table, scratch: &mut Scratch, products: [Product<'_>; N], x: &[f32]) {
    let Some(cols) = products.first().map(|p| p.weight.cols()) else { return };
    let m = x.len().checked_div(cols).unwrap_or(0);
    for p in &products {
        assert_eq!(p.weight.cols(), cols, "products of one input have the same number of columns");
        assert_eq!(p.y.len(), m * p.weight.rows(), "outputs are [m, rows]");
    }
    assert_eq!(x.len(), m * cols, "x is [m, cols]");
    if m == 0 {
        return;
    }
    let parts: [_; N] = std::array::from_fn(|i| (products[i].weight, products[i].weight.effective(products[i].activations)));
    let mut outputs = products.map(|p| Columns::new(p.y, m));
    // Products with the same activations share one section; in a model that is all of them.
    let mut done = [false; N];
    while let Some(first) = done.iter().position(|d| !d) {
        let activations = parts[first].1;
        let now: [bool; N] = std::array::from_fn(|i| !done[i] && parts[i].1 == activations);
        let tiles = cols.div_ceil(TILE);
        // One whole-tile row is its own tiles.
        let direct = (m == 1 && cols.is_multiple_of(TILE)).then_some(x.as_chunks::<TILE>().0);
        match activations {
            Activations::Float if direct.is_some() => {}
            Activations::Float => scratch.tiles.fill_float(pool, x, m, cols),
            Activations::Nvfp4 { input_scale } => scratch.tiles.fill_nvfp4(pool, table, input_scale, x, m, cols),
        }
        let filled = &scratch.tiles;
        pool.fill(&mut outputs, PANEL, |number, mut columns| {
            if !now[number] {
                return;
            }
            let weight = parts[number].0;
            let bias = weight.bias.as_deref();
            let mut target = Target { lines: weight.lines(), tiles, m, bias, columns: &mut columns };
            match (&weight.weights, activations) {
                (Weights::Nvfp4(w), Activations::Nvfp4 { .. }) => {
                    let scale = w.tensor_scale().multiplier();
                    target.multiply(NVFP4_LINES, table.linear.nvfp4_nvfp4, filled.nvfp4(), |row| scale * filled.row_scales()[row]);
                }
                (Weights::Nvfp4(w), Activations::Float) => {
                    let scale = w.tensor_scale().multiplier();
                    target.multiply(NVFP4_LINES, table.linear.nvfp4_f32, direct.unwrap_or(filled.float()), |_| scale);
                }
                (Weights::Dense(w), _) => {
                    let kernel = match w.format {
                        DenseFormat::F32 => table.linear.f32_f32,
                        DenseFormat::F16 => table.linear.f16_f32,
                        DenseFormat::Bf16 => table.linear.bf16_f32,
                    };
                    target.multiply(w.format.lines(), kernel, direct.unwrap_or(filled.float()), |_| 1.0);
                }
            }
        });
        for (done, now) in done.iter_mut().zip(now) {
            *done |= now;
        }
    }
}

/// One thread's columns of one output.
struct Target<'a, 'b> {
    lines: &'a [Line],
    tiles: usize,
    m: usize,
    bias: Option<&'a [f32]>,
    columns: &'a mut ColumnsMut<'b>,
}

impl Target<'_, '_> {
    /// Multiplies this thread's panels by all rows; `scale` is the factor of a row's totals. A panel stays in the cache for
    /// all blocks of rows, so memory is read once.
    fn multiply<X>(&mut self, tile_lines: usize, kernel: Kernel<X>, x: &[X], scale: impl Fn(usize) -> f32) {
        let panel_lines = tile_lines * self.tiles;
        let range = self.columns.range();
        let mut sums = [[0.0; PANEL]; ROW_BLOCK];
        for start in range.clone().step_by(PANEL) {
            let panel = &self.lines[start / PANEL * panel_lines..][..panel_lines];
            let width = PANEL.min(range.end - start);
            for first in (0..self.m).step_by(ROW_BLOCK) {
                let rows = ROW_BLOCK.min(self.m - first);
                let x = &x[first * self.tiles..][..rows * self.tiles];
                kernel(panel, x, &mut sums[..rows]);
                for (row, sums) in (first..).zip(&sums[..rows]) {
                    let y = &mut self.columns.row_mut(row)[start - range.start..][..width];
                    store(sums, scale(row), self.bias.map(|b| &b[start..start + width]), y);
                }
            }
        }
    }
}

/// `y = scale · total + bias`.
fn store(sums: &PanelSums, scale: f32, bias: Option<&[f32]>, y: &mut [f32]) {
    for (y, total) in y.iter_mut().zip(sums) {
        *y = scale * total;
    }
    for (y, bias) in y.iter_mut().zip(bias.unwrap_or(&[])) {
        *y += bias;
    }
}
