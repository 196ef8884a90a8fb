//! The draw as functions: for tests against oracles, and for sampling loops written in Python.

#![expect(clippy::needless_pass_by_value, reason = "pyo3 hands arguments over by value")]

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;

use crate::error::Error;
use crate::logits::LogitStats;
use crate::parallel::Pool;
use crate::python::rows::Array;
use crate::sampler::{Banned, DrawKey, FILTERS, Filters, draw, stream};
use crate::simd;

/// Adds the functions to the module.
pub fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(sampler_draw, m)?)?;
    m.add_function(wrap_pyfunction!(sampler_exponentials, m)?)?;
    m.add_function(wrap_pyfunction!(sampler_filters, m)?)?;
    m.add_function(wrap_pyfunction!(stream_of_evaluate, m)?)?;
    m.add_function(wrap_pyfunction!(stream_of_generate, m)?)?;
    Ok(())
}

/// Name and sentence of every filter, in the order of application.
#[pyfunction]
fn sampler_filters() -> Vec<(&'static str, &'static str)> {
    FILTERS.iter().map(|f| (f.name, f.summary)).collect()
}

/// Token, raw log-probability and sampling log-probability of one draw from a flat row of logits.
#[pyfunction]
#[expect(clippy::too_many_arguments, reason = "the options of a draw")]
fn sampler_draw<'py>(
    py: Python<'py>,
    logits: &Bound<'py, PyAny>,
    dtype: &str,
    temperature: f64,
    top_k: Option<usize>,
    top_p: Option<f64>,
    min_p: Option<f64>,
    seed: u64,
    stream: u64,
    position: u32,
    banned: Vec<u32>,
) -> PyResult<(u32, f64, f64)> {
    let filters = Filters::new(top_k, top_p, min_p)?;
    let array = Array::new(logits, dtype)?;
    let rows = array.rows()?;
    let drawn = py.detach(|| -> Result<_, Error> {
        let mut widened = Vec::new();
        let row = rows.row(0, rows.len(), &mut widened);
        let table = simd::best();
        let stats = LogitStats::of(table, row)?;
        let key = DrawKey { seed, stream, position };
        // One row: threads would take longer to start than the draw takes.
        draw(&Pool::new(Some(1)), table, row, &stats, temperature, &filters, key, &Banned::new(banned))
    })?;
    Ok((drawn.token, drawn.logprob, drawn.sampling_logprob))
}

/// The exponential draws of the first `count` ids, float64.
#[pyfunction]
fn sampler_exponentials(py: Python<'_>, seed: u64, stream: u64, position: u32, count: u32) -> Bound<'_, PyArray1<f64>> {
    let key = DrawKey { seed, stream, position };
    py.detach(|| (0..count).map(|id| key.exponential(id)).collect::<Vec<_>>()).into_pyarray(py)
}

/// The random stream of one sample of a prompt.
#[pyfunction]
fn stream_of_generate(prompt_ids: Vec<u32>, sample_index: u64) -> u64 {
    stream::of_generate(&prompt_ids, sample_index)
}

/// The random stream of one sample of a task's problem.
#[pyfunction]
fn stream_of_evaluate(task: &str, problem_id: &str, sample_index: u64) -> u64 {
    stream::of_evaluate(task, problem_id, sample_index)
}
