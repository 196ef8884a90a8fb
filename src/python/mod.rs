//! The extension module `reset._core`: thin wrappers, one file per concept.

mod arguments;
mod bench;
mod callback;
mod checkpoint;
mod controller;
mod cpu;
mod device_linear;
mod devices;
mod error;
mod linear;
mod model;
mod nvfp4;
mod policies;
mod rows;
mod sampler;
mod session;
mod signal;
mod timing;

use pyo3::prelude::*;

/// The Rust core of `reset`. Private: import `reset`.
#[pymodule(gil_used = false)]
fn _core(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    bench::register(m)?;
    checkpoint::register(m)?;
    controller::register(m)?;
    cpu::register(m)?;
    device_linear::register(m)?;
    devices::register(m)?;
    error::register(m)?;
    linear::register(m)?;
    model::register(m)?;
    nvfp4::register(m)?;
    policies::register(m)?;
    rows::register(m)?;
    sampler::register(m)?;
    session::register(m)?;
    timing::register(m)?;
    Ok(())
}
