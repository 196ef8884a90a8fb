//! `_core.bench_decode`: the speed of a model made up, for `reset-nvfp4 bench decode`.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::PyArray1;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::backend::cpu::Cpu;
use crate::backend::{Backend, KvFormat};
use crate::controller::{DEFAULT_WINDOW, Fixed, Policy, StepAware};
use crate::decode::Model;
use crate::error::{Error, Result};
use crate::generate::timing::{WARM_UP, time_steps};
use crate::model::Format;
use crate::pipeline::load::{Activations, parse_kv};
use crate::pipeline::synthetic::{self, Formats, SHAPES, Shape, Timing};
use crate::pipeline::synthetic_checkpoint;
#[cfg(feature = "cuda")]
use crate::pipeline::time_device::time_device;
#[cfg(not(feature = "cuda"))]
use crate::python::model::no_cuda;
#[cfg(feature = "cuda")]
use crate::python::model::open_device;
use crate::python::model::{Loaded, Place, checked, each};

/// Adds the functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(bench_decode, m)?)?;
    m.add_function(wrap_pyfunction!(bench_shapes, m)?)?;
    m.add_function(wrap_pyfunction!(write_random_checkpoint, m)?)
}

/// Writes a bf16 checkpoint with random weights of the size `shape` into the new directory `dst`.
#[pyfunction]
fn write_random_checkpoint(py: Python<'_>, dst: PathBuf, shape: &str) -> PyResult<()> {
    let shape = Shape::named(shape)?;
    py.detach(move || synthetic_checkpoint::write(shape, &dst))?;
    Ok(())
}

/// Names of the shapes of `bench_decode`.
#[pyfunction]
fn bench_shapes() -> Vec<&'static str> {
    SHAPES.iter().map(|s| s.name).collect()
}

/// Times decode steps of a model with random weights of the size `shape`, for each batch size; prefill too if `prompt` > 0. Steps draw their
/// tokens as `policy` says ("reset", "fixed"); "none" times the CPU's model alone, logits included.
#[pyfunction]
#[pyo3(signature = (shape, *, weights="nvfp4", activations="nvfp4", lm_head="nvfp4", kv="bf16", batches=vec![1, 4, 8], context=0, steps=32, prompt=0, threads=None, cuda=None, policy="reset"))]
#[expect(clippy::too_many_arguments, reason = "the options of the benchmark")]
fn bench_decode<'py>(
    py: Python<'py>,
    shape: &str,
    weights: &str,
    activations: &str,
    lm_head: &str,
    kv: &str,
    batches: Vec<usize>,
    context: usize,
    steps: usize,
    prompt: usize,
    threads: Option<usize>,
    cuda: Option<Place>,
    policy: &str,
) -> PyResult<Bound<'py, PyDict>> {
    let nvfp4 = |option: &'static str, text: &str| match Format::parse(option, text)? {
        Format::Auto => Err(Error::Argument { option, found: "\"auto\"".to_owned(), allowed: "\"bf16\" or \"nvfp4\"".to_owned() }),
        format => Ok(format == Format::Nvfp4),
    };
    let formats = Formats {
        nvfp4_weights: nvfp4("weights", weights)?,
        nvfp4_head: nvfp4("lm_head", lm_head)?,
        nvfp4_activations: Activations::parse(activations)? == Activations::Nvfp4,
        kv: parse_kv(kv)?.unwrap_or(KvFormat::Bf16),
    };
    if batches.iter().any(|&b| b == 0 || b > 256) || steps == 0 {
        return Err(PyValueError::new_err("batches are from 1 to 256, and at least one step is needed"));
    }
    let policy = match policy {
        "reset" => Timed::Reset,
        "fixed" => Timed::Fixed,
        "none" if cuda.is_none() => Timed::Model,
        other => {
            let allowed = "\"reset\", \"fixed\", or on the CPU \"none\"".to_owned();
            return Err(Error::Argument { option: "policy", found: format!("{other:?}"), allowed }.into());
        }
    };
    let (shape, threads) = (Shape::named(shape)?, checked(threads)?);
    let loaded = match cuda {
        None => Loaded::Cpu(Arc::new(py.detach(|| synthetic::model(shape, formats, Cpu::best(threads)))?)),
        Some(place) => bench_on_device(py, shape, formats, place, threads)?,
    };
    let results = PyDict::new(py);
    for batch in batches {
        py.check_signals()?;
        let timing = py.detach(|| match &loaded {
            Loaded::Cpu(model) => policy.time(model, batch, context, steps),
            #[cfg(feature = "cuda")]
            Loaded::Cuda(model) => time_device(model, batch, context, steps, policy == Timed::Reset),
        })?;
        let entry = PyDict::new(py);
        entry.set_item("seconds", PyArray1::from_vec(py, timing.seconds))?;
        entry.set_item("weight_bytes", timing.weight_bytes)?;
        entry.set_item("kv_bytes", timing.kv_bytes)?;
        results.set_item(batch, entry)?;
    }
    let out = PyDict::new(py);
    out.set_item("shape", shape.name)?;
    out.set_item("context", context)?;
    out.set_item("threads", each!(&loaded, model => model.backend.pool().threads()))?;
    out.set_item("table", each!(&loaded, model => model.backend.table_name()))?;
    let report = each!(&loaded, model => &model.report);
    for (name, value) in [("weights", report.weights), ("activations", report.activations), ("lm_head", report.lm_head), ("kv", report.kv)]
    {
        out.set_item(name, value)?;
    }
    out.set_item("batches", results)?;
    if prompt > 0 {
        let seconds = py.detach(|| each!(&loaded, model => synthetic::time_prefill(model, prompt, 3)))?;
        out.set_item("prefill", PyArray1::from_vec(py, seconds))?;
    }
    Ok(out)
}

/// What is timed beside the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timed {
    /// Entropy, `ReSET` and draw.
    Reset,
    /// Entropy and draw at one temperature.
    Fixed,
    /// Nothing.
    Model,
}

impl Timed {
    fn time(self, model: &Arc<Model<Cpu>>, batch: usize, context: usize, steps: usize) -> Result<Timing> {
        let policy: &dyn Policy = match self {
            Self::Model => return synthetic::time_decode(model, batch, context, steps),
            Self::Reset => &StepAware::new(0.3, 0.5, 1.0, DEFAULT_WINDOW, false)?,
            Self::Fixed => &Fixed::new(0.6)?,
        };
        let seconds = time_steps(model, model.backend.table(), (batch, context, steps), policy)?;
        Ok(Timing::new(model, seconds, batch, context + WARM_UP))
    }
}

#[cfg(feature = "cuda")]
fn bench_on_device(py: Python<'_>, shape: &Shape, formats: Formats, place: Place, threads: Option<usize>) -> PyResult<Loaded> {
    Ok(Loaded::Cuda(Arc::new(py.detach(|| synthetic::model(shape, formats, open_device(place, threads)?))?)))
}

#[cfg(not(feature = "cuda"))]
fn bench_on_device(_: Python<'_>, _: &Shape, _: Formats, (ordinal, ..): Place, _: Option<usize>) -> PyResult<Loaded> {
    Err(no_cuda(ordinal).into())
}
