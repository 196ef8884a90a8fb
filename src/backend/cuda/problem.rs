//! What is missing or went wrong, in two sentences: what was found, and what would help.

use std::fmt;

use cudarc::driver::result::DriverError;
use cudarc::driver::sys::CUresult;

use crate::error::Error;

/// How to get the run-time compiler.
pub const INSTALL_COMPILER: &str = "pip install 'reset-nvfp4[cuda]' (it brings nvidia-cuda-nvrtc)";

/// A CUDA version, as in 12.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i32, pub i32);

impl Version {
    /// CUDA writes 12.8 as 12080.
    pub fn from_number(number: i32) -> Self {
        Self(number / 1000, number % 1000 / 10)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// One thing in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What was attempted and what was found.
    pub found: String,
    /// What would help.
    pub help: String,
}

impl Problem {
    /// A problem and its remedy.
    pub fn new(found: impl Into<String>, help: impl Into<String>) -> Self {
        Self { found: found.into(), help: help.into() }
    }

    /// A call to the driver that failed.
    pub fn call(call: &str, code: CUresult) -> Self {
        Self::new(format!("{call} failed: {}", words(code)), help(code))
    }

    /// As the crate's error, for `device` as the caller spelt it.
    pub fn on(self, device: impl Into<String>) -> Error {
        Error::Device { device: device.into(), problem: self.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.help.as_str() {
            "" => f.write_str(&self.found),
            help => write!(f, "{}; {help}", self.found),
        }
    }
}

/// The driver's own sentence for a code, and the code's name.
fn words(code: CUresult) -> String {
    match DriverError(code).error_string() {
        Ok(text) => format!("{} ({code:?})", text.to_string_lossy()),
        Err(_) => format!("{code:?}"),
    }
}

/// What helps against a code; empty where there is no general advice.
pub fn help(code: CUresult) -> &'static str {
    match code {
        CUresult::CUDA_ERROR_NO_DEVICE => {
            "no GPU is visible to this process: see `nvidia-smi`, and give a container its GPUs (docker run --gpus all)"
        }
        CUresult::CUDA_ERROR_OUT_OF_MEMORY => "end other processes that hold memory on it, or take a smaller model, batch or context",
        CUresult::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH => "libcuda and the kernel's driver differ: reboot after the driver update",
        CUresult::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "the package cuda-compat does not serve this card: remove it, or update the driver"
        }
        CUresult::CUDA_ERROR_STUB_LIBRARY => "the loader found the toolkit's stub of libcuda: put the driver's library before it",
        CUresult::CUDA_ERROR_SYSTEM_NOT_READY => "a service of the machine is not running: start nvidia-fabricmanager",
        CUresult::CUDA_ERROR_NOT_INITIALIZED => "CUDA does not survive a fork: start worker processes with `spawn`",
        CUresult::CUDA_ERROR_OPERATING_SYSTEM | CUresult::CUDA_ERROR_NOT_PERMITTED => {
            "this process may not use /dev/nvidia*: ask for access"
        }
        CUresult::CUDA_ERROR_DEVICE_UNAVAILABLE => "another process uses the card exclusively",
        CUresult::CUDA_ERROR_INVALID_IMAGE | CUresult::CUDA_ERROR_NO_BINARY_FOR_GPU | CUresult::CUDA_ERROR_UNSUPPORTED_PTX_VERSION => {
            "the driver does not read what this compiler writes: update the driver, or pip install nvidia-cuda-nvrtc-cu12 for one of CUDA 12"
        }
        CUresult::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => "the launch asks for more registers or shared memory than the card has",
        CUresult::CUDA_ERROR_ILLEGAL_ADDRESS
        | CUresult::CUDA_ERROR_MISALIGNED_ADDRESS
        | CUresult::CUDA_ERROR_ILLEGAL_INSTRUCTION
        | CUresult::CUDA_ERROR_LAUNCH_FAILED
        | CUresult::CUDA_ERROR_LAUNCH_TIMEOUT
        | CUresult::CUDA_ERROR_ECC_UNCORRECTABLE
        | CUresult::CUDA_ERROR_CONTEXT_IS_DESTROYED => "the device's context is lost to this process: start it anew",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_and_print() {
        assert_eq!(Version::from_number(12080).to_string(), "12.8");
        assert_eq!(Version::from_number(13000), Version(13, 0));
        assert!(Version(12, 10) > Version(12, 9) && Version(13, 0) > Version(12, 10));
    }

    #[test]
    fn a_problem_says_what_was_found_and_what_helps() {
        let error = Problem::new("no driver", "install one").on("cuda:1");
        assert_eq!(error.to_string(), "device cuda:1: no driver; install one");
        assert_eq!(Problem::new("no driver", "").to_string(), "no driver");
        assert!(help(CUresult::CUDA_ERROR_OUT_OF_MEMORY).contains("smaller"));
        assert!(help(CUresult::CUDA_ERROR_NOT_INITIALIZED).contains("fork"));
    }
}
