//! `reset.Controller` and `reset.BatchController`: state over token after token, from entropies or raw logits.
//!
//! Logits arrive as contiguous rows of float32, or of the bits of float16 or bfloat16; the Python layer converts the rest.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]
#![expect(clippy::doc_markdown, reason = "docstrings are Python's")]

use std::sync::{Mutex, MutexGuard};

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use numpy::{IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::controller;
use crate::controller::{Boundaries, Controller, Running, State};
use crate::error::Error;
use crate::logits::LogitStats;
use crate::python::policies;
use crate::simd;

/// Adds the classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Decision>()?;
    m.add_class::<Snapshot>()?;
    m.add_class::<PyController>()?;
    m.add_class::<PyBatchController>()?;
    m.add_function(wrap_pyfunction!(logits_entropy, m)?)?;
    Ok(())
}

/// Rows of logits in one of three formats.
pub enum Rows<'a> {
    /// float32.
    F32(&'a [f32]),
    /// float16.
    F16(&'a [f16]),
    /// bfloat16.
    Bf16(&'a [bf16]),
}

impl Rows<'_> {
    /// Values of all rows.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::Bf16(x) => x.len(),
        }
    }

    /// One row of `vocab` logits in f32; `widened` is the buffer for the short formats.
    pub fn row<'b>(&'b self, row: usize, vocab: usize, widened: &'b mut Vec<f32>) -> &'b [f32] {
        let range = row * vocab..(row + 1) * vocab;
        widened.resize(vocab, 0.0);
        match self {
            Self::F32(x) => return &x[range],
            Self::F16(x) => x[range].convert_to_f32_slice(widened),
            Self::Bf16(x) => x[range].convert_to_f32_slice(widened),
        }
        widened
    }
}

/// A borrowed array that [`Rows`] look into.
pub enum Array<'py> {
    /// float32.
    F32(PyReadonlyArray1<'py, f32>),
    /// float16 (true) or bfloat16 (false), as bits.
    Bits(PyReadonlyArray1<'py, u16>, bool),
}

impl<'py> Array<'py> {
    /// `x` is flat and contiguous: float32, or uint16 bits of the format `dtype`.
    pub fn new(x: &Bound<'py, PyAny>, dtype: &str) -> PyResult<Self> {
        match dtype {
            "float32" => Ok(Self::F32(x.extract()?)),
            "float16" | "bfloat16" => Ok(Self::Bits(x.extract()?, dtype == "float16")),
            _ => Err(PyTypeError::new_err(format!("logits of dtype {dtype} are not one of float32, float16, bfloat16"))),
        }
    }

    /// The values.
    pub fn rows(&self) -> PyResult<Rows<'_>> {
        Ok(match self {
            Self::F32(x) => Rows::F32(x.as_slice()?),
            Self::Bits(x, true) => Rows::F16(x.as_slice()?.reinterpret_cast()),
            Self::Bits(x, false) => Rows::Bf16(x.as_slice()?.reinterpret_cast()),
        })
    }
}

/// Entropies of consecutive rows, rounded to f32. An error names the row where there are several.
fn entropies(rows: &Rows, vocab: usize) -> Result<Vec<f32>, String> {
    if vocab == 0 {
        return Err("logits are empty; expected one logit per token of the vocabulary".into());
    }
    let count = rows.len() / vocab;
    let (table, mut widened) = (simd::best(), Vec::new());
    (0..count)
        .map(|row| {
            let stats = LogitStats::of(table, rows.row(row, vocab, &mut widened)).map_err(|problem| {
                let place = if count > 1 { format!("row {row}: ") } else { String::new() };
                format!("{place}{}", Error::from(problem))
            })?;
            Ok(stats.entropy as f32)
        })
        .collect()
}

