//! Weights in the storage formats the engine knows. A new format is one more variant, and runs everywhere through
//! [`Matrix::row_to_f32`] before it has kernels of its own.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use half::{bf16, f16};

use crate::nvfp4::Nvfp4Matrix;

/// Elements of a matrix: held in memory, or read where they lie, such as in a mapped file.
#[derive(Clone)]
pub enum Storage<T> {
    /// The matrix's own.
    Owned(Vec<T>),
    /// Somebody else's.
    Shared(Arc<dyn Lender<T>>),
}

/// Who holds elements that others read.
pub trait Lender<T>: Send + Sync {
    /// All of them.
    fn elements(&self) -> &[T];
    /// These have been read for good: their memory may be given back. Reading them again is slow and right.
    fn forget(&self, range: Range<usize>);
}

impl<T> Storage<T> {
    /// See [`Lender::forget`]; what a matrix owns goes with it.
    pub fn forget(&self, range: Range<usize>) {
        if let Self::Shared(lender) = self {
            lender.forget(range);
        }
    }
}

impl<T> Deref for Storage<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Owned(elements) => elements,
            Self::Shared(lender) => lender.elements(),
        }
    }
}

impl<T> From<Vec<T>> for Storage<T> {
    fn from(elements: Vec<T>) -> Self {
        Self::Owned(elements)
    }
}

impl<T: PartialEq> PartialEq for Storage<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: fmt::Debug> fmt::Debug for Storage<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// A dense row-major matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Dense<T> {
    /// Elements, `[rows, cols]`.
    pub data: Storage<T>,
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

    /// Rows `rows` have been read for good: where they lie in a mapped file, their pages may leave memory.
    pub fn forget_rows(&self, rows: Range<usize>) {
        let range = rows.start * self.cols()..rows.end * self.cols();
        match self {
            Self::F32(m) => m.data.forget(range),
            Self::F16(m) => m.data.forget(range),
            Self::Bf16(m) => m.data.forget(range),
            Self::Nvfp4(_) => {}
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
