//! `_core.Model`: a loaded model.

use std::path::PathBuf;
use std::sync::Arc;

use numpy::{IntoPyArray, PyArray2, PyArrayMethods};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use serde_json::Value;

use crate::backend::cpu::Cpu;
#[cfg(feature = "cuda")]
use crate::backend::cuda::engine::Cuda;
#[cfg(feature = "cuda")]
use crate::backend::cuda::runtime::Places;
use crate::backend::{BACKENDS, Backend};
use crate::checkpoint::Checkpoint;
use crate::decode::{Model, Report};
use crate::error::Error;
use crate::model::{ARCHITECTURES, Format, ModelSpec};
use crate::pipeline::calibrate::random_texts;
use crate::pipeline::load::{Activations, Calibration, LoadOptions, parse_kv};
use crate::python::checkpoint::to_python;
use crate::quantize::Method;

/// Adds the class and the functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PyModel>()?;
    m.add_function(wrap_pyfunction!(architectures, m)?)?;
    m.add_function(wrap_pyfunction!(backends, m)?)?;
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

/// A number of threads that the pool can have, or None.
pub fn checked(threads: Option<usize>) -> PyResult<Option<usize>> {
    match threads {
        Some(0) => Err(PyValueError::new_err("threads = 0 is not possible: give a number from 1, or None for all cores")),
        Some(n) if n > 1024 => Err(PyValueError::new_err(format!("threads = {n} is not possible: at most 1024"))),
        threads => Ok(threads),
    }
}

/// A model where it runs.
pub enum Loaded {
    /// On this machine's CPU.
    Cpu(Arc<Model<Cpu>>),
    /// On a CUDA device.
    #[cfg(feature = "cuda")]
    Cuda(Arc<Model<Cuda>>),
}

/// The same expression for every kind of model.
macro_rules! each {
    ($loaded:expr, $model:ident => $body:expr) => {
        match $loaded {
            Loaded::Cpu($model) => $body,
            #[cfg(feature = "cuda")]
            Loaded::Cuda($model) => $body,
        }
    };
}
pub(super) use each;

/// A CUDA device as Python asks for it: its number, where NVRTC may be, and the folder of compiled kernels.
pub type Place = (usize, Vec<PathBuf>, Option<PathBuf>);

/// A model loaded from a checkpoint. Made by `Model.load`; immutable.
#[pyclass(name = "Model", module = "reset._core", frozen)]
pub struct PyModel {
    model: Loaded,
    config: Value,
}

impl PyModel {
    /// The model.
    pub fn model(&self) -> &Loaded {
        &self.model
    }

    fn spec(&self) -> &ModelSpec {
        each!(&self.model, model => &model.spec)
    }

    fn report(&self) -> &Report {
        each!(&self.model, model => &model.report)
    }
}

#[cfg(feature = "cuda")]
fn load_on_device(
    checkpoint: &Checkpoint,
    options: &LoadOptions,
    place: Place,
    threads: Option<usize>,
    pause: &mut dyn FnMut() -> PyResult<()>,
) -> PyResult<Loaded> {
    let device = open_device(place, threads)?;
    let spec = ModelSpec::from_config(checkpoint.config())?;
    device.check_heads(spec.heads, spec.kv_heads, spec.head_dim)?;
    Ok(Loaded::Cuda(Arc::new(Model::load_with(checkpoint, options, device, pause)?)))
}

/// The device at a place.
#[cfg(feature = "cuda")]
pub fn open_device((ordinal, nvrtc, cache): Place, threads: Option<usize>) -> Result<Cuda, Error> {
    Cuda::open(ordinal, &Places { nvrtc, cache }, threads)
}

#[cfg(not(feature = "cuda"))]
fn load_on_device(
    _: &Checkpoint,
    _: &LoadOptions,
    (ordinal, ..): Place,
    _: Option<usize>,
    _: &mut dyn FnMut() -> PyResult<()>,
) -> PyResult<Loaded> {
    Err(no_cuda(ordinal).into())
}

/// What a build without the gate `cuda` answers to a place.
#[cfg(not(feature = "cuda"))]
pub fn no_cuda(ordinal: usize) -> Error {
    let problem = "this build has no CUDA part; build it with the feature `cuda`".to_owned();
    Error::Device { device: format!("cuda:{ordinal}"), problem }
}

