//! Policies written in Python, called back from the core: one copy of the object per sequence.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::controller;
use crate::controller::Verdict;
use crate::error::Error;
use crate::python::arguments;
use crate::python::signal::Signal;

/// A policy written in Python, for one sequence.
#[derive(Debug)]
pub struct PythonPolicy {
    object: Py<PyAny>,
    window: usize,
    include_current: bool,
}

impl PythonPolicy {
    /// A deep copy of `object`, with its window checked.
    pub fn copied(object: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = object.py();
        let window = arguments::window(&object.getattr("window")?)?;
        let include_current = arguments::include_current(&object.getattr("include_current")?)?;
        let object = py.import("copy")?.call_method1("deepcopy", (object,))?.unbind();
        Ok(Self { object, window, include_current })
    }
}

/// A Python exception on its way through Rust.
fn raised(error: PyErr) -> Error {
    Error::Policy { source: Box::new(error) }
}

impl controller::Policy for PythonPolicy {
    fn decide(&mut self, signal: &controller::Signal) -> Result<Verdict, Error> {
        let temperature = Python::attach(|py| -> PyResult<f64> {
            let object = self.object.bind(py);
            let temperature = object.call_method1("temperature", (Signal { inner: *signal },))?;
            let name = object.get_type().name()?;
            let Ok(value) = temperature.extract::<f64>() else {
                return Err(PyTypeError::new_err(format!("{name}.temperature returned {}, expected a float", temperature.repr()?)));
            };
            if !(value.is_finite() && value >= 0.0) {
                let message = format!("{name}.temperature returned {value}; a temperature is a finite number, 0 or more");
                return Err(PyValueError::new_err(message));
            }
            Ok(value)
        });
        Ok(Verdict {
            temperature: temperature.map_err(raised)?,
            threshold: f64::NAN,
            step_entropy: signal.step_entropy,
            global_mean: signal.global_mean,
            uncertain: signal.step_entropy > signal.global_mean,
        })
    }

    fn window(&self) -> usize {
        self.window
    }

    fn include_current(&self) -> bool {
        self.include_current
    }

    fn duplicate(&self) -> Result<Box<dyn controller::Policy>, Error> {
        Python::attach(|py| Ok(Box::new(Self::copied(self.object.bind(py)).map_err(raised)?) as Box<dyn controller::Policy>))
    }

    fn reset(&mut self) -> Result<(), Error> {
        Python::attach(|py| self.object.bind(py).call_method0("reset").map(|_| ()).map_err(raised))
    }
}

/// The Python object behind a policy written in Python.
pub fn python_object<'a>(policy: &'a dyn controller::Policy, py: Python<'_>) -> Option<Py<PyAny>> {
    let any: &'a dyn std::any::Any = policy;
    any.downcast_ref::<PythonPolicy>().map(|policy| policy.object.clone_ref(py))
}