/// Entropy in nats of each row of `vocab` logits, float64.
#[pyfunction]
fn logits_entropy<'py>(py: Python<'py>, logits: &Bound<'py, PyAny>, dtype: &str, vocab: usize) -> PyResult<Bound<'py, PyArray1<f64>>> {
    let array = Array::new(logits, dtype)?;
    let rows = array.rows()?;
    let found = py.detach(|| entropies(&rows, vocab)).map_err(PyValueError::new_err)?;
    Ok(found.into_iter().map(f64::from).collect::<Vec<_>>().into_pyarray(py))
}

/// What a controller decided for one token. Entropies are in nats.
///
/// Attributes:
///     temperature: of the draw; at most 1e-6 takes the most probable token.
///     entropy: of the raw distribution, rounded to float32.
///     step_entropy: estimate of the reasoning step's entropy; NaN where the policy has none, as for the next two.
///     global_mean: mean of the entropies before this one.
///     threshold: the entropy from which on the temperature is high.
///     boundary: whether a new reasoning step begins with this token.
///     uncertain: whether the step is more uncertain than the sequence so far.
///     step_index: reasoning steps begun before this one.
#[pyclass(frozen, module = "reset.policies")]
pub struct Decision {
    inner: controller::Decision,
}

#[pymethods]
impl Decision {
    #[getter]
    fn temperature(&self) -> f64 {
        self.inner.temperature
    }

    #[getter]
    fn entropy(&self) -> f64 {
        self.inner.entropy
    }

    #[getter]
    fn step_entropy(&self) -> f64 {
        self.inner.step_entropy
    }

    #[getter]
    fn global_mean(&self) -> f64 {
        self.inner.global_mean
    }

    #[getter]
    fn threshold(&self) -> f64 {
        self.inner.threshold
    }

    #[getter]
    fn boundary(&self) -> bool {
        self.inner.boundary
    }

    #[getter]
    fn uncertain(&self) -> bool {
        self.inner.uncertain
    }

    #[getter]
    fn step_index(&self) -> u64 {
        self.inner.step_index
    }

    fn __repr__(&self) -> String {
        let controller::Decision { temperature, entropy, step_entropy, global_mean, threshold, .. } = self.inner;
        let flag = |b| if b { "True" } else { "False" };
        format!(
            "Decision(temperature={temperature}, entropy={entropy:.6}, step_entropy={step_entropy:.6}, global_mean={global_mean:.6}, \
             threshold={threshold:.6}, boundary={}, uncertain={}, step_index={})",
            flag(self.inner.boundary),
            flag(self.inner.uncertain),
            self.inner.step_index
        )
    }
}

/// A controller's state at one moment. Picklable; made by ``snapshot()``, used by ``restore()``.
#[pyclass(frozen, module = "reset.policies")]
pub struct Snapshot {
    state: State,
    /// A policy written in Python, with its own state.
    policy: Option<Py<PyAny>>,
}

/// A snapshot as plain values: window, `include_current`, totals and counts, window contents, then the boundary state.
type Stored = ((usize, bool), (f64, u64, f64, u64, f64, Vec<f64>), (u64, bool, bool), Option<Py<PyAny>>);

#[pymethods]
impl Snapshot {
    #[new]
    fn new(
        window: (usize, bool),
        sums: (f64, u64, f64, u64, f64, Vec<f64>),
        steps: (u64, bool, bool),
        policy: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let (total, count, step_total, step_count, window_total, window_values) = sums;
        let running = Running::from_parts(&controller::Parts {
            window: window.0,
            include_current: window.1,
            total,
            count,
            step_total,
            step_count,
            window_total,
            window_values,
        })?;
        let (step_index, after_newline, boundary_ahead) = steps;
        Ok(Self { state: State { running, step_index, after_newline, boundary_ahead }, policy })
    }

    /// Tokens decided when it was taken.
    #[getter]
    fn position(&self) -> u64 {
        self.state.running.position()
    }

    /// Reasoning steps begun when it was taken.
    #[getter]
    fn step_index(&self) -> u64 {
        self.state.step_index
    }

