//! NVFP4 as the matrix kernels read it: panels of 16 rows, tiles of 64 columns, nine cache lines a tile.
//!
//! The order of bytes inside a tile is drawn in [`simd::linear`](crate::simd::linear). Codes and scales of a tile lie side by
//! side, so a thread reads its rows as one contiguous stream, of the size of the file plus padding. Rows are padded to 16
//! and columns to 64 with zero codes under zero scales, which add nothing to any sum.

use crate::error::Result;
use crate::memory::advise_huge_pages;
use crate::numeric::{e2m1, e4m3};
use crate::nvfp4::parts;
use crate::nvfp4::{BLOCK, Nvfp4Matrix, TensorScale};
use crate::simd::linear::{Line, NVFP4_LINES, PANEL, TILE};

/// `count` zeroed lines, in huge pages where there are many and the system has them.
pub fn zeroed_lines(count: usize) -> Vec<Line> {
    let mut lines = Vec::with_capacity(count);
    advise_huge_pages(&lines);
    lines.resize(count, Line([0; 64]));
    lines
}

/// Panels that one thread packs at a time.
const RUN: usize = 64;

/// Calls `pack(panel, lines)` for every panel of `panel_lines` lines, on several threads where there are many.
pub fn for_each_panel(lines: &mut [Line], panel_lines: usize, pack: impl Fn(usize, &mut [Line]) + Sync) {
    if panel_lines > 0 {
        parts::for_each(lines.chunks_mut(RUN * panel_lines).enumerate(), |(run, lines)| {
            for (panel, lines) in lines.chunks_exact_mut(panel_lines).enumerate() {
                pack(run * RUN + panel, lines);
            }
        });
    }
}

/// An NVFP4 matrix in panels.
#[derive(Clone, Debug)]
pub struct Nvfp4Panels {
    lines: Vec<Line>, // [panels, tiles, 9]
    tensor_scale: TensorScale,
    rows: usize,
    cols: usize,
}

impl Nvfp4Panels {
    /// Rearranges a matrix.
    pub fn pack(matrix: &Nvfp4Matrix) -> Self {
        let (rows, cols) = (matrix.rows(), matrix.cols());
        let panel_lines = cols.div_ceil(TILE) * NVFP4_LINES;
        let mut lines = zeroed_lines(rows.div_ceil(PANEL) * panel_lines);
        for_each_panel(&mut lines, panel_lines, |panel, lines| {
            for r in 0..PANEL.min(rows - panel * PANEL) {
                let row = panel * PANEL + r;
                let codes = matrix.codes()[row * cols / 2..(row + 1) * cols / 2].chunks_exact(BLOCK / 2);
                let scales = &matrix.block_scales()[row * cols / BLOCK..(row + 1) * cols / BLOCK];
                for (block, (codes, &scale)) in codes.zip(scales).enumerate() {
                    let (tile, b) = (block / 4 * NVFP4_LINES, block % 4);
                    lines[tile + 8].0[BLOCK * b + r] = scale & 0x7F; // −0 is 0
                    for (v, codes) in codes.chunks_exact(4).enumerate() {
                        lines[tile + 2 * b + v].0[4 * r..4 * r + 4].copy_from_slice(&interleave(codes));
                    }
                }
            }
        });
        Self { lines, tensor_scale: matrix.tensor_scale(), rows, cols }
    }

