//! `_core.CudaLinear`: one NVFP4 layer, packed once on a device, for arrays of the host and for memory of the device.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]

use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::backend::Inputs;
use crate::error::Error;
use crate::python::model::Place;

/// Adds the class to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyCudaLinear>()
}

/// An NVFP4 layer on a CUDA device. `activations`: None for float inputs; `(scale,)` for quantized ones, with their tensor scale or None for
/// one per row.
#[pyclass(name = "CudaLinear", module = "reset._core", frozen)]
pub struct PyCudaLinear {
    inner: inner::Layer,
}

fn inputs(activations: Option<(Option<f32>,)>) -> Inputs {
    match activations {
        None => Inputs::Float,
        Some((Some(scale),)) => Inputs::Static(scale),
        Some((None,)) => Inputs::Dynamic,
    }
}

#[pymethods]
impl PyCudaLinear {
    /// The layer of the flat parts of an NVFP4 matrix `[N, cols]`.
    #[new]
    fn new(
        py: Python<'_>,
        place: Place,
        codes: PyReadonlyArray1<'_, u8>,
        block_scales: PyReadonlyArray1<'_, u8>,
        tensor_scale: (f32, bool),
        cols: usize,
    ) -> PyResult<Self> {
        let parts = (codes.as_slice()?.to_vec(), block_scales.as_slice()?.to_vec());
        Ok(Self { inner: py.detach(|| inner::Layer::new(place, parts, tensor_scale, cols))? })
    }

    /// (N, K).
    #[getter]
    fn shape(&self) -> (usize, usize) {
        self.inner.shape()
    }

    /// Bytes on the device.
    #[getter]
    fn nbytes(&self) -> usize {
        self.inner.nbytes()
    }

    /// `x · Wᵀ`, float32 `[M, N]`, of an array on the host.
    fn host<'py>(
        &self,
        py: Python<'py>,
        x: PyReadonlyArray2<'py, f32>,
        activations: Option<(Option<f32>,)>,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let (rows, x) = (x.shape()[0], x.as_slice()?);
        let y = py.detach(|| self.inner.host(x, rows, inputs(activations)))?;
        PyArray1::from_vec(py, y).reshape([rows, self.inner.shape().0])
    }

    /// The same for float32 rows at device address `x`, written to device address `y` in the order of `stream` (a `CUstream`; 0: the default).
    ///
    /// Addresses are taken at their word: of `rows · K` and `rows · N` elements, contiguous, of this device, and the stream is one of its.
    fn device(&self, py: Python<'_>, x: u64, y: u64, rows: usize, stream: u64, activations: Option<(Option<f32>,)>) -> PyResult<()> {
        Ok(py.detach(|| self.inner.device(x, y, rows, stream, inputs(activations)))?)
    }
}

#[cfg(feature = "cuda")]
mod inner {
    use super::{Error, Inputs, Place};
    use crate::backend::cuda::engine::{Cuda, Linear};
    use crate::backend::cuda::runtime::Places;
    use crate::backend::{Backend, LinearParts};
    use crate::nvfp4::{Nvfp4Matrix, TensorScale};
    use crate::tensor::Matrix;

    pub(super) struct Layer {
        linear: Linear,
        device: Cuda,
    }

    impl Layer {
        pub(super) fn new(
            (ordinal, nvrtc, cache): Place,
            (codes, block_scales): (Vec<u8>, Vec<u8>),
            (scale, divides): (f32, bool),
            cols: usize,
        ) -> Result<Self, Error> {
            let device = Cuda::open(ordinal, &Places { nvrtc, cache }, Some(1))?;
            let tensor_scale = if divides { TensorScale::Divisor(scale) } else { TensorScale::Multiplier(scale) };
            let rows = (2 * codes.len()).checked_div(cols).unwrap_or(0);
            let weight = Matrix::Nvfp4(Nvfp4Matrix::new(codes, block_scales, tensor_scale, rows, cols)?);
            let linear = device.linear(LinearParts { weight, bias: None, pre_quant_scale: None, inputs: Inputs::Float })?;
            Ok(Self { linear, device })
        }

        pub(super) fn shape(&self) -> (usize, usize) {
            (self.linear.rows, self.linear.cols)
        }

        pub(super) fn nbytes(&self) -> usize {
            self.linear.nbytes()
        }

        fn with(&self, inputs: Inputs) -> Linear {
            let mut linear = self.linear.clone();
            linear.set_inputs(inputs);
            linear
        }

        pub(super) fn host(&self, x: &[f32], rows: usize, inputs: Inputs) -> Result<Vec<f32>, Error> {
            let mut y = vec![0.0; rows * self.linear.rows];
            if !y.is_empty() && self.linear.cols > 0 {
                self.device.multiply(&self.with(inputs), x, rows, &mut y)?;
            }
            Ok(y)
        }

        pub(super) fn device(&self, x: u64, y: u64, rows: usize, stream: u64, inputs: Inputs) -> Result<(), Error> {
            if rows == 0 || self.linear.rows == 0 || self.linear.cols == 0 {
                return Ok(());
            }
            #[allow(unsafe_code, reason = "addresses that the caller vouches for")]
            // SAFETY: what the method promises of addresses and stream is the caller's word.
            unsafe {
                self.device.multiply_on(&self.with(inputs), x, rows, y, stream)
            }
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod inner {
    use super::{Error, Inputs, Place};

    pub(super) enum Layer {}

    impl Layer {
        pub(super) fn new((ordinal, ..): Place, _: (Vec<u8>, Vec<u8>), _: (f32, bool), _: usize) -> Result<Self, Error> {
            let problem = "this build has no CUDA part; build it with the feature `cuda`".to_owned();
            Err(Error::Device { device: format!("cuda:{ordinal}"), problem })
        }

        pub(super) fn shape(&self) -> (usize, usize) {
            match *self {}
        }

        pub(super) fn nbytes(&self) -> usize {
            match *self {}
        }

        pub(super) fn host(&self, _: &[f32], _: usize, _: Inputs) -> Result<Vec<f32>, Error> {
            match *self {}
        }

        pub(super) fn device(&self, _: u64, _: u64, _: usize, _: u64, _: Inputs) -> Result<(), Error> {
            match *self {}
        }
    }
}
