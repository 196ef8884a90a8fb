//! `reset.Controller` and `reset.BatchController`: state over token after token, from entropies.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]
#![expect(clippy::doc_markdown, reason = "docstrings are Python's")]

use std::sync::{Mutex, MutexGuard};

use numpy::{IntoPyArray, PyReadonlyArray1};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use crate::controller;
use crate::controller::{Boundaries, Controller, Running, State};
use crate::error::Error;
use crate::python::callback;
use crate::python::policies;

/// Adds the classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Decision>()?;
    m.add_class::<Snapshot>()?;
    m.add_class::<PyController>()?;
    m.add_class::<PyBatchController>()?;
    Ok(())
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
    Ok(Snapshot { policy: callback::python_object(snapshot.policy.as_ref(), py), state: snapshot.state })
}

fn put_snapshot(py: Python<'_>, controller: &mut Controller, snapshot: &Snapshot) -> PyResult<()> {
    match (callback::python_object(controller.policy(), py), &snapshot.policy) {
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
