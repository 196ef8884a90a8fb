//! `_core.cpu()`: what the CPU offers and which table of inner loops was chosen.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::simd;

/// Adds the function to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(cpu, m)?)
}

/// Detected features that matter here, by their usual names.
fn features() -> Vec<&'static str> {
    #[allow(unused_mut, reason = "other targets detect nothing")]
    let mut found = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! detect {
            ($($name:tt),*) => { $(if is_x86_feature_detected!($name) { found.push($name); })* };
        }
        detect!(
            "avx2",
            "fma",
            "f16c",
            "avxvnni",
            "avx512f",
            "avx512bw",
            "avx512vl",
            "avx512vnni",
            "avx512vbmi",
            "avx512bf16",
            "avx512fp16"
        );
    }
    #[cfg(target_arch = "aarch64")]
    {
        macro_rules! detect {
            ($($name:tt),*) => { $(if std::arch::is_aarch64_feature_detected!($name) { found.push($name); })* };
        }
        detect!("neon", "dotprod", "i8mm", "fp16", "bf16", "sve");
    }
    found
}

/// Features, threads, every table with the reason why it cannot run here (None where it can), the table chosen, and how many
/// bytes ahead it fetches weights.
#[pyfunction]
fn cpu(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let report = PyDict::new(py);
    report.set_item("features", features())?;
    report.set_item("threads", std::thread::available_parallelism().map_or(1, usize::from))?;
    report.set_item("table", simd::best().name)?;
    report.set_item("tables", simd::all())?;
    report.set_item("prefetch_distance", simd::prefetch::distance())?;
    Ok(report)
}
