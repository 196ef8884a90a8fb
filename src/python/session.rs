//! `_core.Session`: sequences in generation, one step at a time.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]

use std::sync::{Arc, Mutex};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::controller::Boundaries;
use crate::decode::Decoder;
use crate::generate::{self, Finish, HostSession, Request, Session, Step};
use crate::python::model::{Loaded, PyModel};
use crate::python::policies::policy_from;
use crate::sampler::{Banned, Filters};
#[cfg(feature = "cuda")]
use crate::simd;

/// Adds the classes and the function to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<PySession>()?;
    m.add_class::<PyStep>()?;
    m.add_function(wrap_pyfunction!(score, m)?)
}

/// Sequences in generation. Several threads may hold one session; their calls take turns.
#[pyclass(name = "Session", module = "reset._core", frozen)]
pub struct PySession {
    inner: Mutex<Box<dyn Session + Send>>,
}

impl PySession {
    fn lock(&self) -> PyResult<std::sync::MutexGuard<'_, Box<dyn Session + Send>>> {
        self.inner.lock().map_err(|_| PyRuntimeError::new_err("this session failed in an earlier call; start a new one"))
    }
}

#[pymethods]
impl PySession {
    #[new]
    fn new(model: &PyModel, batch_size: usize) -> PyResult<Self> {
        let session: Box<dyn Session + Send> = match model.model() {
            Loaded::Cpu(model) => Box::new(HostSession::new(Decoder::new(model.clone()), model.backend.table(), batch_size)?),
            #[cfg(feature = "cuda")]
            Loaded::Cuda(model) => Box::new(generate::DeviceSession::new(model.clone(), simd::best(), batch_size)?),
        };
        Ok(Self { inner: Mutex::new(session) })
    }

    /// Queues one sample of `prompt` per stream and returns their numbers.
    #[pyo3(signature = (prompt, streams, *, policy, newline_ids, double_newline_ids, top_k, top_p, min_p, seed, max_new_tokens, stop_ids, banned, boundaries_by_caller=false))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of a private call")]
    fn add(
        &self,
        py: Python<'_>,
        prompt: Vec<u32>,
        streams: Vec<u64>,
        policy: &Bound<'_, PyAny>,
        newline_ids: Vec<u32>,
        double_newline_ids: Vec<u32>,
        top_k: Option<usize>,
        top_p: Option<f64>,
        min_p: Option<f64>,
        seed: u64,
        max_new_tokens: usize,
        stop_ids: Vec<u32>,
        banned: Vec<u32>,
        boundaries_by_caller: bool,
    ) -> PyResult<Vec<usize>> {
        let prompt: Arc<[u32]> = prompt.into();
        let stop_ids: Arc<[u32]> = stop_ids.into();
        let banned = Arc::new(Banned::new(banned));
        let filters = Filters::new(top_k, top_p, min_p)?;
        let boundaries = Boundaries::new(newline_ids, double_newline_ids);
        let mut requests = Vec::with_capacity(streams.len());
        for stream in streams {
            requests.push(Request {
                prompt: prompt.clone(),
                policy: policy_from(policy)?,
                boundaries: boundaries.clone(),
                boundaries_by_caller,
                filters,
                seed,
                stream,
                max_new_tokens,
                stop_ids: stop_ids.clone(),
                banned: banned.clone(),
            });
        }
        // The lock is taken without the GIL: a step in another thread may need the GIL for a policy written in Python.
        py.detach(|| {
            let mut session = self.lock()?;
            requests.into_iter().map(|request| Ok(session.add(request)?)).collect()
        })
    }

    /// One token for every active sequence. The GIL is released but for policies written in Python and for Ctrl-C, which is answered
    /// between chunks of long prompts.
    fn advance(&self, py: Python<'_>) -> PyResult<Vec<PyStep>> {
        let mut interrupt = None;
        let steps = py.detach(|| -> PyResult<_> {
            let mut go_on = || match Python::attach(|py| py.check_signals()) {
                Ok(()) => true,
                Err(error) => {
                    interrupt = Some(error);
                    false
                }
            };
            Ok(self.lock()?.advance(&mut go_on)?)
        })?;
        if let Some(error) = interrupt {
            return Err(error);
        }
        Ok(steps.into_iter().map(PyStep::from).collect())
    }

    /// Says whether a reasoning step begins before the next token of `request`.
    fn set_boundary(&self, py: Python<'_>, request: usize, boundary: bool) -> PyResult<()> {
        py.detach(|| {
            self.lock()?.set_boundary(request, boundary);
            Ok(())
        })
    }

    /// Ends `request`.
    fn finish(&self, py: Python<'_>, request: usize) -> PyResult<()> {
        py.detach(|| {
            self.lock()?.finish(request);
            Ok(())
        })
    }

    /// Requests that are active or queued.
    fn remaining(&self, py: Python<'_>) -> PyResult<usize> {
        py.detach(|| Ok(self.lock()?.remaining()))
    }
}

/// One token of one sequence.
#[pyclass(name = "Step", module = "reset._core", frozen, get_all)]
pub struct PyStep {
    request: usize,
    token_id: u32,
    logprob: f64,
    sampling_logprob: f64,
    entropy: f64,
    step_entropy: f64,
    global_mean: f64,
    threshold: f64,
    temperature: f64,
    step_index: u64,
    boundary: bool,
    finish_reason: Option<&'static str>,
}

impl From<Step> for PyStep {
    fn from(step: Step) -> Self {
        let decision = step.decision;
        Self {
            request: step.request,
            token_id: step.token,
            logprob: step.logprob,
            sampling_logprob: step.sampling_logprob,
            entropy: decision.entropy,
            step_entropy: decision.step_entropy,
            global_mean: decision.global_mean,
            threshold: decision.threshold,
            temperature: decision.temperature,
            step_index: decision.step_index,
            boundary: decision.boundary,
            finish_reason: step.finish.map(Finish::name),
        }
    }
}

/// Teacher-forced steps of given tokens. Ctrl-C ends the work between chunks of positions.
#[pyfunction]
#[pyo3(signature = (model, token_ids, prompt_length, *, policy, newline_ids, double_newline_ids))]
fn score(
    py: Python<'_>,
    model: &PyModel,
    token_ids: Vec<u32>,
    prompt_length: usize,
    policy: &Bound<'_, PyAny>,
    newline_ids: Vec<u32>,
    double_newline_ids: Vec<u32>,
) -> PyResult<Vec<PyStep>> {
    let policy = policy_from(policy)?;
    let boundaries = Boundaries::new(newline_ids, double_newline_ids);
    let pause = || Python::attach(|py| py.check_signals());
    let steps = match model.model() {
        Loaded::Cpu(model) => {
            let table = model.backend.table();
            py.detach(|| generate::score(model, table, &token_ids, prompt_length, policy, boundaries, pause))?
        }
        #[cfg(feature = "cuda")]
        Loaded::Cuda(model) => py.detach(|| generate::score(model, simd::best(), &token_ids, prompt_length, policy, boundaries, pause))?,
    };
    Ok(steps.into_iter().map(PyStep::from).collect())
}