#[pymethods]
impl PyModel {
    /// Loads the checkpoint directory `path`. Ctrl-C is answered between linear layers, and while measuring.
    #[staticmethod]
    #[pyo3(signature = (path, *, weights="auto", activations="auto", method="nearest", lm_head="auto", kv="auto", calibration=None, threads=None, cuda=None))]
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
        cuda: Option<Place>,
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
        let threads = checked(threads)?;
        let mut pause = || Python::attach(signals);
        py.detach(|| {
            let checkpoint = Checkpoint::open(path)?;
            let model = match cuda {
                None => Loaded::Cpu(Arc::new(Model::load_with(&checkpoint, &options, Cpu::best(threads), &mut pause)?)),
                Some(place) => load_on_device(&checkpoint, &options, place, threads, &mut pause)?,
            };
            Ok(Self { model, config: checkpoint.config().clone() })
        })
    }

    /// Raw next-token logits at every position, float32 [T, vocab]. Ctrl-C is answered between chunks of 64 positions.
    fn logits<'py>(&self, py: Python<'py>, token_ids: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let ids = self::token_ids(token_ids)?;
        let pause = || Python::attach(signals);
        let logits = py.detach(|| each!(&self.model, model => model.logits_with(&ids, pause)))?;
        logits.into_pyarray(py).reshape([ids.len(), self.spec().vocab_size])
    }

    /// Largest magnitudes over texts of token ids, with float activations: the input of each linear layer by its name
    /// (`model.layers.0.self_attn.q_proj`), and (keys, values) by the name of the attention (`model.layers.0.self_attn`).
    /// Without texts, over seeded random tokens. Ctrl-C is answered between chunks of 64 positions.
    #[pyo3(signature = (texts=None))]
    fn measure<'py>(&self, py: Python<'py>, texts: Option<&Bound<'py, PyAny>>) -> PyResult<(Bound<'py, PyDict>, Bound<'py, PyDict>)> {
        let texts = texts.map_or_else(|| Ok(random_texts(self.spec())), texts_of)?;
        let mut pause = || Python::attach(signals);
        let measured = py.detach(|| each!(&self.model, model => model.measure_with(&texts, &mut pause)))?;
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
        let parts = each!(&self.model, model => model.footprint());
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
        self.spec().architecture
    }

    /// Width of the logits.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.spec().vocab_size
    }

    /// Longest sequence.
    #[getter]
    fn max_positions(&self) -> usize {
        self.spec().max_positions
    }

    /// Storage of the blocks' linear layers: "nvfp4" if any is, else their common format.
    #[getter]
    fn weights(&self) -> &'static str {
        self.report().weights
    }

    /// Storage of the head.
    #[getter]
    fn lm_head(&self) -> &'static str {
        self.report().lm_head
    }

    /// "float" or "nvfp4".
    #[getter]
    fn activations(&self) -> &'static str {
        self.report().activations
    }

    /// Where input scales come from: "checkpoint", "measured", "dynamic"; None with float activations.
    #[getter]
    fn calibration(&self) -> Option<&'static str> {
        Some(self.report().calibration).filter(|s| !s.is_empty())
    }

    /// Storage of keys and values.
    #[getter]
    fn kv(&self) -> &'static str {
        self.report().kv
    }

    /// Where the scales of a quantized cache come from: "checkpoint", "measured", "one"; None for a float cache.
    #[getter]
    fn kv_scales(&self) -> Option<&'static str> {
        Some(self.report().kv_scales).filter(|s| !s.is_empty())
    }

    /// Linear layers left unquantized because their columns do not fill blocks of 16.
    #[getter]
    fn unquantized(&self) -> Vec<String> {
        self.report().unquantized.clone()
    }

    /// Threads of the decode pool.
    #[getter]
    fn threads(&self) -> usize {
        each!(&self.model, model => model.backend.pool().threads())
    }

    /// Name of the instruction set in use.
    #[getter]
    fn table(&self) -> &str {
        each!(&self.model, model => model.backend.table_name())
    }

    fn __repr__(&self) -> String {
        let report = self.report();
        let calibration = if report.calibration.is_empty() { String::new() } else { format!(" ({})", report.calibration) };
        format!(
            "Model({}, weights={}, activations={}{calibration}, lm_head={}, kv={}, threads={}, table={})",
            self.spec().architecture,
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
