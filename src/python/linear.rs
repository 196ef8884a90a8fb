//! `reset.nvfp4.linear`, and the same with weights packed once: contiguous arrays in, an array out. Dtypes, strides and devices are
//! the Python layer's.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::backend::cpu::linear as cpu;
use crate::nvfp4::{Nvfp4Matrix, TensorScale};
use crate::parallel::Pool;
use crate::simd;
use crate::tensor::Matrix;

/// Adds the class and the function to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyPackedLinear>()?;
    m.add_class::<PyThreads>()?;
    m.add_function(wrap_pyfunction!(linear, m)?)
}

/// Multiplications below which starting threads takes longer than they save.
const PARALLEL: usize = 4 << 20;

/// None for float activations; `(scale,)` for quantized ones, with their tensor scale or None for one per row.
type Inputs = Option<(Option<f32>,)>;

/// `x · Wᵀ`, `[M, N]`, for `x` `[M, K]` and the flat parts of an NVFP4 matrix `[N, K]`.
#[pyfunction]
fn linear<'py>(
    py: Python<'py>,
    x: PyReadonlyArray2<'py, f32>,
    codes: PyReadonlyArray1<'py, u8>,
    block_scales: PyReadonlyArray1<'py, u8>,
    tensor_scale: (f32, bool),
    activations: Inputs,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let [m, cols] = [x.shape()[0], x.shape()[1]];
    let (x, codes, block_scales) = (x.as_slice()?, codes.as_slice()?, block_scales.as_slice()?);
    let (y, rows) = py.detach(|| {
        let weight = packed(codes, block_scales, tensor_scale, cols)?;
        let pool = Pool::new((m * weight.rows() * cols < PARALLEL).then_some(1));
        Ok::<_, crate::Error>((product(&pool, &weight, activations, x, m), weight.rows()))
    })?;
    PyArray1::from_vec(py, y).reshape([m, rows])
}

/// Threads that several packed matrices share: they start with the first product that needs them.
#[pyclass(name = "Threads", module = "reset._core", frozen)]
struct PyThreads(Pool);

#[pymethods]
impl PyThreads {
    #[new]
    #[pyo3(signature = (threads=None))]
    fn new(threads: Option<usize>) -> Self {
        Self(Pool::new(threads))
    }

    #[getter]
    fn count(&self) -> usize {
        self.0.threads()
    }
}

/// An NVFP4 matrix `[N, K]`, packed once for many products.
#[pyclass(name = "PackedLinear", module = "reset._core", frozen)]
struct PyPackedLinear {
    weight: cpu::PackedMatrix,
    alone: Pool,
}

#[pymethods]
impl PyPackedLinear {
    #[new]
    fn new(
        py: Python<'_>,
        codes: PyReadonlyArray1<'_, u8>,
        block_scales: PyReadonlyArray1<'_, u8>,
        tensor_scale: (f32, bool),
        cols: usize,
    ) -> PyResult<Self> {
        let (codes, block_scales) = (codes.as_slice()?, block_scales.as_slice()?);
        let weight = py.detach(|| packed(codes, block_scales, tensor_scale, cols))?;
        Ok(Self { weight, alone: Pool::new(Some(1)) })
    }

    /// As the function `linear`.
    fn multiply<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<'py, f32>,
        activations: Inputs,
        threads: &PyThreads,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let [m, cols] = [x.shape()[0], x.shape()[1]];
        if cols != self.weight.cols() {
            return Err(PyValueError::new_err(format!("x has {cols} columns, and the weights {}", self.weight.cols())));
        }
        let x = x.as_slice()?;
        let pool = if m * self.weight.rows() * cols < PARALLEL { &self.alone } else { &threads.0 };
        let y = py.detach(|| product(pool, &self.weight, activations, x, m));
        PyArray1::from_vec(py, y).reshape([m, self.weight.rows()])
    }
}

fn packed(codes: &[u8], block_scales: &[u8], (scale, divides): (f32, bool), cols: usize) -> crate::Result<cpu::PackedMatrix> {
    let rows = (2 * codes.len()).checked_div(cols).unwrap_or(0);
    let tensor_scale = if divides { TensorScale::Divisor(scale) } else { TensorScale::Multiplier(scale) };
    let matrix = Nvfp4Matrix::new(codes.to_vec(), block_scales.to_vec(), tensor_scale, rows, cols)?;
    Ok(cpu::PackedMatrix::pack(Matrix::Nvfp4(matrix)))
}

fn product(pool: &Pool, weight: &cpu::PackedMatrix, activations: Inputs, x: &[f32], m: usize) -> Vec<f32> {
    let activations = activations.map_or(cpu::Activations::Float, |(input_scale,)| cpu::Activations::Nvfp4 { input_scale });
    let mut y = vec![0.0; m * weight.rows()];
    cpu::linear(pool, simd::best(), &mut cpu::Scratch::default(), weight, activations, x, &mut y);
    y
}