    fn __getnewargs__(&self, py: Python<'_>) -> Stored {
        let p = self.state.running.to_parts();
        (
            (p.window, p.include_current),
            (p.total, p.count, p.step_total, p.step_count, p.window_total, p.window_values),
            (self.state.step_index, self.state.after_newline, self.state.boundary_ahead),
            self.policy.as_ref().map(|p| p.clone_ref(py)),
        )
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let Ok(other) = other.cast::<Snapshot>() else { return Ok(false) };
        let (own, theirs) = (&self.policy, &other.get().policy);
        let same_policy = match (own, theirs) {
            (None, None) => true,
            (Some(a), Some(b)) => a.bind(other.py()).eq(b.bind(other.py()))?,
            _ => false,
        };
        Ok(same_policy && self.state == other.get().state)
    }

    fn __repr__(&self) -> String {
        format!("Snapshot(position={}, step_index={}, window={})", self.position(), self.step_index(), self.state.running.window())
    }
}

fn take_snapshot(py: Python<'_>, controller: &Controller) -> PyResult<Snapshot> {
    let snapshot = controller.snapshot()?;
    Ok(Snapshot { policy: policies::python_object(snapshot.policy.as_ref(), py), state: snapshot.state })
}

fn put_snapshot(py: Python<'_>, controller: &mut Controller, snapshot: &Snapshot) -> PyResult<()> {
    match (policies::python_object(controller.policy(), py), &snapshot.policy) {
        (None, None) => Ok(controller.restore_state(&snapshot.state)?),
        (Some(own), Some(stored)) if own.bind(py).get_type().is(stored.bind(py).get_type()) => {
            let policy = policies::policy_from(stored.bind(py))?;
            Ok(controller.restore(&controller::Snapshot { state: snapshot.state.clone(), policy })?)
        }
        _ => Err(PyValueError::new_err(
            "the snapshot was taken under a policy of another class; restore it into a controller with that policy",
        )),
    }
}

/// A busy controller is an error of the caller, and waiting for it while holding the interpreter could wait for ever.
fn lock<T>(mutex: &Mutex<T>) -> PyResult<MutexGuard<'_, T>> {
    mutex.try_lock().map_err(|_| {
        PyRuntimeError::new_err("this controller is in use by another thread, or by the policy it is asking; give each sequence its own")
    })
}

fn boundaries(newline_ids: Vec<u32>, double_newline_ids: Vec<u32>) -> Boundaries {
    Boundaries::new(newline_ids, double_newline_ids)
}

/// One token of one sequence.
fn advance(c: &mut Controller, entropy: f32, last_token: Option<u32>, boundary: Option<bool>) -> Result<controller::Decision, Error> {
    if let Some(token) = last_token {
        c.observe(token);
    }
    if let Some(boundary) = boundary {
        c.observe_boundary(boundary);
    }
    c.step(entropy)
}

/// One sequence's controller; `reset.Controller` wraps it.
#[pyclass(frozen, name = "Controller", module = "reset._core")]
struct PyController {
    inner: Mutex<Controller>,
}

#[pymethods]
impl PyController {
    #[new]
    fn new(policy: &Bound<'_, PyAny>, newline_ids: Vec<u32>, double_newline_ids: Vec<u32>) -> PyResult<Self> {
        let policy = policies::policy_from(policy)?;
        Ok(Self { inner: Mutex::new(Controller::new(policy, boundaries(newline_ids, double_newline_ids))) })
    }

    fn step(&self, py: Python<'_>, entropy: f64, last_token: Option<u32>, boundary: Option<bool>) -> PyResult<Decision> {
        let mut guard = lock(&self.inner)?;
        let controller = &mut *guard;
        let inner = py.detach(|| advance(controller, entropy as f32, last_token, boundary))?;
        Ok(Decision { inner })
    }

    fn snapshot(&self, py: Python<'_>) -> PyResult<Snapshot> {
        take_snapshot(py, &*lock(&self.inner)?)
    }

    fn restore(&self, py: Python<'_>, snapshot: &Snapshot) -> PyResult<()> {
        put_snapshot(py, &mut *lock(&self.inner)?, snapshot)
    }

