//! One error type for the crate: variants by category, facts in fields, one sentence that says what was attempted,
//! what was found and what would work. `src/python/error.rs` maps each variant to a Python exception, exhaustively.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, by category.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// NaN or infinity where a finite number is needed. Python: `ValueError`.
    #[error("{what}: element {index} is {value}, and NVFP4 holds finite values only; replace NaN and infinities before quantizing")]
    NonFinite {
        /// What was being read.
        what: String,
        /// Flat row-major index of the first offender.
        index: usize,
        /// The offender.
        value: f32,
    },
    /// A shape that does not fit. Python: `ValueError`.
    #[error("{what}: found {found}, expected {expected}")]
    Shape {
        /// What was being read.
        what: String,
        /// The shape found.
        found: String,
        /// The shape or rule it has to meet.
        expected: String,
    },
    /// An argument outside what is allowed. Python: `ValueError`.
    #[error("{option} = {found} is not possible: {allowed}")]
    Argument {
        /// The argument's name as the caller spells it.
        option: &'static str,
        /// Its value.
        found: String,
        /// What would work.
        allowed: String,
    },
    /// A checkpoint that is damaged, inconsistent or hostile. Python: `CheckpointError`.
    #[error("{}: {problem}", path.display())]
    Checkpoint {
        /// The file or directory.
        path: PathBuf,
        /// What was found, and what would work; names the tensor where there is one.
        problem: String,
    },
    /// A storage layout this crate does not read or write. Python: `FormatError`.
    #[error("{}: {layout} is not supported; {supported}", path.display())]
    Format {
        /// The file or directory.
        path: PathBuf,
        /// The layout, by the name its authors use.
        layout: String,
        /// What is supported instead.
        supported: String,
    },
    /// A configuration that cannot be run (unknown architecture, impossible sizes). Python: `ConfigError`.
    #[error("{what}: {problem}")]
    Config {
        /// The field or file.
        what: String,
        /// What was found, and what would work.
        problem: String,
    },
    /// A device that is missing or unusable. Python: `DeviceError`.
    #[error("device {device}: {problem}")]
    Device {
        /// The device as the caller spelt it.
        device: String,
        /// What is wrong, and what would help.
        problem: String,
    },
    /// A temperature policy written by the caller failed. Python: the exception it raised.
    #[error("the temperature policy failed: {source}")]
    Policy {
        /// The failure.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The operating system refused. Python: the built-in exception of the same kind.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

impl Error {
    /// An I/O failure on `path`.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io { path: path.to_path_buf(), source }
    }

    /// A checkpoint problem in `path`.
    pub fn checkpoint(path: &Path, problem: impl Into<String>) -> Self {
        Self::Checkpoint { path: path.to_path_buf(), problem: problem.into() }
    }

    /// A configuration problem in `what`.
    pub fn config(what: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Config { what: what.into(), problem: problem.into() }
    }
}
