//! `_core.inspect`, `_core.write_checkpoint`, `_core.quantize_checkpoint`: checkpoints on disk.

use std::path::PathBuf;

use pyo3::prelude::*;
use serde_json::Value;

use crate::checkpoint::{self, Checkpoint};

/// Adds the functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(inspect, m)?)?;
    Ok(())
}

/// JSON as the Python objects that `json.loads` makes of it.
fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    py.import("json")?.call_method1("loads", (value.to_string(),))
}

/// Summary of the checkpoint at `path` as a JSON-ready dict.
#[pyfunction]
fn inspect(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    let summary = py.detach(|| Ok::<_, crate::error::Error>(checkpoint::inspect(&Checkpoint::open(path)?)))?;
    to_python(py, &summary)
}
