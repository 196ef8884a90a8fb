//! Streams and events: the order of work on a device, and marks in it.

#![allow(unsafe_code, reason = "calls into the CUDA driver")]

use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUevent_flags, CUresult, CUstream_flags};

use crate::backend::cuda::device::{Context, Device};
use crate::error::Result;

/// A queue of work: what is put in runs in that order.
#[derive(Debug)]
pub struct Stream {
    context: Arc<Context>,
    raw: sys::CUstream,
    owned: bool,
}

// SAFETY: a handle that the driver accepts from any thread.
unsafe impl Send for Stream {}

impl Stream {
    /// A stream of its own, which does not wait for the device's default stream.
    pub fn new(device: &Device) -> Result<Self> {
        let context = Arc::clone(device.context());
        context.bind()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the driver writes one handle; dropped below.
        let code = unsafe { sys::cuStreamCreate(&raw mut raw, CUstream_flags::CU_STREAM_NON_BLOCKING as u32) };
        context.check("cuStreamCreate", code)?;
        Ok(Self { context, raw, owned: true })
    }

    /// A stream that a caller owns, as torch's `current_stream().cuda_stream` or `DLPack` give it (0: the default stream).
    ///
    /// # Safety
    /// `handle` is a stream of this device's primary context, and stays one while the result is used.
    pub unsafe fn borrowed(device: &Device, handle: u64) -> Self {
        Self { context: Arc::clone(device.context()), raw: handle as usize as sys::CUstream, owned: false }
    }

    /// Waits until everything put in so far has run.
    pub fn synchronize(&self) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the stream exists.
        self.context.check("cuStreamSynchronize", unsafe { sys::cuStreamSynchronize(self.raw) })
    }

    /// Whether everything put in so far has run; an error if the device gave up. Does not wait.
    pub fn is_done(&self) -> Result<bool> {
        self.context.bind()?;
        // SAFETY: the stream exists.
        match unsafe { sys::cuStreamQuery(self.raw) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            code => self.context.check("cuStreamQuery", code).map(|()| true),
        }
    }

    /// Lets what comes next wait for `event`, on the device; the host goes on.
    pub fn wait(&self, event: &Event) -> Result<()> {
        self.context.bind()?;
        // SAFETY: both exist.
        self.context.check("cuStreamWaitEvent", unsafe { sys::cuStreamWaitEvent(self.raw, event.raw, 0) })
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(super) fn raw(&self) -> sys::CUstream {
        self.raw
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.owned && self.context.bind().is_ok() {
            // SAFETY: created in `new`, destroyed once; the driver finishes what is in it first.
            unsafe { sys::cuStreamDestroy_v2(self.raw) };
        }
    }
}

/// A mark in a stream, with a time.
#[derive(Debug)]
pub struct Event {
    context: Arc<Context>,
    raw: sys::CUevent,
}

// SAFETY: a handle that the driver accepts from any thread.
unsafe impl Send for Event {}

impl Event {
    /// An event that marks nothing yet.
    pub fn new(device: &Device) -> Result<Self> {
        let context = Arc::clone(device.context());
        context.bind()?;
        let mut raw = ptr::null_mut();
        // SAFETY: the driver writes one handle; dropped below.
        context.check("cuEventCreate", unsafe { sys::cuEventCreate(&raw mut raw, CUevent_flags::CU_EVENT_DEFAULT as u32) })?;
        Ok(Self { context, raw })
    }

    /// Marks what `stream` holds so far.
    pub fn record(&self, stream: &Stream) -> Result<()> {
        self.context.bind()?;
        // SAFETY: both exist.
        self.context.check("cuEventRecord", unsafe { sys::cuEventRecord(self.raw, stream.raw) })
    }

    /// Waits for what was marked.
    pub fn synchronize(&self) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the event exists.
        self.context.check("cuEventSynchronize", unsafe { sys::cuEventSynchronize(self.raw) })
    }

    /// Whether what was marked has run. Does not wait.
    pub fn is_done(&self) -> Result<bool> {
        self.context.bind()?;
        // SAFETY: the event exists.
        match unsafe { sys::cuEventQuery(self.raw) } {
            CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            code => self.context.check("cuEventQuery", code).map(|()| true),
        }
    }

    /// Seconds from `earlier` to this event; waits for both.
    pub fn seconds_since(&self, earlier: &Event) -> Result<f64> {
        earlier.synchronize()?;
        self.synchronize()?;
        let mut milliseconds = 0.0;
        // SAFETY: the driver writes one float.
        let code = unsafe { sys::cuEventElapsedTime(&raw mut milliseconds, earlier.raw, self.raw) };
        self.context.check("cuEventElapsedTime", code)?;
        Ok(f64::from(milliseconds) * 1e-3)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        if self.context.bind().is_ok() {
            // SAFETY: created in `new`, destroyed once.
            unsafe { sys::cuEventDestroy_v2(self.raw) };
        }
    }
}
