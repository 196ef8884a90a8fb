//! Temperature policies as Python classes: frozen values, and a base class for policies written in Python.

#![expect(clippy::doc_markdown, reason = "docstrings are Python's")]

use pyo3::exceptions::{PyFileNotFoundError, PyNotImplementedError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};

use crate::controller;
use crate::controller::{DEFAULT_WINDOW, EntropyThreshold, Fixed, Greedy, POLICIES, PRESETS, StepAware};
use crate::python::arguments as read;
use crate::python::callback::PythonPolicy;
use crate::python::signal::Signal;

/// Adds the classes and lists to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Policy>()?;
    m.add_class::<PyReSET>()?;
    m.add_class::<PyEntropyThreshold>()?;
    m.add_class::<PyFixedTemperature>()?;
    m.add_class::<PyGreedy>()?;
    m.add_class::<Signal>()?;
    m.add_function(wrap_pyfunction!(policy_entries, m)?)?;
    m.add_function(wrap_pyfunction!(policy_presets, m)?)?;
    Ok(())
}

/// Name and sentence of every built-in policy.
#[pyfunction]
fn policy_entries() -> Vec<(&'static str, &'static str)> {
    POLICIES.iter().map(|p| (p.name, p.summary)).collect()
}

/// The published parameters: model, `t_low`, `tau_0`.
#[pyfunction]
fn policy_presets() -> Vec<(&'static str, f64, f64)> {
    PRESETS.iter().map(|p| (p.model, p.t_low, p.tau_0)).collect()
}

/// Base class of temperature policies. Subclass it and define ``temperature``::
///
///     class Cooling(reset.Policy):
///         def temperature(self, signal):
///             return 0.2 + 0.8 / (1 + signal.step_index)
///
/// A policy is asked once per token. Each sequence works with its own copy (``copy.deepcopy``), so attributes may hold
/// state; define ``reset()`` to clear it, and it is called when the sequence starts over. ``window`` and ``include_current``
/// shape ``signal.step_entropy`` as they do in ``ReSET``.
#[pyclass(frozen, subclass, module = "reset")]
pub struct Policy;

#[pymethods]
impl Policy {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self
    }

    /// Name as options and records spell it.
    #[classattr]
    fn name() -> &'static str {
        "python"
    }

    /// Tokens of the sliding window that stands in for a step shorter than it.
    #[classattr]
    fn window() -> usize {
        DEFAULT_WINDOW
    }

    /// Whether the current entropy joins the step and the window before the step's entropy is estimated.
    #[classattr]
    fn include_current() -> bool {
        false
    }

    /// The temperature of the next draw, finite and not negative; at most 1e-6 takes the most probable token.
    fn temperature(slf: &Bound<'_, Self>, signal: &Signal) -> PyResult<f64> {
        if let Some(mut policy) = built_in(slf) {
            return Ok(policy.decide(&signal.inner)?.temperature);
        }
        Err(PyNotImplementedError::new_err(format!("{} has to define temperature(self, signal) -> float", slf.get_type().name()?)))
    }

    /// Clears what the policy learned from a sequence. Does nothing unless overridden.
    #[expect(clippy::unused_self, reason = "a method to override")]
    fn reset(&self) {}

    /// The policy's parameters by name; empty for policies written in Python.
    fn parameters<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyDict>> {
        let parameters = PyDict::new(slf.py());
        for name in parameter_names(slf) {
            parameters.set_item(*name, slf.getattr(*name)?)?;
        }
        Ok(parameters)
    }

    fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
        let mut fields = Vec::new();
        for name in parameter_names(slf) {
            fields.push(format!("{name}={}", slf.getattr(*name)?.repr()?));
        }
        Ok(format!("{}({})", slf.get_type().name()?, fields.join(", ")))
    }

    fn __eq__(slf: &Bound<'_, Self>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        if slf.is(other) {
            return Ok(true);
        }
        if parameter_names(slf).is_empty() && !slf.is_instance_of::<PyGreedy>() || !slf.get_type().is(other.get_type()) {
            return Ok(false);
        }
        values(slf)?.eq(values(other.cast()?)?)
    }

    fn __hash__(slf: &Bound<'_, Self>) -> PyResult<isize> {
        if parameter_names(slf).is_empty() && !slf.is_instance_of::<PyGreedy>() {
            return Ok((slf.as_ptr() as isize) >> 4);
        }
        values(slf)?.hash()
    }

    fn __getnewargs__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyTuple>> {
        let values = parameter_names(slf).iter().map(|name| slf.getattr(*name)).collect::<PyResult<Vec<_>>>()?;
        PyTuple::new(slf.py(), values)
    }
}

/// Whether this is the name of a model inside the package, which may have a calibration beside its weights.
fn is_shipped(name: &Bound<'_, PyAny>) -> PyResult<bool> {
    name.py().import("reset.models")?.call_method1("is_shipped", (name,))?.extract()
}

