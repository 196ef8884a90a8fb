//! One card: its sizes, its context, and what is made on it.
//!
//! The context is the device's *primary* one, which the CUDA runtime and so torch and cupy use too: their pointers and streams are valid
//! here and ours there. Every call that needs it makes it current on the calling thread first, so a device may be used from any thread.

#![allow(unsafe_code, reason = "calls into the CUDA driver")]

use std::ffi::c_char;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUdevice_attribute, CUresult};

use crate::backend::cuda::driver::{self, Driver};
use crate::backend::cuda::problem::{Problem, Version};
use crate::error::Result;

/// What a card is: the facts that launch plans depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// The maker's name for it.
    pub name: String,
    /// Major and minor.
    pub compute_capability: (i32, i32),
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Shared memory that one block may ask for, in bytes.
    pub shared_per_block: u32,
    /// Shared memory of one multiprocessor, in bytes.
    pub shared_per_multiprocessor: u32,
    /// Second-level cache, in bytes.
    pub l2_bytes: u64,
    /// Memory, used or not, in bytes.
    pub memory_bytes: u64,
}

impl Card {
    /// Kernels may begin before the one ahead of them has ended (programmatic dependent launch).
    pub fn overlaps(&self) -> bool {
        self.compute_capability.0 >= 9
    }

    /// The card of number `ordinal`, without a context.
    pub fn of(_: Driver, ordinal: usize) -> Result<Self, Problem> {
        use CUdevice_attribute as Attribute;
        let device = handle(ordinal)?;
        let mut name = [0 as c_char; 256];
        // SAFETY: the driver writes a string of at most that length, zero included.
        driver::check("cuDeviceGetName", unsafe { sys::cuDeviceGetName(name.as_mut_ptr(), name.len() as i32, device) })?;
        let name: Vec<u8> = name.iter().take_while(|c| **c != 0).map(|c| *c as u8).collect();
        let mut memory = 0;
        // SAFETY: the driver writes one size.
        driver::check("cuDeviceTotalMem", unsafe { sys::cuDeviceTotalMem_v2(&raw mut memory, device) })?;
        let attribute = |which| {
            let mut value = 0;
            // SAFETY: the driver writes one int.
            driver::check("cuDeviceGetAttribute", unsafe { sys::cuDeviceGetAttribute(&raw mut value, which, device) })?;
            Ok::<i32, Problem>(value)
        };
        let size = |which| Ok::<u32, Problem>(u32::try_from(attribute(which)?).unwrap_or(0));
        Ok(Self {
            name: String::from_utf8_lossy(&name).into_owned(),
            compute_capability: (
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
                attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
            ),
            multiprocessors: size(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
            shared_per_block: size(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
            shared_per_multiprocessor: size(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)?,
            l2_bytes: u64::from(size(Attribute::CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE)?),
            memory_bytes: memory as u64,
        })
    }
}

fn handle(ordinal: usize) -> Result<sys::CUdevice, Problem> {
    let mut device = 0;
    let ordinal = i32::try_from(ordinal).unwrap_or(i32::MAX);
    // SAFETY: the driver writes one handle; it refuses an ordinal it does not know.
    driver::check("cuDeviceGet", unsafe { sys::cuDeviceGet(&raw mut device, ordinal) })?;
    Ok(device)
}

/// The primary context of a device, held.
#[derive(Debug)]
pub(super) struct Context {
    label: String,
    device: sys::CUdevice,
    raw: sys::CUcontext,
}

// SAFETY: the driver's calls may come from any thread once the context is current there, which `bind` sees to.
unsafe impl Send for Context {}
// SAFETY: as above; the fields do not change.
unsafe impl Sync for Context {}

impl Context {
    /// Makes the context current on this thread.
    pub(super) fn bind(&self) -> Result<()> {
        // SAFETY: the context is held until this value goes.
        self.check("cuCtxSetCurrent", unsafe { sys::cuCtxSetCurrent(self.raw) })
    }

    /// A code of the driver as a result that names this device.
    pub(super) fn check(&self, call: &str, code: CUresult) -> Result<()> {
        driver::check(call, code).map_err(|problem| problem.on(&self.label))
    }

    /// Free and total bytes.
    pub(super) fn memory(&self) -> Result<(u64, u64)> {
        self.bind()?;
        let (mut free, mut total) = (0, 0);
        // SAFETY: the driver writes two sizes.
        self.check("cuMemGetInfo", unsafe { sys::cuMemGetInfo_v2(&raw mut free, &raw mut total) })?;
        Ok((free as u64, total as u64))
    }

    /// The device as callers spell it, as in `cuda:0`.
    pub(super) fn label(&self) -> &str {
        &self.label
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: retained once in `Device::open`. At the process's end the driver may be gone already; nothing is left to do then.
        unsafe { sys::cuDevicePrimaryCtxRelease_v2(self.device) };
    }
}

/// A device in use. Clones are the same device; everything made on it keeps it.
#[derive(Clone, Debug)]
pub struct Device {
    context: Arc<Context>,
    card: Arc<Card>,
    ordinal: usize,
    driver: Driver,
}

impl Device {
    /// The device of number `ordinal`. The error says what is missing and what to install.
    pub fn open(ordinal: usize) -> Result<Self> {
        let label = format!("cuda:{ordinal}");
        let made = || {
            let driver = Driver::load()?;
            match driver.devices()? {
                0 => return Err(Problem::new("the NVIDIA driver shows no device", super::problem::help(CUresult::CUDA_ERROR_NO_DEVICE))),
                count if ordinal >= count => {
                    return Err(Problem::new(format!("there are {count} devices"), format!("use 'cuda:0' to 'cuda:{}'", count - 1)));
                }
                _ => {}
            }
            let card = Card::of(driver, ordinal)?;
            if card.compute_capability < (8, 0) {
                let (major, minor) = card.compute_capability;
                let found = format!("{} has compute capability {major}.{minor}", card.name);
                return Err(Problem::new(found, "8.0 (Ampere) is the oldest that the kernels serve"));
            }
            let device = handle(ordinal)?;
            let mut raw = ptr::null_mut();
            // SAFETY: the driver writes one handle; `Context` releases it.
            driver::check("cuDevicePrimaryCtxRetain", unsafe { sys::cuDevicePrimaryCtxRetain(&raw mut raw, device) })?;
            let context = Arc::new(Context { label: label.clone(), device, raw });
            Ok(Self { context, card: Arc::new(card), ordinal, driver })
        };
        let device = made().map_err(|problem: Problem| problem.on(&label))?;
        device.context.bind()?;
        Ok(device)
    }

    /// As `cuda:N` counts.
    pub fn ordinal(&self) -> usize {
        self.ordinal
    }

    /// The card's facts.
    pub fn card(&self) -> &Card {
        &self.card
    }

    /// The newest CUDA version that the driver serves.
    pub fn driver_version(&self) -> Version {
        self.driver.version()
    }

    /// Bytes of memory that are free, and all.
    pub fn memory(&self) -> Result<(u64, u64)> {
        self.context.memory()
    }

    /// Waits for all work on the device.
    pub fn synchronize(&self) -> Result<()> {
        self.context.bind()?;
        // SAFETY: the context is current.
        self.context.check("cuCtxSynchronize", unsafe { sys::cuCtxSynchronize() })
    }

    pub(super) fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// A problem of this device as the crate's error.
    pub(super) fn error(&self, problem: Problem) -> crate::error::Error {
        problem.on(self.context.label())
    }
}
