//! `_core.inspect`, `_core.quantize_checkpoint`, `_core.write_checkpoint`: checkpoints on disk.

#![allow(clippy::needless_pass_by_value, reason = "pyo3 hands over owned values")]

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::checkpoint::dialect::{self, DIALECTS};
use crate::checkpoint::write::{self, TensorSpec};
use crate::checkpoint::{self, ActivationScheme, Checkpoint, KvCacheScheme};
use crate::error::Result;
use crate::pipeline::quantize::{self, Measured, Options};
use crate::quantize::Method;

/// Adds the functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("CHECKPOINT_FORMATS", DIALECTS.iter().map(|d| (d.name, d.sentence)).collect::<Vec<_>>())?;
    m.add_function(wrap_pyfunction!(inspect, m)?)?;
    m.add_function(wrap_pyfunction!(check_quantize, m)?)?;
    m.add_function(wrap_pyfunction!(quantize_checkpoint, m)?)?;
    m.add_function(wrap_pyfunction!(write_checkpoint, m)?)?;
    Ok(())
}

/// JSON as the Python objects that `json.loads` makes of it.
pub fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (value.to_string(),))
}

/// Summary of the checkpoint at `path` as a JSON-ready dict.
#[pyfunction]
fn inspect(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    let summary = py.detach(|| -> Result<Value> { Ok(checkpoint::inspect(&Checkpoint::open(path)?)) })?;
    to_python(py, &summary)
}

/// Raises what `quantize_checkpoint` would raise before it reads a weight, without doing anything.
#[pyfunction]
#[pyo3(signature = (src, dst, *, format, kv, ignore))]
fn check_quantize(py: Python<'_>, src: PathBuf, dst: PathBuf, format: &str, kv: Option<&str>, ignore: Vec<String>) -> PyResult<()> {
    let (format, kv) = (dialect::parse(format)?, kv.map(KvCacheScheme::parse).transpose()?);
    py.detach(|| quantize::check(&src, &dst, format, kv, &ignore))?;
    Ok(())
}

/// Quantizes the checkpoint `src` into the new directory `dst`; `progress(done_bytes, total_bytes, tensor)` may raise to stop.
#[pyfunction]
#[pyo3(signature = (src, dst, *, format, method, activations, kv, ignore, input_amax, kv_amax, max_shard_bytes, progress))]
#[allow(clippy::too_many_arguments, reason = "keyword-only options of one Python function")]
fn quantize_checkpoint<'py>(
    py: Python<'py>,
    src: PathBuf,
    dst: PathBuf,
    format: &str,
    method: &str,
    activations: &str,
    kv: Option<&str>,
    ignore: Vec<String>,
    input_amax: Option<HashMap<String, f32>>,
    kv_amax: Option<HashMap<String, (f32, f32)>>,
    max_shard_bytes: u64,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let options = Options {
        format: dialect::parse(format)?,
        method: Method::parse(method)?,
        activations: ActivationScheme::parse(activations)?,
        kv_cache: kv.map(KvCacheScheme::parse).transpose()?,
        ignore,
        max_shard_bytes,
        measured: Measured { inputs: input_amax.unwrap_or_default(), kv: kv_amax.unwrap_or_default() },
    };
    // What stopped the run: an exception of `progress`, or of a signal handler (KeyboardInterrupt).
    let mut raised = None;
    let summary = py.detach(|| {
        quantize::quantize_checkpoint(&src, &dst, &options, &mut |step| {
            let told = Python::attach(|py| {
                py.check_signals()?;
                progress.as_ref().map_or(Ok(()), |call| call.call1(py, (step.done, step.total, step.tensor)).map(drop))
            });
            match told {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    raised = Some(error);
                    ControlFlow::Break(())
                }
            }
        })
    })?;
    match (summary, raised) {
        (_, Some(error)) => Err(error),
        (Some(s), None) => {
            let summary = json!({"quantized": s.quantized, "plain": s.plain, "source_bytes": s.source_bytes, "bytes": s.bytes});
            to_python(py, &summary)
        }
        (None, None) => Err(PyValueError::new_err("the run was stopped")),
    }
}

/// Writes a checkpoint of given arrays: `config_json` is the text of `config.json`, arrays keep their dtype.
#[pyfunction]
fn write_checkpoint(py: Python<'_>, dst: PathBuf, config_json: &str, tensors: &Bound<'_, PyDict>) -> PyResult<()> {
    let config: Value = serde_json::from_str(config_json).map_err(|e| PyValueError::new_err(format!("config_json is not JSON: {e}")))?;
    let contiguous = py.import("numpy")?.getattr("ascontiguousarray")?;
    let mut arrays = Vec::new();
    for (name, array) in tensors {
        let name: String = name.extract()?;
        let dtype: String = array.getattr("dtype")?.getattr("name")?.extract()?;
        let spelled: String = array.getattr("dtype")?.getattr("str")?.extract()?;
        let dtype = match (dtype.as_str(), spelled.starts_with('>')) {
            ("float32", false) => Dtype::F32,
            ("float16", false) => Dtype::F16,
            ("bfloat16", false) => Dtype::BF16,
            ("float8_e4m3fn", false) => Dtype::F8_E4M3,
            ("uint8", false) => Dtype::U8,
            ("int64", false) => Dtype::I64,
            _ => {
                let allowed = "little-endian float32, float16, bfloat16, float8_e4m3fn, uint8 or int64";
                return Err(PyTypeError::new_err(format!("tensor {name:?} has dtype {spelled} ({dtype}); write {allowed}")));
            }
        };
        let shape: Vec<usize> = array.getattr("shape")?.extract()?; // of the array itself: a scalar becomes [1] below
        let bytes: Bound<'_, PyBytes> = contiguous.call1((&array,))?.call_method0("tobytes")?.extract()?;
        arrays.push((TensorSpec { name, dtype, shape }, bytes));
    }
    let tensors: Vec<_> = arrays.iter().map(|(spec, bytes)| (spec.clone(), bytes.as_bytes())).collect();
    py.detach(|| write::write_dense(&dst, &config, &tensors))?;
    Ok(())
}
