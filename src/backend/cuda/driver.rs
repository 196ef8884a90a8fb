//! The driver's library: there, complete, new enough and willing, or a [`Problem`] that says which of these it is not.
//!
//! ```text
//! libcuda present? ─▶ its first entries? ─▶ version ≥ 12.4? ─▶ all entries? ─▶ cuInit
//! ```
//!
//! The order matters: an old driver lacks entries, and "serves CUDA 11.4" helps more than "has no cuLaunchKernelEx".

#![allow(unsafe_code, reason = "calls into the CUDA driver")]

use cudarc::driver::sys::{self, CUresult};

use crate::backend::cuda::problem::{Problem, Version};

/// The oldest CUDA version a driver may serve. Captured graphs keep programmatic dependences between kernels from 12.3 on; 12.4 (Linux
/// driver 550) is the first production branch that has them.
pub const OLDEST: Version = Version(12, 4);

const UPDATE: &str = "update the NVIDIA driver (Linux: 550 or newer)";

/// Entries asked for before anything else is known.
const FIRST: &[&str] = &["cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString"];

/// Every other entry this crate calls. A test compares the list with the calls in `src/backend/cuda`.
const ENTRIES: &[&str] = &[
    "cuCtxSetCurrent",
    "cuCtxSynchronize",
    "cuDeviceGet",
    "cuDeviceGetAttribute",
    "cuDeviceGetCount",
    "cuDeviceGetName",
    "cuDevicePrimaryCtxRelease_v2",
    "cuDevicePrimaryCtxRetain",
    "cuDeviceTotalMem_v2",
    "cuEventCreate",
    "cuEventDestroy_v2",
    "cuEventElapsedTime",
    "cuEventQuery",
    "cuEventRecord",
    "cuEventSynchronize",
    "cuFuncGetAttribute",
    "cuFuncSetAttribute",
    "cuGraphDestroy",
    "cuGraphExecDestroy",
    "cuGraphGetEdges_v2",
    "cuGraphGetNodes",
    "cuGraphInstantiateWithFlags",
    "cuGraphLaunch",
    "cuGraphUpload",
    "cuLaunchKernelEx",
    "cuMemAlloc_v2",
    "cuMemFreeHost",
    "cuMemFree_v2",
    "cuMemGetInfo_v2",
    "cuMemHostAlloc",
    "cuMemHostGetDevicePointer_v2",
    "cuMemcpyDtoDAsync_v2",
    "cuMemcpyDtoHAsync_v2",
    "cuMemcpyHtoDAsync_v2",
    "cuMemsetD8Async",
    "cuModuleGetFunction",
    "cuModuleLoadData",
    "cuModuleUnload",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor",
    "cuStreamBeginCapture_v2",
    "cuStreamCreate",
    "cuStreamDestroy_v2",
    "cuStreamEndCapture",
    "cuStreamQuery",
    "cuStreamSynchronize",
    "cuStreamWaitEvent",
];

/// Proof that the driver is there and initialized, so that its entries may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Driver {
    version: Version,
}

impl Driver {
    /// Looks for the driver and initializes it. Never panics; cheap after the first call.
    pub fn load() -> Result<Self, Problem> {
        // SAFETY: the call opens and closes a shared library of this name, whose initializers NVIDIA's driver expects to run.
        if !unsafe { sys::is_culib_present() } {
            return Err(Problem::new("no NVIDIA driver (libcuda) on this machine", "install one where there is an NVIDIA GPU"));
        }
        if let Some(name) = first_missing(FIRST) {
            return Err(Problem::new(format!("the library libcuda found here lacks {name}"), "it is no NVIDIA driver: install one"));
        }
        let version = version()?;
        accept(version, first_missing(ENTRIES))?;
        // SAFETY: `cuInit` is an entry of the library, and takes no pointer.
        check("cuInit", unsafe { sys::cuInit(0) })?;
        Ok(Self { version })
    }

