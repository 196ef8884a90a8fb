//! Cubins on a device: modules, and the functions in them.

#![allow(unsafe_code, reason = "calls into the CUDA driver")]

use std::ffi::{CString, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::driver::sys::{self, CUfunction_attribute, CUresult};

use crate::backend::cuda::compile::Cubin;
use crate::backend::cuda::device::Device;
use crate::backend::cuda::problem::Problem;
use crate::error::Result;

/// A cubin, loaded. Its functions keep it.
#[derive(Debug)]
pub struct Module {
    name: &'static str,
    device: Device,
    raw: sys::CUmodule,
}

// SAFETY: a handle that the driver accepts from any thread.
unsafe impl Send for Module {}
// SAFETY: as above; the fields do not change.
unsafe impl Sync for Module {}

impl Module {
    /// Loads `cubin`.
    pub fn load(device: &Device, cubin: &Cubin) -> Result<Self> {
        let context = device.context();
        context.bind()?;
        let mut raw = ptr::null_mut();
        // SAFETY: an ELF file says its own length; the bytes are the compiler's, or the same by their hash.
        let code = unsafe { sys::cuModuleLoadData(&raw mut raw, cubin.bytes.as_ptr().cast::<c_void>()) };
        context.check(&format!("loading {} for {}", cubin.name, cubin.architecture), code)?;
        Ok(Self { name: cubin.name, device: device.clone(), raw })
    }

    /// The kernel called `entry`.
    pub fn function(self: &Arc<Self>, entry: &str) -> Result<Function> {
        let context = self.device.context();
        context.bind()?;
        let mut raw = ptr::null_mut();
        let missing = |found: String| self.device.error(Problem::new(found, ""));
        let name = CString::new(entry).map_err(|_| missing(format!("{entry:?} is no kernel's name")))?;
        // SAFETY: the module is loaded, and the name ends in zero.
        match unsafe { sys::cuModuleGetFunction(&raw mut raw, self.raw, name.as_ptr()) } {
            CUresult::CUDA_ERROR_NOT_FOUND => return Err(missing(format!("{}.cu has no kernel {entry}", self.name))),
            code => context.check("cuModuleGetFunction", code)?,
        }
        let read = |attribute| {
            let mut value = 0;
            // SAFETY: the function exists, and the driver writes one int.
            context.check("cuFuncGetAttribute", unsafe { sys::cuFuncGetAttribute(&raw mut value, attribute, raw) })?;
            Ok::<u32, crate::error::Error>(u32::try_from(value).unwrap_or(0))
        };
        let facts = Facts {
            registers: read(CUfunction_attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: read(CUfunction_attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            shared_bytes: read(CUfunction_attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            threads: read(CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        };
        Ok(Function { module: Arc::clone(self), entry: entry.to_owned(), raw, facts })
    }
}

impl Drop for Module {
    fn drop(&mut self) {
        if self.device.context().bind().is_ok() {
            // SAFETY: loaded once, unloaded once; functions hold the module.
            unsafe { sys::cuModuleUnload(self.raw) };
        }
    }
}

/// What the compiler made of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Registers per thread.
    pub registers: u32,
    /// Local memory per thread in bytes: spilled registers, if any.
    pub local_bytes: u32,
    /// Shared memory that the kernel declares, in bytes.
    pub shared_bytes: u32,
    /// Threads that a block may have.
    pub threads: u32,
}

/// A kernel, ready to be launched.
#[derive(Clone, Debug)]
pub struct Function {
    module: Arc<Module>,
    entry: String,
    raw: sys::CUfunction,
    facts: Facts,
}

// SAFETY: a handle that the driver accepts from any thread; the module it belongs to is held.
unsafe impl Send for Function {}
// SAFETY: as above; the fields do not change.
unsafe impl Sync for Function {}

impl Function {
    /// Its name.
    pub fn entry(&self) -> &str {
        &self.entry
    }

    /// What the compiler made of it.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// Lets launches ask for `bytes` of dynamic shared memory; more than 48 KiB need this once.
    pub fn allow_shared(&self, bytes: u32) -> Result<()> {
        let context = self.device().context();
        context.bind()?;
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function exists.
        let code = unsafe { sys::cuFuncSetAttribute(self.raw, attribute, bytes as i32) };
        context.check(&format!("{bytes} bytes of shared memory for {}", self.entry), code)
    }

    /// Asks for as much shared memory on a multiprocessor as it can have, whatever the kernel itself needs; the rest is first-level cache.
    pub fn prefer_shared(&self) -> Result<()> {
        let context = self.device().context();
        context.bind()?;
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT;
        // SAFETY: the function exists; the value is a percentage, and a wish.
        context.check("cuFuncSetAttribute", unsafe { sys::cuFuncSetAttribute(self.raw, attribute, 100) })
    }

    /// Blocks of `threads` threads and `shared_bytes` of dynamic shared memory that one multiprocessor holds at a time.
    pub fn blocks_per_multiprocessor(&self, threads: u32, shared_bytes: u32) -> Result<u32> {
        let context = self.device().context();
        context.bind()?;
        let mut blocks = 0;
        // SAFETY: the function exists, and the driver writes one int.
        let code =
            unsafe { sys::cuOccupancyMaxActiveBlocksPerMultiprocessor(&raw mut blocks, self.raw, threads as i32, shared_bytes as usize) };
        context.check("cuOccupancyMaxActiveBlocksPerMultiprocessor", code)?;
        Ok(u32::try_from(blocks).unwrap_or(0))
    }

    pub(super) fn device(&self) -> &Device {
        &self.module.device
    }

    pub(super) fn raw(&self) -> sys::CUfunction {
        self.raw
    }
}