/// Whether a str or path names something on disk; TypeError for other objects.
fn path_exists(name: &Bound<'_, PyAny>) -> PyResult<bool> {
    let os = name.py().import("os")?;
    let path = os.call_method1("fspath", (name,)).map_err(|_| {
        let found = name.get_type().name().map_or_else(|_| "another type".into(), |found| found.to_string());
        PyTypeError::new_err(format!("preset takes a model's name or a path, not {found}"))
    })?;
    os.getattr("path")?.call_method1("exists", (path,))?.extract()
}

/// Parameters in the order of the constructor.
fn parameter_names(policy: &Bound<'_, Policy>) -> &'static [&'static str] {
    if policy.is_instance_of::<PyReSET>() {
        &["t_low", "tau_0", "t_high", "window", "include_current"]
    } else if policy.is_instance_of::<PyEntropyThreshold>() {
        &["t_low", "tau_0", "t_high"]
    } else if policy.is_instance_of::<PyFixedTemperature>() {
        &["t"]
    } else {
        &[]
    }
}

/// Class and parameters: what equality and hash go by.
fn values<'py>(policy: &Bound<'py, Policy>) -> PyResult<Bound<'py, PyTuple>> {
    let mut values = vec![policy.get_type().into_any()];
    for name in parameter_names(policy) {
        values.push(policy.getattr(*name)?);
    }
    PyTuple::new(policy.py(), values)
}

/// The ReSET policy: ``t_high`` where the entropy reaches a threshold that adapts to the reasoning step, else ``t_low``.
///
/// In a step whose entropy is above the mean so far, the threshold is the step's entropy; elsewhere it is ``tau_0``.
/// Source: arXiv 2606.13233; the user guide gives every formula.
///
/// Args:
///     t_low: temperature below the threshold; 0 or more, at most ``t_high``.
///     tau_0: threshold of a step that is not uncertain, in nats of raw entropy. ``reset.calibrate`` finds it.
///     t_high: temperature from the threshold on.
///     window: tokens of the sliding window that stands in for a step shorter than it.
///     include_current: whether the current entropy joins the step and the window (as the paper's figure writes the sums)
///         before the step's entropy is estimated.
///
/// Raises:
///     ValueError: a parameter that is not finite, negative, or out of order.
#[pyclass(frozen, extends = Policy, name = "ReSET", module = "reset")]
pub struct PyReSET {
    inner: StepAware,
}

#[pymethods]
impl PyReSET {
    #[new]
    #[pyo3(signature = (t_low, tau_0, t_high=1.0, window=32, include_current=false))]
    fn new(
        #[pyo3(from_py_with = read::t_low)] t_low: f64,
        #[pyo3(from_py_with = read::tau_0)] tau_0: f64,
        #[pyo3(from_py_with = read::t_high)] t_high: f64,
        #[pyo3(from_py_with = read::window)] window: usize,
        #[pyo3(from_py_with = read::include_current)] include_current: bool,
    ) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(Policy).add_subclass(Self { inner: StepAware::new(t_low, tau_0, t_high, window, include_current)? }))
    }

    /// Parameters by name: those published for a model, or those that ``reset.calibrate`` measured.
    ///
    /// Args:
    ///     name: a model of the paper, by its name on the Hugging Face hub; ``"tiny"``, the model inside this package; or the path of a
    ///         calibration file, or of a model's folder that holds one (``reset_calibration.json``). Names come first: write
    ///         ``"./Qwen/Qwen3-8B"`` or ``"./tiny"`` for a folder called so.
    ///     t_low: instead of the value published or stored. A calibration finds ``tau_0`` alone, so without a stored value
    ///         (``Calibration.save(path, t_low=…)``) it has to be given.
    ///
    /// Raises:
    ///     ValueError: neither a published name nor a path; the message lists the names. Or no ``t_low``, or a file that is no
    ///         calibration.
    ///     FileNotFoundError: a folder without a calibration.
    #[staticmethod]
    #[pyo3(signature = (name, t_low=None))]
    fn preset(py: Python<'_>, name: &Bound<'_, PyAny>, t_low: Option<&Bound<'_, PyAny>>) -> PyResult<Py<Self>> {
        let t_low = t_low.map(read::t_low).transpose()?;
        let published = name.extract::<String>().ok().map(|name| StepAware::preset(&name));
        let inner = match published {
            Some(Ok(p)) => p,
            // Files are read where they are written: one place knows their format.
            _ if is_shipped(name)? || path_exists(name)? => {
                let read = py.import("reset.calibration")?.getattr("preset")?;
                return Ok(read.call1((name, t_low))?.cast_into::<Self>()?.unbind());
            }
            Some(Err(unknown)) => return Err(unknown.into()),
            None => return Err(PyFileNotFoundError::new_err(format!("{name}: no such file or folder to read a calibration from"))),
        };
        let inner = StepAware::new(t_low.unwrap_or(inner.t_low), inner.tau_0, inner.t_high, inner.window, inner.include_current)?;
        Py::new(py, PyClassInitializer::from(Policy).add_subclass(Self { inner }))
    }

    #[classattr]
    fn name() -> &'static str {
        "reset"
    }

    #[getter]
    fn t_low(&self) -> f64 {
        self.inner.t_low
    }

    #[getter]
    fn tau_0(&self) -> f64 {
        self.inner.tau_0
    }

    #[getter]
    fn t_high(&self) -> f64 {
        self.inner.t_high
    }

    #[getter]
    fn window(&self) -> usize {
        self.inner.window
    }

    #[getter]
    fn include_current(&self) -> bool {
        self.inner.include_current
    }
}

