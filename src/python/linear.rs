//! `reset.nvfp4.linear`: contiguous arrays in, an array out. Dtypes, strides and devices are the Python layer's.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::backend::cpu::linear as cpu;
use crate::nvfp4::{Nvfp4Matrix, TensorScale};
use crate::parallel::Pool;
use crate::simd;
use crate::tensor::Matrix;

/// Adds the function to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(linear, m)?)
}

/// Multiplications below which starting threads takes longer than they save.
const PARALLEL: usize = 4 << 20;

/// `x · Wᵀ`, `[M, N]`, for `x` `[M, K]` and the flat parts of an NVFP4 matrix `[N, K]`. `activations`: None for float ones;
/// `(scale,)` for quantized ones, with their tensor scale or None for one per row.
#[pyfunction]
fn linear<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, f32>,
    codes: PyReadonlyArray1<'py, u8>,
    block_scales: PyReadonlyArray1<'py, u8>,
    tensor_scale: (f32, bool),
    activations: Option<(Option<f32>,)>,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let [m, cols] = [x.shape()[0], x.shape()[1]];
    let (x, codes, block_scales) = (x.as_slice()?, codes.as_slice()?, block_scales.as_slice()?);
    let rows = (2 * codes.len()).checked_div(cols).unwrap_or(0);
    let tensor_scale = if tensor_scale.1 { TensorScale::Divisor(tensor_scale.0) } else { TensorScale::Multiplier(tensor_scale.0) };
    let activations = activations.map_or(cpu::Activations::Float, |(input_scale,)| cpu::Activations::Nvfp4 { input_scale });
    let y = py.detach(|| {
        let weight = Nvfp4Matrix::new(codes.to_vec(), block_scales.to_vec(), tensor_scale, rows, cols)?;
        let weight = cpu::PackedMatrix::pack(Matrix::Nvfp4(weight));
        let pool = Pool::new((m * rows * cols < PARALLEL).then_some(1));
        let mut y = vec![0.0; m * rows];
        cpu::linear(&pool, simd::best(), &mut cpu::Scratch::default(), &weight, activations, x, &mut y);
        Ok::<_, crate::Error>(y)
    })?;
    PyArray1::from_vec(py, y).reshape([m, rows])
}
