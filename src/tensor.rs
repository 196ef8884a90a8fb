//! Weights in the storage formats the engine knows. A new format is one more variant, and runs everywhere through
//! [`Matrix::row_to_f32`] before it has kernels of its own.

use half::{bf16, f16};

use crate::nvfp4::Nvfp4Matrix;

/// A dense row-major matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense<T> {
    /// Elements, `[rows, cols]`.
    pub data: Vec<T>,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// A weight matrix, `[rows, cols]` = `[out features, in features]`.
#[derive(Clone, Debug, PartialEq)]
pub enum Matrix {
    /// 32-bit floats.
    F32(Dense<f32>),
    /// IEEE half precision.
    F16(Dense<f16>),
    /// bfloat16.
    Bf16(Dense<bf16>),
    /// NVFP4.
    Nvfp4(Nvfp4Matrix),
}

impl Matrix {
    /// Rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::F32(m) => m.rows,
            Self::F16(m) => m.rows,
            Self::Bf16(m) => m.rows,
            Self::Nvfp4(m) => m.rows(),
        }
    }

    /// Columns.
    pub fn cols(&self) -> usize {
        match self {
            Self::F32(m) => m.cols,
            Self::F16(m) => m.cols,
            Self::Bf16(m) => m.cols,
            Self::Nvfp4(m) => m.cols(),
        }
    }

    /// Name of the storage format as options and reports spell it.
    pub fn format(&self) -> &'static str {
        match self {
            Self::F32(_) => "f32",
            Self::F16(_) => "f16",
            Self::Bf16(_) => "bf16",
            Self::Nvfp4(_) => "nvfp4",
        }
    }

    /// Bytes held.
    pub fn nbytes(&self) -> usize {
        match self {
            Self::F32(m) => m.data.len() * 4,
            Self::F16(m) => m.data.len() * 2,
            Self::Bf16(m) => m.data.len() * 2,
            Self::Nvfp4(m) => m.nbytes(),
        }
    }

    /// One row widened to f32 into `out`, `[cols]`.
    pub fn row_to_f32(&self, row: usize, out: &mut [f32]) {
        fn widen<T: Copy>(m: &Dense<T>, row: usize, out: &mut [f32], to: impl Fn(T) -> f32) {
            for (out, &x) in out.iter_mut().zip(&m.data[row * m.cols..(row + 1) * m.cols]) {
                *out = to(x);
            }
        }
        match self {
            Self::F32(m) => widen(m, row, out, |x| x),
            Self::F16(m) => widen(m, row, out, f16::to_f32),
            Self::Bf16(m) => widen(m, row, out, bf16::to_f32),
            Self::Nvfp4(m) => m.row_to_f32(row, out),
        }
    }
}
