//! `_core.Model` and `_core.bench_decode`: a loaded model, and the speed of one made up.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{IntoPyArray, PyArray1, PyArray2, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

use crate::backend::cpu::Cpu;
use crate::backend::{BACKENDS, Backend, KvFormat};
use crate::checkpoint::Checkpoint;
use crate::decode::Model;
use crate::error::Error;
use crate::model::{ARCHITECTURES, Format};
use crate::pipeline::calibrate::random_texts;
use crate::pipeline::load::{Activations, Calibration, LoadOptions, parse_kv};
use crate::pipeline::synthetic::{self, Formats, SHAPES, Shape};
use crate::python::checkpoint::to_python;
use crate::quantize::Method;

/// Adds the class and the functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyModel>()?;
    m.add_function(wrap_pyfunction!(architectures, m)?)?;
    m.add_function(wrap_pyfunction!(backends, m)?)?;
    m.add_function(wrap_pyfunction!(bench_decode, m)?)?;
    m.add_function(wrap_pyfunction!(bench_shapes, m)?)?;
    Ok(())
}

/// Token ids of a list, tuple or integer array.
pub fn token_ids(ids: &Bound<'_, PyAny>) -> PyResult<Vec<u32>> {
    let list = if ids.hasattr("tolist")? { ids.call_method0("tolist")? } else { ids.clone() };
    let numbers: Vec<i64> = list.extract().map_err(|_| PyTypeError::new_err("token_ids is not a flat list of int"))?;
    numbers
        .iter()
        .enumerate()
        .map(|(index, &id)| {
            u32::try_from(id).map_err(|_| PyValueError::new_err(format!("token_ids = {id} at index {index} is no token id")))
        })
        .collect()
}

fn backend(threads: Option<usize>) -> PyResult<Cpu> {
    match threads {
        Some(0) => Err(PyValueError::new_err("threads = 0 is not possible: give a number from 1, or None for all cores")),
        Some(n) if n > 1024 => Err(PyValueError::new_err(format!("threads = {n} is not possible: at most 1024"))),
        threads => Ok(Cpu::best(threads)),
    }
}

/// A model loaded from a checkpoint, on the CPU. Made by `Model.load`; immutable.
#[pyclass(name = "Model", module = "reset._core", frozen)]
pub struct PyModel {
    model: Arc<Model>,
    config: Value,
}

impl PyModel {
    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

#[pymethods]
impl PyModel {
    /// Loads the checkpoint directory `path`.
    #[staticmethod]
    #[pyo3(signature = (path, *, weights="auto", activations="auto", method="nearest", lm_head="auto", kv="auto", calibration=None, threads=None))]
    #[expect(clippy::too_many_arguments, reason = "the options of reset.load")]
    fn load(
        py: Python<'_>,
        path: PathBuf,
        weights: &str,
        activations: &str,
        method: &str,
        lm_head: &str,
        kv: &str,
        calibration: Option<&Bound<'_, PyAny>>,
        threads: Option<usize>,
    ) -> PyResult<Self> {
        let options = LoadOptions {
            weights: crate::model::LoadOptions {
                weights: Format::parse("weights", weights)?,
                lm_head: Format::parse("lm_head", lm_head)?,
                method: Method::parse(method)?,
            },
            activations: Activations::parse(activations)?,
            kv: parse_kv(kv)?,
            calibration: calibration_of(calibration)?,
        };
        let backend = backend(threads)?;
        py.detach(|| {
            let checkpoint = Checkpoint::open(path)?;
            let model = Model::load(&checkpoint, &options, backend)?;
            Ok(Self { model: Arc::new(model), config: checkpoint.config().clone() })
        })
    }

    /// Raw next-token logits at every position, float32 [T, vocab]. Ctrl-C is answered between chunks of 64 positions.
    fn logits<'py>(&self, py: Python<'py>, token_ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let ids = self::token_ids(token_ids)?;
        let pause = || Python::attach(signals);
        let logits = py.detach(|| self.model.logits_with(&ids, pause))?;
        logits.into_pyarray(py).reshape([ids.len(), self.model.spec.vocab_size])
    }