/// ``t_high`` where the entropy reaches ``tau_0``, else ``t_low``: ReSET without its step term.
///
/// Args:
///     t_low: temperature below the threshold; 0 or more, at most ``t_high``.
///     tau_0: the threshold in nats of raw entropy.
///     t_high: temperature from the threshold on.
///
/// Raises:
///     ValueError: a parameter that is not finite, negative, or out of order.
#[pyclass(frozen, extends = Policy, name = "EntropyThreshold", module = "reset")]
pub struct PyEntropyThreshold {
    inner: EntropyThreshold,
}

#[pymethods]
impl PyEntropyThreshold {
    #[new]
    #[pyo3(signature = (t_low, tau_0, t_high=1.0))]
    fn new(
        #[pyo3(from_py_with = read::t_low)] t_low: f64,
        #[pyo3(from_py_with = read::tau_0)] tau_0: f64,
        #[pyo3(from_py_with = read::t_high)] t_high: f64,
    ) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(Policy).add_subclass(Self { inner: EntropyThreshold::new(t_low, tau_0, t_high)? }))
    }

    #[classattr]
    fn name() -> &'static str {
        "entropy-threshold"
    }

    #[getter]
    fn t_low(&self) -> f64 {
        self.inner.t_low
    }

    #[getter]
    fn tau_0(&self) -> f64 {
        self.inner.tau_0
    }

    #[getter]
    fn t_high(&self) -> f64 {
        self.inner.t_high
    }
}

/// One temperature for every token.
///
/// Args:
///     t: the temperature; finite, 0 or more. At most 1e-6 takes the most probable token.
///
/// Raises:
///     ValueError: a temperature that is negative or not finite.
#[pyclass(frozen, extends = Policy, name = "FixedTemperature", module = "reset")]
pub struct PyFixedTemperature {
    inner: Fixed,
}

#[pymethods]
impl PyFixedTemperature {
    #[new]
    fn new(#[pyo3(from_py_with = read::temperature)] t: f64) -> PyResult<PyClassInitializer<Self>> {
        Ok(PyClassInitializer::from(Policy).add_subclass(Self { inner: Fixed::new(t)? }))
    }

    #[classattr]
    fn name() -> &'static str {
        "fixed"
    }

    #[getter]
    fn t(&self) -> f64 {
        self.inner.temperature
    }
}

/// The most probable token, always; the lowest id of equals.
#[pyclass(frozen, extends = Policy, name = "Greedy", module = "reset")]
pub struct PyGreedy;

#[pymethods]
impl PyGreedy {
    #[new]
    fn new() -> PyClassInitializer<Self> {
        PyClassInitializer::from(Policy).add_subclass(Self)
    }

    #[classattr]
    fn name() -> &'static str {
        "greedy"
    }
}

/// The Rust policy behind a built-in class; `None` for a policy written in Python.
fn built_in(policy: &Bound<'_, Policy>) -> Option<Box<dyn controller::Policy>> {
    if let Ok(policy) = policy.cast::<PyReSET>() {
        Some(Box::new(policy.get().inner))
    } else if let Ok(policy) = policy.cast::<PyEntropyThreshold>() {
        Some(Box::new(policy.get().inner))
    } else if let Ok(policy) = policy.cast::<PyFixedTemperature>() {
        Some(Box::new(policy.get().inner))
    } else if policy.is_instance_of::<PyGreedy>() {
        Some(Box::new(Greedy))
    } else {
        None
    }
}

/// The policy of one sequence: the Rust one for a built-in class, else a copy of the Python object with state of its own.
pub fn policy_from(object: &Bound<'_, PyAny>) -> PyResult<Box<dyn controller::Policy>> {
    let Ok(policy) = object.cast::<Policy>() else {
        let found = match object.cast::<PyType>() {
            Ok(class) => format!("the class {}; make an instance of it", class.name()?),
            Err(_) => format!("{}", object.get_type().name()?),
        };
        return Err(PyTypeError::new_err(format!(
            "policy has to be a reset.Policy (ReSET, EntropyThreshold, FixedTemperature, Greedy, or your own subclass), not {found}"
        )));
    };
    match built_in(policy) {
        Some(policy) => Ok(policy),
        None => Ok(Box::new(PythonPolicy::copied(object)?)),
    }
}
