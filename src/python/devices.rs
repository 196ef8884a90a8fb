//! `_core.cuda()`: what NVIDIA hardware and software this machine has.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Adds the function to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(cuda, m)?)
}

/// Devices (ordinal, name, compute capability, bytes of memory), versions of driver and run-time compiler, and what is
/// missing (None where models could run).
#[cfg(feature = "cuda")]
#[pyfunction]
fn cuda(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let found = py.detach(crate::backend::cuda::probe::probe);
    let report = PyDict::new(py);
    let devices: Vec<_> = found.devices.into_iter().map(|d| (d.ordinal, d.name, d.compute_capability, d.memory_bytes)).collect();
    report.set_item("devices", devices)?;
    report.set_item("driver_version", found.driver_version)?;
    report.set_item("compiler_version", found.compiler_version)?;
    report.set_item("problem", found.problem)?;
    Ok(report)
}

/// As with the gate `cuda`, for a build without it.
#[cfg(not(feature = "cuda"))]
#[pyfunction]
fn cuda(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let report = PyDict::new(py);
    report.set_item("devices", Vec::<usize>::new())?;
    report.set_item("driver_version", py.None())?;
    report.set_item("compiler_version", py.None())?;
    report.set_item("problem", "this build has no CUDA part: build it with the feature `cuda`")?;
    Ok(report)
}
