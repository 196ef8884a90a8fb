//! `_core.cuda…`: what NVIDIA hardware and software this machine has, kernels to cubins, and the checks of a card.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::error::Error;

/// Adds the functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(cuda, m)?)?;
    m.add_function(wrap_pyfunction!(cuda_kernels, m)?)?;
    m.add_function(wrap_pyfunction!(cuda_compile, m)?)?;
    m.add_function(wrap_pyfunction!(cuda_check, m)?)?;
    m.add_function(wrap_pyfunction!(cuda_linear_timings, m)?)
}

/// Cards, versions of driver and run-time compiler, and what is missing with what would help: `nvrtc` is where to look for the compiler.
#[pyfunction]
fn cuda(py: Python<'_>, nvrtc: Vec<PathBuf>) -> PyResult<Bound<'_, PyDict>> {
    let found = py.detach(move || inner::probe(&nvrtc));
    let report = PyDict::new(py);
    report.set_item("devices", found.devices)?;
    report.set_item("driver_version", found.driver_version)?;
    report.set_item("compiler", found.compiler)?;
    report.set_item("missing", found.missing)?;
    Ok(report)
}

/// The files of kernels: name, one sentence.
#[pyfunction]
fn cuda_kernels() -> Vec<(&'static str, &'static str)> {
    inner::kernels()
}

/// The cubin of one file of kernels, or of `source`, for `architecture` (as in `sm_90`), and whether it came from `cache`. Needs no device.
#[pyfunction]
#[pyo3(signature = (name, architecture, nvrtc, cache=None, source=None))]
fn cuda_compile<'py>(
    py: Python<'py>,
    name: &str,
    architecture: &str,
    nvrtc: Vec<PathBuf>,
    cache: Option<PathBuf>,
    source: Option<&str>,
) -> PyResult<(Bound<'py, PyBytes>, bool)> {
    let (bytes, cached) = py.detach(move || inner::compile(name, architecture, &nvrtc, cache, source))?;
    Ok((PyBytes::new(py, &bytes), cached))
}

/// Checks device `ordinal` and measures it: bytes per second copied and read, seconds per node of a graph, seconds to the host.
#[pyfunction]
#[pyo3(signature = (ordinal, nvrtc, cache=None, nbytes=1 << 30, nodes=200, repetitions=20))]
fn cuda_check(
    py: Python<'_>,
    ordinal: usize,
    nvrtc: Vec<PathBuf>,
    cache: Option<PathBuf>,
    nbytes: usize,
    nodes: usize,
    repetitions: usize,
) -> PyResult<Bound<'_, PyDict>> {
    let figures = py.detach(|| inner::check(ordinal, nvrtc, cache, [nbytes, nodes, repetitions]))?;
    let report = PyDict::new(py);
    for (name, value) in figures {
        report.set_item(name, value)?;
    }
    Ok(report)
}

/// A layer's outputs, inputs, whether it is NVFP4 (else bf16), numbers of tokens, and copies of the weights that launches take in turn.
type LayerShape = (usize, usize, bool, Vec<u32>, usize);

/// Of each of `shapes`, seconds of a launch for each number of tokens, and bytes of the weights.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]
fn cuda_linear_timings(
    py: Python<'_>,
    place: crate::python::model::Place,
    shapes: Vec<LayerShape>,
    repetitions: usize,
) -> PyResult<Vec<(Vec<f64>, usize)>> {
    let possible = |tokens: &[u32]| !tokens.is_empty() && tokens.iter().all(|count| (1..=8).contains(count));
    if let Some(shape) = shapes.iter().find(|(rows, cols, _, tokens, _)| *rows == 0 || *cols == 0 || cols % 16 != 0 || !possible(tokens)) {
        let allowed = "rows from 1, columns in multiples of 16, tokens from 1 to 8".to_owned();
        return Err(Error::Argument { option: "shapes", found: format!("{shape:?}"), allowed }.into());
    }
    Ok(py.detach(|| inner::time_linears(place, &shapes, repetitions))?)
}

/// What is reported of a machine, in types that Python knows.
#[derive(Default)]
struct Found {
    devices: Vec<(usize, String, (i32, i32), u64)>,
    driver_version: Option<(i32, i32)>,
    compiler: Option<((i32, i32), PathBuf)>,
    missing: Vec<(String, String)>,
}

#[cfg(feature = "cuda")]
mod inner {
    use std::path::PathBuf;

    use super::{Error, Found};
    use crate::backend::cuda::cache::Cache;
    use crate::backend::cuda::check::{Effort, check as check_card};
    use crate::backend::cuda::compile::{Compile, cubin, options};
    use crate::backend::cuda::engine::Cuda;
    use crate::backend::cuda::engine::measure::Shape;
    use crate::backend::cuda::nvrtc::Compiler;
    use crate::backend::cuda::problem::Problem;
    use crate::backend::cuda::runtime::{Places, Runtime};
    use crate::backend::cuda::sources::{HEADERS, KERNELS, kernel};

