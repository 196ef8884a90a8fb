//! Parameters of policies, read so that an error names the parameter.
//!
//! pyo3 puts the name of an argument into a note of the exception, which Python 3.10 has no place for and which `str(error)` never
//! shows; `OverflowError` is none of the errors that this package documents.

use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBool;

use crate::controller::{DEFAULT_WINDOW, MAX_WINDOW};

/// A number; bools are refused. Numbers beyond float64 become infinite, for the range check that follows to refuse.
fn real(name: &str, value: &Bound<'_, PyAny>) -> PyResult<f64> {
    if !value.is_instance_of::<PyBool>() {
        match value.extract::<f64>() {
            Ok(number) => return Ok(number),
            Err(error) if error.is_instance_of::<PyOverflowError>(value.py()) => {
                return Ok(if value.lt(0)? { f64::NEG_INFINITY } else { f64::INFINITY });
            }
            Err(_) => {}
        }
    }
    Err(PyTypeError::new_err(format!("{name} = {} is not possible: give a number", value.repr()?)))
}

/// True or False, numpy's included.
fn flag(name: &str, value: &Bound<'_, PyAny>) -> PyResult<bool> {
    value.extract().or_else(|_| Err(PyTypeError::new_err(format!("{name} = {} is not possible: give True or False", value.repr()?))))
}

pub fn t_low(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    real("t_low", value)
}

pub fn tau_0(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    real("tau_0", value)
}

pub fn t_high(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    real("t_high", value)
}

pub fn temperature(value: &Bound<'_, PyAny>) -> PyResult<f64> {
    real("temperature", value)
}

pub fn include_current(value: &Bound<'_, PyAny>) -> PyResult<bool> {
    flag("include_current", value)
}

/// A number of tokens in its range; bools are refused.
pub fn window(value: &Bound<'_, PyAny>) -> PyResult<usize> {
    let number = if value.is_instance_of::<PyBool>() { None } else { value.extract::<usize>().ok() };
    if let Some(window) = number.filter(|w| (1..=MAX_WINDOW).contains(w)) {
        return Ok(window);
    }
    let allowed = format!("it has to be a number of tokens from 1 to {MAX_WINDOW}; the paper uses {DEFAULT_WINDOW}");
    let message = format!("window = {} is not possible: {allowed}", value.repr()?);
    let integral = value.hasattr("__index__")? && !value.is_instance_of::<PyBool>();
    Err(if integral { PyValueError::new_err(message) } else { PyTypeError::new_err(message) })
}
