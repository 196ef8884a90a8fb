//! `reset.policies.Signal`: what a policy may look at.

#![expect(clippy::doc_markdown, reason = "docstrings are Python's")]

use pyo3::prelude::*;

use crate::controller;

/// What a policy may look at before a token is drawn. Entropies are in nats and belong to the raw distribution.
///
/// Args:
///     entropy: of the token about to be drawn.
///     step_entropy: of the current reasoning step, estimated from the tokens before (sliding window while the step is short).
///     global_mean: mean of the entropies before this one.
///     boundary: whether a new reasoning step begins with this token.
///     step_index: reasoning steps begun before this one.
///     step_position: tokens of the current step before this one.
///     position: tokens generated before this one; the prompt does not count.
#[pyclass(frozen, module = "reset.policies", eq, from_py_object)]
#[derive(Clone, PartialEq)]
pub struct Signal {
    pub inner: controller::Signal,
}

#[pymethods]
impl Signal {
    #[new]
    #[pyo3(signature = (entropy, step_entropy=f64::NAN, global_mean=f64::NAN, boundary=false, step_index=0, step_position=0, position=0))]
    fn new(entropy: f64, step_entropy: f64, global_mean: f64, boundary: bool, step_index: u64, step_position: u64, position: u64) -> Self {
        Self { inner: controller::Signal { entropy, step_entropy, global_mean, boundary, step_index, step_position, position } }
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
    fn boundary(&self) -> bool {
        self.inner.boundary
    }

    #[getter]
    fn step_index(&self) -> u64 {
        self.inner.step_index
    }

    #[getter]
    fn step_position(&self) -> u64 {
        self.inner.step_position
    }

    #[getter]
    fn position(&self) -> u64 {
        self.inner.position
    }

    /// Whether the step is more uncertain than the sequence so far: ``step_entropy > global_mean``.
    #[getter]
    fn uncertain(&self) -> bool {
        self.inner.step_entropy > self.inner.global_mean
    }

    fn __repr__(&self) -> String {
        let controller::Signal { entropy, step_entropy, global_mean, boundary, step_index, step_position, position } = self.inner;
        let boundary = if boundary { "True" } else { "False" };
        format!(
            "Signal(entropy={entropy}, step_entropy={step_entropy}, global_mean={global_mean}, boundary={boundary}, \
             step_index={step_index}, step_position={step_position}, position={position})"
        )
    }
}
