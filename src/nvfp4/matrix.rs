//! An NVFP4 matrix in the row-major layout of checkpoints.

use crate::error::{Error, Result};
use crate::numeric::{e2m1, e4m3};
use crate::nvfp4::BLOCK;

/// The tensor scale as its file states it. `1 / (1 / D) ≠ D` in f32, so a divisor stays a divisor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TensorScale {
    /// `value = e2m1 · (block scale · S)`: ModelOpt's `weight_scale_2`.
    Multiplier(f32),
    /// `value = e2m1 · (block scale / D)`: compressed-tensors' `weight_global_scale`.
    Divisor(f32),
}

impl TensorScale {
    /// The scale as a multiplier (rounded once for a divisor).
    pub fn multiplier(self) -> f32 {
        match self {
            Self::Multiplier(s) => s,
            Self::Divisor(d) => 1.0 / d,
        }
    }

    /// `block_scale` in real units: the factor of an element.
    pub fn apply(self, block_scale: f32) -> f32 {
        match self {
            Self::Multiplier(s) => block_scale * s,
            Self::Divisor(d) => block_scale / d,
        }
    }
}

/// A quantized matrix, as stored in checkpoints: row-major, low nibble first.
#[derive(Clone, Debug, PartialEq)]
pub struct Nvfp4Matrix {
    codes: Vec<u8>,        // [rows, cols / 2]
    block_scales: Vec<u8>, // [rows, cols / 16]
    tensor_scale: TensorScale,
    rows: usize,
    cols: usize,
}

impl Nvfp4Matrix {
    /// Checks and takes the parts: lengths must match `rows × cols`, `cols` must be a multiple of 16, block scales must be
    /// finite and not negative, the tensor scale finite and positive.
    pub fn new(codes: Vec<u8>, block_scales: Vec<u8>, tensor_scale: TensorScale, rows: usize, cols: usize) -> Result<Self> {
        let shape =
            |what: &str, found: usize, expected: String| Error::Shape { what: what.to_owned(), found: format!("{found} bytes"), expected };
        if !cols.is_multiple_of(BLOCK) {
            return Err(Error::Shape {
                what: "NVFP4 matrix".to_owned(),
                found: format!("{cols} columns"),
                expected: "a multiple of 16 columns; pad the last dimension with zeros".to_owned(),
            });
        }
        if Some(codes.len()) != rows.checked_mul(cols / 2) {
            return Err(shape("codes", codes.len(), format!("{rows} rows of {} bytes", cols / 2)));
        }
        if Some(block_scales.len()) != rows.checked_mul(cols / BLOCK) {
            return Err(shape("block_scales", block_scales.len(), format!("{rows} rows of {} bytes", cols / BLOCK)));
        }
        if let Some(index) = block_scales.iter().position(|&s| s & 0x7F == 0x7F || s > 0x80) {
            return Err(Error::Shape {
                what: format!("block_scales, element {index}"),
                found: format!("0x{:02X} = {}", block_scales[index], e4m3::decode(block_scales[index])),
                expected: "E4M3 bits of a finite, non-negative number".to_owned(),
            });
        }
        let (TensorScale::Multiplier(scale) | TensorScale::Divisor(scale)) = tensor_scale;
        if !scale.is_finite() || scale <= 0.0 {
            return Err(Error::Argument {
                option: "tensor_scale",
                found: scale.to_string(),
                allowed: "a finite positive number".to_owned(),
            });
        }
        Ok(Self { codes, block_scales, tensor_scale, rows, cols })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns, a multiple of 16.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Packed codes, `[rows, cols / 2]`.
    pub fn codes(&self) -> &[u8] {
        &self.codes
    }

    /// E4M3 bits, `[rows, cols / 16]`.
    pub fn block_scales(&self) -> &[u8] {
        &self.block_scales
    }

    /// The tensor scale.
    pub fn tensor_scale(&self) -> TensorScale {
        self.tensor_scale
    }

    /// Bytes held by codes, block scales and the tensor scale.
    pub fn nbytes(&self) -> usize {
        self.codes.len() + self.block_scales.len() + 4
    }

    /// Codes, block scales and the tensor scale, without copying.
    pub fn into_parts(self) -> (Vec<u8>, Vec<u8>, TensorScale) {
        (self.codes, self.block_scales, self.tensor_scale)
    }

    /// Dequantizes one row into `out`, `[cols]`: `e2m1 · (e4m3 · S)` in f32.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        let codes = &self.codes[row * self.cols / 2..(row + 1) * self.cols / 2];
        let scales = &self.block_scales[row * self.cols / BLOCK..(row + 1) * self.cols / BLOCK];
        for ((out, codes), &scale) in out.chunks_exact_mut(BLOCK).zip(codes.chunks_exact(BLOCK / 2)).zip(scales) {
            let factor = self.tensor_scale.apply(e4m3::decode(scale));
            for (pair, &byte) in out.chunks_exact_mut(2).zip(codes) {
                pair[0] = e2m1::decode(byte & 15) * factor;
                pair[1] = e2m1::decode(byte >> 4) * factor;
            }
        }
    }
}