    fn reset(&self) -> PyResult<()> {
        Ok(lock(&self.inner)?.reset()?)
    }

    #[getter]
    fn position(&self) -> PyResult<u64> {
        Ok(lock(&self.inner)?.position())
    }
}

/// Controllers of many sequences; `reset.BatchController` wraps it.
#[pyclass(frozen, name = "BatchController", module = "reset._core")]
struct PyBatchController {
    policy: Py<PyAny>,
    boundaries: Boundaries,
    slots: Mutex<Vec<Controller>>,
}

#[pymethods]
impl PyBatchController {
    #[new]
    fn new(policy: &Bound<'_, PyAny>, newline_ids: Vec<u32>, double_newline_ids: Vec<u32>) -> PyResult<Self> {
        policies::policy_from(policy)?;
        let boundaries = boundaries(newline_ids, double_newline_ids);
        Ok(Self { policy: policy.clone().unbind(), boundaries, slots: Mutex::new(Vec::new()) })
    }

    /// Makes sure that there are at least `size` slots.
    fn grow(&self, py: Python<'_>, size: usize) -> PyResult<()> {
        let mut slots = lock(&self.slots)?;
        while slots.len() < size {
            slots.push(Controller::new(policies::policy_from(self.policy.bind(py))?, self.boundaries.clone()));
        }
        Ok(())
    }

    fn __len__(&self) -> PyResult<usize> {
        Ok(lock(&self.slots)?.len())
    }

    /// Decides for the `slots`, in order. Negative tokens and boundaries are absent ones.
    fn step<'py>(
        &self,
        py: Python<'py>,
        entropies: PyReadonlyArray1<'py, f64>,
        last_tokens: PyReadonlyArray1<'py, i64>,
        slots: PyReadonlyArray1<'py, i64>,
        boundaries: PyReadonlyArray1<'py, i8>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let (entropies, tokens) = (entropies.as_slice()?, last_tokens.as_slice()?);
        let (indices, flags) = (slots.as_slice()?, boundaries.as_slice()?);
        if let Some(row) = entropies.iter().position(|h| !(*h as f32).is_finite()) {
            let found = entropies[row];
            return Err(PyValueError::new_err(format!("entropy[{row}] is {found}; an entropy is a finite number of nats")));
        }
        let mut guard = lock(&self.slots)?;
        let controllers = guard.as_mut_slice();
        let decisions = py.detach(|| -> Result<Vec<_>, Error> {
            let rows = entropies.iter().zip(tokens).zip(indices.iter().zip(flags));
            rows.map(|((&entropy, &token), (&slot, &flag))| {
                advance(&mut controllers[slot as usize], entropy as f32, u32::try_from(token).ok(), (flag >= 0).then_some(flag > 0))
            })
            .collect()
        })?;
        let floats = |get: fn(&controller::Decision) -> f64| decisions.iter().map(get).collect::<Vec<_>>().into_pyarray(py);
        let flags = |get: fn(&controller::Decision) -> bool| decisions.iter().map(get).collect::<Vec<_>>().into_pyarray(py);
        (
            floats(|d| d.temperature),
            floats(|d| d.entropy),
            floats(|d| d.step_entropy),
            floats(|d| d.global_mean),
            floats(|d| d.threshold),
            flags(|d| d.boundary),
            flags(|d| d.uncertain),
            decisions.iter().map(|d| d.step_index as i64).collect::<Vec<_>>().into_pyarray(py),
        )
            .into_pyobject(py)
    }

    fn snapshot(&self, py: Python<'_>, slot: usize) -> PyResult<Snapshot> {
        take_snapshot(py, &lock(&self.slots)?[slot])
    }

    fn restore(&self, py: Python<'_>, slot: usize, snapshot: &Snapshot) -> PyResult<()> {
        put_snapshot(py, &mut lock(&self.slots)?[slot], snapshot)
    }

    fn reset(&self, slot: usize) -> PyResult<()> {
        Ok(lock(&self.slots)?[slot].reset()?)
    }
}
