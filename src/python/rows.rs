//! Rows of logits from numpy, and their entropies.
//!
//! Logits arrive as contiguous rows of float32, or of the bits of float16 or bfloat16; the Python layer converts the rest.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error;
use crate::logits::LogitStats;
use crate::simd;

/// Adds the function to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(logits_entropy, m)?)
}

/// Rows of logits in one of three formats.
pub enum Rows<'a> {
    /// float32.
    F32(&'a [f32]),
    /// float16.
    F16(&'a [f16]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

impl Rows<'_> {
    /// Values of all rows.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }

    /// One row of `vocab` logits in f32; `widened` is the buffer for the short formats.
    pub fn row<'b>(&'b self, row: usize, vocab: usize, widened: &'b mut Vec<f32>) -> &'b [f32] {
        let range = row * vocab..(row + 1) * vocab;
        widened.resize(vocab, 0.0);
        match self {
            Self::F32(x) => return &x[range],
            Self::F16(x) => x[range].convert_to_f32_slice(widened),
            Self::Bf16(x) => x[range].convert_to_f32_slice(widened),
        }
        widened
    }
}

/// A borrowed array that [`Rows`] look into.
pub enum Array<'py> {
    /// float32.
    F32(PyReadonlyArray1<'py, f32>),
    /// float16 (true) or bfloat16 (false), as bits.
    Bits(PyReadonlyArray1<'py, u16>, bool),
}

impl<'py> Array<'py> {
    /// `x` is flat and contiguous: float32, or uint16 bits of the format `dtype`.
    pub fn new(x: &Bound<'py, PyAny>, dtype: &str) -> PyResult<Self> {
        match dtype {
            "float32" => Ok(Self::F32(x.extract()?)),
            "float16" | "bfloat16" => Ok(Self::Bits(x.extract()?, dtype == "float16")),
            _ => Err(PyTypeError::new_err(format!("logits of dtype {dtype} are not one of float32, float16, bfloat16"))),
        }
    }

    /// The values.
    pub fn rows(&self) -> PyResult<Rows<'_>> {
        Ok(match self {
            Self::F32(x) => Rows::F32(x.as_slice()?),
            Self::Bits(x, true) => Rows::F16(x.as_slice()?.reinterpret_cast()),
            Self::Bits(x, false) => Rows::Bf16(x.as_slice()?.reinterpret_cast()),
        })
    }
}

/// Entropies of consecutive rows, rounded to f32. An error names the row where there are several.
fn entropies(rows: &Rows, vocab: usize) -> Result<Vec<f32>, String> {
    if vocab == 0 {
        return Err("logits are empty; expected one logit per token of the vocabulary".into());
    }
    let count = rows.len() / vocab;
    let (table, mut widened) = (simd::best(), Vec::new());
    (0..count)
        .map(|row| {
            let stats = LogitStats::of(table, rows.row(row, vocab, &mut widened)).map_err(|problem| {
                let place = if count > 1 { format!("row {row}: ") } else { String::new() };
                format!("{place}{}", Error::from(problem))
            })?;
            Ok(stats.entropy as f32)
        })
        .collect()
}

/// Entropy in nats of each row of `vocab` logits, float64.
#[pyfunction]
fn logits_entropy<'py>(py: Python<'py>, logits: &Bound<'py, PyAny>, dtype: &str, vocab: usize) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let array = Array::new(logits, dtype)?;
    let rows = array.rows()?;
    let found = py.detach(|| entropies(&rows, vocab)).map_err(PyValueError::new_err)?;
    Ok(found.into_iter().map(f64::from).collect::<Vec<_>>().into_pyarray(py))
}