    /// Largest magnitudes over texts of token ids, with float activations: the input of each linear layer by its name
    /// (`model.layers.0.self_attn.q_proj`), and (keys, values) by the name of the attention (`model.layers.0.self_attn`).
    /// Without texts, over seeded random tokens.
    #[pyo3(signature = (texts=None))]
    fn measure<'py>(&self, py: Python<'py>, texts: Option<&Bound<'py, PyAny>>) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
        let texts = texts.map_or_else(|| Ok(random_texts(&self.model.spec)), texts_of)?;
        let measured = py.detach(|| self.model.measure(&texts))?;
        let (inputs, kv) = (PyDict::new(py), PyDict::new(py));
        for (name, amax) in measured.inputs {
            inputs.set_item(name, amax)?;
        }
        for (layer, [keys, values]) in measured.kv.into_iter().enumerate() {
            kv.set_item(format!("model.layers.{layer}.self_attn"), (keys, values))?;
        }
        Ok((inputs, kv))
    }

    /// Bytes of each part.
    fn footprint<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let parts = self.model.footprint();
        let dict = PyDict::new(py);
        for (name, bytes) in [
            ("embedding", parts.embedding),
            ("attention", parts.attention),
            ("mlp", parts.mlp),
            ("norms", parts.norms),
            ("lm_head", parts.lm_head),
            ("weights", parts.weights()),
            ("kv_per_token", parts.kv_per_position),
        ] {
            dict.set_item(name, bytes)?;
        }
        Ok(dict)
    }

    /// The checkpoint's config.json.
    #[getter]
    fn config<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        to_python(py, &self.config)
    }

    /// Name of the architecture.
    #[getter]
    fn architecture(&self) -> &'static str {
        self.model.spec.architecture
    }

    /// Width of the logits.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.model.spec.vocab_size
    }

    /// Longest sequence.
    #[getter]
    fn max_positions(&self) -> usize {
        self.model.spec.max_positions
    }

    /// Storage of the blocks' linear layers: "nvfp4" if any is, else their common format.
    #[getter]
    fn weights(&self) -> &'static str {
        self.model.report.weights
    }

    /// Storage of the head.
    #[getter]
    fn lm_head(&self) -> &'static str {
        self.model.report.lm_head
    }

    /// "float" or "nvfp4".
    #[getter]
    fn activations(&self) -> &'static str {
        self.model.report.activations
    }

    /// Where input scales come from: "checkpoint", "measured", "dynamic"; None with float activations.
    #[getter]
    fn calibration(&self) -> Option<&'static str> {
        Some(self.model.report.calibration).filter(|s| !s.is_empty())
    }

    /// Storage of keys and values.
    #[getter]
    fn kv(&self) -> &'static str {
        self.model.report.kv
    }

    /// Where the scales of a quantized cache come from: "checkpoint", "measured", "one"; None for a float cache.
    #[getter]
    fn kv_scales(&self) -> Option<&'static str> {
        Some(self.model.report.kv_scales).filter(|s| !s.is_empty())
    }

    /// Linear layers left unquantized because their columns do not fill blocks of 16.
    #[getter]
    fn unquantized(&self) -> Vec<String> {
        self.model.report.unquantized.clone()
    }

    /// Threads of the decode pool.
    #[getter]
    fn threads(&self) -> usize {
        self.model.backend.threads()
    }

    /// Name of the instruction set in use.
    #[getter]
    fn table(&self) -> &str {
        self.model.backend.table_name()
    }

    fn __repr__(&self) -> String {
        let report = &self.model.report;
        let calibration = if report.calibration.is_empty() { String::new() } else { format!(" ({})", report.calibration) };
        format!(
            "Model({}, weights={}, activations={}{calibration}, lm_head={}, kv={}, threads={}, table={})",
            self.model.spec.architecture,
            report.weights,
            report.activations,
            report.lm_head,
            report.kv,
            self.threads(),
            self.table(),
        )
    }
}

fn signals(py: Python<'_>) -> PyResult<()> {
    py.check_signals()
}

fn texts_of(texts: &Bound<'_, PyAny>) -> PyResult<Vec<Vec<u32>>> {
    let texts = texts.try_iter()?.map(|ids| token_ids(&ids?)).collect::<PyResult<Vec<_>>>()?;
    if texts.is_empty() { Err(PyValueError::new_err("calibration = [] is not possible: give at least one text")) } else { Ok(texts) }
}

/// None: random tokens; "dynamic"; else texts of token ids.
fn calibration_of(option: Option<&Bound<'_, PyAny>>) -> PyResult<Calibration> {
    let Some(option) = option else { return Ok(Calibration::Random) };
    match option.extract::<String>() {
        Ok(text) if text == "dynamic" => Ok(Calibration::Dynamic),
        Ok(text) => Err(PyValueError::new_err(format!("calibration = {text:?} is not possible: \"dynamic\", texts or None"))),
        Err(_) => Ok(Calibration::Texts(texts_of(option)?)),
    }
}

/// (name, sentence) of each architecture that runs.
#[pyfunction]
fn architectures() -> Vec<(&'static str, &'static str)> {
    ARCHITECTURES.iter().map(|a| (a.name, a.summary)).collect()
}

/// (name, sentence) of each backend.
#[pyfunction]
fn backends() -> Vec<(&'static str, &'static str)> {
    BACKENDS.to_vec()
}

/// Names of the shapes of `bench_decode`.
#[pyfunction]
fn bench_shapes() -> Vec<&'static str> {
    SHAPES.iter().map(|s| s.name).collect()
}

/// Times decode steps of a model with random weights of the size `shape`, for each batch size; prefill too if `prompt` > 0.
#[pyfunction]
#[pyo3(signature = (shape, *, weights="nvfp4", activations="nvfp4", lm_head="nvfp4", kv="bf16", batches=vec![1, 4, 8], context=0, steps=32, prompt=0, threads=None))]
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
    let (shape, backend) = (Shape::named(shape)?, backend(threads)?);
    let model = Arc::new(py.detach(|| synthetic::model(shape, formats, backend))?);
    let results = PyDict::new(py);
    for batch in batches {
        py.check_signals()?;
        let timing = py.detach(|| synthetic::time_decode(&model, batch, context, steps))?;
        let entry = PyDict::new(py);
        entry.set_item("seconds", PyArray1::from_vec(py, timing.seconds))?;
        entry.set_item("weight_bytes", timing.weight_bytes)?;
        entry.set_item("kv_bytes", timing.kv_bytes)?;
        results.set_item(batch, entry)?;
    }
    let out = PyDict::new(py);
    out.set_item("shape", shape.name)?;
    out.set_item("context", context)?;
    out.set_item("threads", model.backend.threads())?;
    out.set_item("table", model.backend.table_name())?;
    let report = &model.report;
    for (name, value) in [("weights", report.weights), ("activations", report.activations), ("lm_head", report.lm_head), ("kv", report.kv)]
    {
        out.set_item(name, value)?;
    }
    out.set_item("batches", results)?;
    if prompt > 0 {
        let seconds = py.detach(|| synthetic::time_prefill(&model, prompt, 3))?;
        out.set_item("prefill", PyArray1::from_vec(py, seconds))?;
    }
    Ok(out)
}