    /// The newest CUDA version the driver serves.
    pub fn version(self) -> Version {
        self.version
    }

    /// How many devices it shows this process.
    pub fn devices(self) -> Result<usize, Problem> {
        let mut count = 0;
        // SAFETY: the driver is loaded and writes one int.
        check("cuDeviceGetCount", unsafe { sys::cuDeviceGetCount(&raw mut count) })?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

/// The driver's version, or what it answers instead.
fn version() -> Result<Version, Problem> {
    let mut number = 0;
    // SAFETY: the entry is in the library, may be called before `cuInit`, and writes one int.
    check("cuDriverGetVersion", unsafe { sys::cuDriverGetVersion(&raw mut number) })?;
    Ok(Version::from_number(number))
}

/// Whether a driver of this version, which lacks an entry or none, will do.
fn accept(version: Version, missing: Option<&str>) -> Result<(), Problem> {
    if version < OLDEST {
        return Err(Problem::new(format!("the NVIDIA driver serves CUDA {version}, and {OLDEST} is the oldest that will do"), UPDATE));
    }
    match missing {
        Some(name) => Err(Problem::new(format!("the NVIDIA driver says CUDA {version} but lacks {name}"), UPDATE)),
        None => Ok(()),
    }
}

/// The first of `names` that the library does not have.
fn first_missing(names: &[&'static str]) -> Option<&'static str> {
    // SAFETY: presence was asked before; the library stays open for the process's life.
    let library = unsafe { sys::culib() };
    // SAFETY: the symbol is looked up and not called.
    names.iter().copied().find(|name| unsafe { library.get::<unsafe extern "C" fn()>(*name) }.is_err())
}

/// A code of the driver as a result.
pub(super) fn check(call: &str, code: CUresult) -> Result<(), Problem> {
    match code {
        CUresult::CUDA_SUCCESS => Ok(()),
        code => Err(Problem::call(call, code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// A call of an entry that is not looked up beforehand would panic on a driver without it.
    #[test]
    fn every_entry_called_is_asked_for_first() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/backend/cuda");
        let mut called = BTreeSet::new();
        for entry in std::fs::read_dir(folder).expect("the folder of this file") {
            let path = entry.expect("an entry").path();
            let text = if path.is_file() { std::fs::read_to_string(path).expect("UTF-8 source") } else { String::new() };
            for part in text.split("sys::cu").skip(1) {
                let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
                if part[name.len()..].starts_with('(') && name.starts_with(|c: char| c.is_ascii_uppercase()) {
                    called.insert(format!("cu{name}"));
                }
            }
        }
        let asked: BTreeSet<String> = FIRST.iter().chain(ENTRIES).map(ToString::to_string).collect();
        let named_by_cudarc = ["cuGetErrorName", "cuGetErrorString"].map(String::from);
        called.extend(named_by_cudarc);
        assert_eq!(called, asked);
        assert!(ENTRIES.is_sorted(), "sorted, so that a double entry shows");
    }

    #[test]
    fn an_old_driver_is_named_by_its_version_and_a_broken_one_by_its_entry() {
        assert_eq!(accept(OLDEST, None), Ok(()));
        let old = accept(Version(11, 4), Some("cuLaunchKernelEx")).unwrap_err().to_string();
        assert!(old.contains("CUDA 11.4") && old.contains("12.4") && old.contains("550") && !old.contains("cuLaunch"), "{old}");
        let broken = accept(Version(12, 8), Some("cuGraphUpload")).unwrap_err().to_string();
        assert!(broken.contains("lacks cuGraphUpload") && broken.contains("update"), "{broken}");
    }

    #[test]
    fn a_machine_has_a_driver_or_says_what_is_missing() {
        match Driver::load() {
            Ok(driver) => assert!(driver.version() >= OLDEST),
            Err(problem) => assert!(!problem.found.is_empty() && !problem.help.is_empty(), "{problem}"),
        }
    }
}
