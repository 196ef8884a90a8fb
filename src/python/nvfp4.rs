//! `reset.nvfp4`: flat contiguous buffers in, flat buffers out. Shapes, dtypes and strides are the Python layer's.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]

use std::collections::BTreeMap;

use half::slice::HalfBitsSliceExt;
use numpy::{IntoPyArray, PyArray1, PyArrayMethods, PyReadonlyArray1};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error;
use crate::nvfp4::TensorScale;
use crate::quantize;
use crate::quantize::{Dialect, Dtype, Method, Options, Source, Target};
use crate::simd;

/// Adds the functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(nvfp4_quantize, m)?)?;
    m.add_function(wrap_pyfunction!(nvfp4_dequantize, m)?)?;
    m.add_function(wrap_pyfunction!(memory_bandwidth, m)?)?;
    Ok(())
}

fn dtype_named(name: &str) -> PyResult<Dtype> {
    match name {
        "float32" => Ok(Dtype::F32),
        "float16" => Ok(Dtype::F16),
        "bfloat16" => Ok(Dtype::Bf16),
        _ => Err(PyTypeError::new_err(format!("dtype {name} is not one of float32, float16, bfloat16"))),
    }
}

/// The scale as stored, and whether it divides.
fn scale_parts(scale: TensorScale) -> (f32, bool) {
    match scale {
        TensorScale::Multiplier(s) => (s, false),
        TensorScale::Divisor(d) => (d, true),
    }
}

fn scale_of(value: f32, divides: bool) -> TensorScale {
    if divides { TensorScale::Divisor(value) } else { TensorScale::Multiplier(value) }
}

/// Row-major position of the flat `index`.
fn position(mut index: usize, shape: &[usize]) -> String {
    let mut position: Vec<_> = shape.iter().rev().map(|&n| (index % n, index /= n).0.to_string()).collect();
    position.reverse();
    position.join(", ")
}

type Quantized<'py> = (Bound<'py, PyArray1<u8>>, Bound<'py, PyArray1<u8>>, f32, bool);

/// Quantizes the flat array `x` (float32, or the bits of float16 or bfloat16 as uint16) of logical `shape`.
#[pyfunction]
fn nvfp4_quantize<'py>(
    py: Python<'py>,
    x: &Bound<'py, PyAny>,
    dtype: &str,
    shape: Vec<usize>,
    method: &str,
    dialect: &str,
    tensor_scale: Option<(f32, bool)>,
) -> PyResult<Quantized<'py>> {
    let options = Options {
        method: Method::parse(method)?,
        dialect: Dialect::parse(dialect)?,
        tensor_scale: tensor_scale.map(|(value, divides)| scale_of(value, divides)),
    };
    let (&cols, leading) = shape.split_last().ok_or_else(|| PyValueError::new_err("a scalar has no dimension to quantize along"))?;
    let rows = leading.iter().product();
    let result = if dtype_named(dtype)? == Dtype::F32 {
        let x: PyReadonlyArray1<f32> = x.extract()?;
        let x = x.as_slice()?;
        py.detach(|| quantize::quantize(Source::F32(x), rows, cols, &options))
    } else {
        let x: PyReadonlyArray1<u16> = x.extract()?;
        let bits = x.as_slice()?;
        let source = if dtype == "float16" { Source::F16(bits.reinterpret_cast()) } else { Source::Bf16(bits.reinterpret_cast()) };
        py.detach(|| quantize::quantize(source, rows, cols, &options))
    };
    let matrix = result.map_err(|error| match error {
        Error::NonFinite { index, value, .. } => PyValueError::new_err(format!(
            "x[{}] (element {index} in row-major order) is {value}, and NVFP4 holds finite values only; \
             replace NaN and infinities before quantizing",
            position(index, &shape)
        )),
        other => other.into(),
    })?;
    let (codes, block_scales, scale) = matrix.into_parts();
    let (scale, divides) = scale_parts(scale);
    Ok((codes.into_pyarray(py), block_scales.into_pyarray(py), scale, divides))
}

/// Dequantizes flat parts into the flat array `out` (float32, or the bits of float16 or bfloat16 as uint16).
#[pyfunction]
fn nvfp4_dequantize(
    py: Python<'_>,
    codes: PyReadonlyArray1<'_, u8>,
    block_scales: PyReadonlyArray1<'_, u8>,
    tensor_scale: (f32, bool),
    dtype: &str,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let (codes, block_scales) = (codes.as_slice()?, block_scales.as_slice()?);
    let scale = scale_of(tensor_scale.0, tensor_scale.1);
    let table = simd::best();
    if dtype_named(dtype)? == Dtype::F32 {
        let mut out = out.cast::<PyArray1<f32>>()?.try_readwrite()?;
        let out = Target::F32(out.as_slice_mut()?);
        py.detach(|| quantize::dequantize_parts(table, codes, block_scales, scale, out))?;
    } else {
        let mut out = out.cast::<PyArray1<u16>>()?.try_readwrite()?;
        let bits = out.as_slice_mut()?;
        let out = if dtype == "float16" { Target::F16(bits.reinterpret_cast_mut()) } else { Target::Bf16(bits.reinterpret_cast_mut()) };
        py.detach(|| quantize::dequantize_parts(table, codes, block_scales, scale, out))?;
    }
    Ok(())
}

/// GB/s (10⁹ bytes) that memory gives to plain reading and writing with `threads` threads: `{"read": …, "write": …}`.
#[pyfunction]
fn memory_bandwidth(py: Python<'_>, threads: usize) -> BTreeMap<&'static str, f64> {
    let found = py.detach(|| simd::bandwidth::measure(threads));
    BTreeMap::from([("read", found.read / 1e9), ("write", found.write / 1e9)])
}