    /// The matrix in checkpoint layout.
    pub fn unpack(&self) -> Result<Nvfp4Matrix> {
        let mut codes = vec![0; self.rows * self.cols / 2];
        let mut scales = vec![0; self.rows * self.cols / BLOCK];
        for row in 0..self.rows {
            let codes = codes[row * self.cols / 2..].chunks_exact_mut(BLOCK / 2);
            let scales = scales[row * self.cols / BLOCK..].iter_mut();
            for (block, (codes, scale)) in (0..self.cols / BLOCK).zip(codes.zip(scales)) {
                let (packed, byte) = self.block(row, block);
                *scale = byte;
                for (codes, packed) in codes.chunks_exact_mut(4).zip(packed) {
                    codes.copy_from_slice(&deinterleave(packed));
                }
            }
        }
        Nvfp4Matrix::new(codes, scales, self.tensor_scale, self.rows, self.cols)
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, a multiple of 16.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// The tensor scale.
    pub fn tensor_scale(&self) -> TensorScale {
        self.tensor_scale
    }

    /// All panels, one after another.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Dequantizes one row into `out`, `[cols]`: `e2m1 · (e4m3 · S)` in f32, as [`Nvfp4Matrix::row_to_f32`] does.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        for (block, out) in out[..self.cols].chunks_exact_mut(BLOCK).enumerate() {
            let (packed, scale) = self.block(row, block);
            let factor = self.tensor_scale.apply(e4m3::decode(scale));
            for (out, packed) in out.chunks_exact_mut(8).zip(packed) {
                for j in 0..4 {
                    out[j] = e2m1::decode(packed[j] & 15) * factor;
                    out[j + 4] = e2m1::decode(packed[j] >> 4) * factor;
                }
            }
        }
    }

    /// The two dwords and the scale of one block.
    fn block(&self, row: usize, block: usize) -> ([[u8; 4]; 2], u8) {
        let (r, b) = (row % PANEL, block % 4);
        let tile = &self.lines[(row / PANEL * self.cols.div_ceil(TILE) + block / 4) * NVFP4_LINES..][..NVFP4_LINES];
        let dword = |v: usize| std::array::from_fn(|j| tile[2 * b + v].0[4 * r + j]);
        ([dword(0), dword(1)], tile[8].0[BLOCK * b + r])
    }
}

/// Codes of columns (0,1) (2,3) (4,5) (6,7), the even one in the low nibble, to columns (0,4) (1,5) (2,6) (3,7).
fn interleave(codes: &[u8]) -> [u8; 4] {
    let [a, b, c, d] = [codes[0], codes[1], codes[2], codes[3]];
    [(a & 15) | (c << 4), (a >> 4) | (c & 0xF0), (b & 15) | (d << 4), (b >> 4) | (d & 0xF0)]
}

/// The inverse of [`interleave`].
fn deinterleave(packed: [u8; 4]) -> [u8; 4] {
    let [a, b, c, d] = packed;
    [(a & 15) | (b << 4), (c & 15) | (d << 4), (a >> 4) | (b & 0xF0), (c >> 4) | (d & 0xF0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rows: usize, cols: usize) -> Nvfp4Matrix {
        let mut state = 1u32;
        let mut byte = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        let codes = (0..rows * cols / 2).map(|_| byte()).collect();
        let scales = (0..rows * cols / BLOCK).map(|_| byte() % 0x7F).collect();
        Nvfp4Matrix::new(codes, scales, TensorScale::Divisor(3.7), rows, cols).expect("valid parts")
    }

    #[test]
    fn unpacking_restores_every_matrix() {
        for (rows, cols) in [(0, 16), (1, 16), (16, 64), (17, 80), (35, 208), (3, 0)] {
            let matrix = sample(rows, cols);
            let panels = Nvfp4Panels::pack(&matrix);
            assert_eq!(panels.lines().len(), rows.div_ceil(16) * cols.div_ceil(64) * 9);
            assert_eq!(panels.unpack().expect("valid parts"), matrix, "{rows} × {cols}");
        }
    }

    #[test]
    fn rows_dequantize_as_in_checkpoint_layout() {
        let matrix = sample(19, 112);
        let panels = Nvfp4Panels::pack(&matrix);
        let (mut ours, mut theirs) = ([0.0; 112], [0.0; 112]);
        for row in 0..19 {
            panels.row_to_f32(row, &mut ours);
            matrix.row_to_f32(row, &mut theirs);
            assert_eq!(ours.map(f32::to_bits), theirs.map(f32::to_bits));
        }
    }

    #[test]
    fn lines_are_aligned_and_zero() {
        for count in [0, 3, crate::memory::HUGE / 64 + 1] {
            let lines = zeroed_lines(count);
            assert!(lines.as_ptr().addr().is_multiple_of(64) && lines.len() == count);
            assert!(lines.iter().all(|line| line.0 == [0; 64]));
        }
    }
}
