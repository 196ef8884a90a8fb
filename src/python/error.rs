//! Rust errors as Python exceptions: the one place that maps them, exhaustively.

use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyOSError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error as CoreError;

create_exception!(reset, Error, PyException, "Base of the errors that are particular to this package.");
create_exception!(reset, CheckpointError, Error, "A checkpoint is damaged, inconsistent or incomplete.");
create_exception!(reset, FormatError, Error, "A storage layout that is not supported.");
create_exception!(reset, DeviceError, Error, "A device is missing or unusable.");
create_exception!(reset, ConfigError, Error, "A model configuration that cannot be run.");
create_exception!(reset, ScoringError, Error, "An answer could not be scored.");

/// Adds the exception classes to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = m.py();
    m.add("Error", py.get_type::<Error>())?;
    m.add("CheckpointError", py.get_type::<CheckpointError>())?;
    m.add("FormatError", py.get_type::<FormatError>())?;
    m.add("DeviceError", py.get_type::<DeviceError>())?;
    m.add("ConfigError", py.get_type::<ConfigError>())?;
    m.add("ScoringError", py.get_type::<ScoringError>())?;
    Ok(())
}

impl From<CoreError> for PyErr {
    fn from(error: CoreError) -> Self {
        let message = error.to_string();
        match error {
            CoreError::NonFinite { .. } | CoreError::Shape { .. } | CoreError::Argument { .. } => PyValueError::new_err(message),
            CoreError::Checkpoint { .. } => CheckpointError::new_err(message),
            CoreError::Format { .. } => FormatError::new_err(message),
            CoreError::Config { .. } => ConfigError::new_err(message),
            CoreError::Device { .. } => DeviceError::new_err(message),
            CoreError::Policy { source } => match source.downcast::<PyErr>() {
                Ok(raised) => *raised,
                Err(other) => PyRuntimeError::new_err(other.to_string()),
            },
            // pyo3 picks the built-in class by kind (FileNotFoundError, PermissionError …).
            CoreError::Io { source, .. } => match source.raw_os_error() {
                Some(errno) => PyOSError::new_err((errno, message)),
                None => std::io::Error::new(source.kind(), message).into(),
            },
        }
    }
}