    pub(super) fn probe(nvrtc: &[PathBuf]) -> Found {
        let found = crate::backend::cuda::probe::probe(nvrtc);
        let cards = found.cards.into_iter().enumerate();
        Found {
            devices: cards.map(|(ordinal, card)| (ordinal, card.name, card.compute_capability, card.memory_bytes)).collect(),
            driver_version: found.driver.map(|version| (version.0, version.1)),
            compiler: found.compiler.map(|(version, path)| ((version.0, version.1), path)),
            missing: found.missing.into_iter().map(|problem| (problem.found, problem.help)).collect(),
        }
    }

    pub(super) fn kernels() -> Vec<(&'static str, &'static str)> {
        KERNELS.iter().map(|kernel| (kernel.name, kernel.what)).collect()
    }

    pub(super) fn compile(
        name: &str,
        architecture: &str,
        nvrtc: &[PathBuf],
        cache: Option<PathBuf>,
        source: Option<&str>,
    ) -> Result<(Vec<u8>, bool), Error> {
        let on = |problem: Problem| problem.on(architecture);
        let compiler = Compiler::find(nvrtc, None).map_err(on)?;
        if let Some(source) = source {
            return Ok((compiler.compile(name, source, HEADERS, &options(architecture)).map_err(on)?, false));
        }
        let allowed = || KERNELS.iter().map(|kernel| kernel.name).collect::<Vec<_>>().join(", ");
        let kernel = kernel(name).ok_or_else(|| Error::Argument { option: "name", found: name.to_owned(), allowed: allowed() })?;
        let cubin = cubin(&compiler, &Cache::new(cache), kernel, architecture).map_err(on)?;
        Ok((cubin.bytes, cubin.cached))
    }

    pub(super) fn time_linears(
        (ordinal, nvrtc, cache): (usize, Vec<PathBuf>, Option<PathBuf>),
        shapes: &[super::LayerShape],
        repetitions: usize,
    ) -> Result<Vec<(Vec<f64>, usize)>, Error> {
        let device = Cuda::open(ordinal, &Places { nvrtc, cache }, Some(1))?;
        let time = |(rows, cols, nvfp4, tokens, copies): &super::LayerShape| {
            device.time_linear(Shape { rows: *rows, cols: *cols, nvfp4: *nvfp4, copies: *copies }, tokens, repetitions)
        };
        shapes.iter().map(time).collect()
    }

    pub(super) fn check(
        ordinal: usize,
        nvrtc: Vec<PathBuf>,
        cache: Option<PathBuf>,
        [bytes, nodes, repetitions]: [usize; 3],
    ) -> Result<Vec<(&'static str, f64)>, Error> {
        let runtime = Runtime::open(ordinal, &Places { nvrtc, cache })?;
        let report = check_card(&runtime, Effort { bytes, nodes, repetitions })?;
        Ok(vec![
            ("bytes", report.bytes as f64),
            ("copy_bytes_per_second", report.copy_bytes_per_second),
            ("read_bytes_per_second", report.read_bytes_per_second),
            ("node_seconds", report.node_seconds),
            ("overlapping_node_seconds", report.overlapping_node_seconds),
            ("overlapping_edges", report.overlapping_edges as f64),
            ("record_seconds", report.record_seconds),
        ])
    }
}

#[cfg(not(feature = "cuda"))]
mod inner {
    use std::path::PathBuf;

    use super::{Error, Found};

    const FOUND: &str = "this build has no CUDA part";
    const HELP: &str = "build it with the feature `cuda`";

    fn refusal<T>(device: impl Into<String>) -> Result<T, Error> {
        Err(Error::Device { device: device.into(), problem: format!("{FOUND}; {HELP}") })
    }

    pub(super) fn probe(_: &[PathBuf]) -> Found {
        Found { missing: vec![(FOUND.to_owned(), HELP.to_owned())], ..Found::default() }
    }

    pub(super) fn kernels() -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }

    pub(super) fn compile(
        _: &str,
        architecture: &str,
        _: &[PathBuf],
        _: Option<PathBuf>,
        _: Option<&str>,
    ) -> Result<(Vec<u8>, bool), Error> {
        refusal(architecture)
    }

    pub(super) fn time_linears(
        (ordinal, ..): (usize, Vec<PathBuf>, Option<PathBuf>),
        _: &[super::LayerShape],
        _: usize,
    ) -> Result<Vec<(Vec<f64>, usize)>, Error> {
        refusal(format!("cuda:{ordinal}"))
    }

    pub(super) fn check(ordinal: usize, _: Vec<PathBuf>, _: Option<PathBuf>, _: [usize; 3]) -> Result<Vec<(&'static str, f64)>, Error> {
        refusal(format!("cuda:{ordinal}"))
    }
}
