//! What NVIDIA hardware and software this machine has, without asking anything of a machine that has none.
//!
//! ```text
//! libcuda present? ──no──▶ "no driver"
//!        │yes
//!     cuInit ─────fails──▶ the driver's own words
//!        │
//!  count, then name, compute capability, memory of each device
//!        │
//! libnvrtc present? ─no──▶ devices, and "no run-time compiler": kernels are compiled where they run
//! ```
//!
//! cudarc looks a library up at its first call and panics where there is none, so presence is asked first.

#![allow(unsafe_code, reason = "calls into the CUDA driver")]

use cudarc::driver::result;
use cudarc::driver::sys;
use cudarc::nvrtc;

/// One device.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// As `cuda:N` counts.
    pub ordinal: usize,
    /// The maker's name for it.
    pub name: String,
    /// Major and minor.
    pub compute_capability: (i32, i32),
    /// Bytes of memory, used or not.
    pub memory_bytes: u64,
}

/// What was found. Where `problem` is none, models can run on every device listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// In the driver's order.
    pub devices: Vec<Device>,
    /// The newest CUDA version the driver serves.
    pub driver_version: Option<(i32, i32)>,
    /// Version of the run-time compiler.
    pub compiler_version: Option<(i32, i32)>,
    /// What is missing, and what would help.
    pub problem: Option<String>,
}

/// Looks for driver, devices and compiler. Never panics; cheap after the first call.
pub fn probe() -> Probe {
    let mut found = Probe::default();
    // SAFETY: the call opens and closes a shared library of this name, whose initializers NVIDIA's driver expects to run.
    if !unsafe { sys::is_culib_present() } {
        found.problem = Some("no NVIDIA driver (libcuda) found; install one where there is an NVIDIA GPU".into());
        return found;
    }
    match driver() {
        Ok((version, devices)) => {
            found.driver_version = Some(version);
            found.devices = devices;
        }
        Err(error) => {
            found.problem = Some(format!("the NVIDIA driver refuses: {}", words(error)));
            return found;
        }
    }
    if found.devices.is_empty() {
        found.problem = Some("the NVIDIA driver knows no device".into());
        return found;
    }
    found.compiler_version = compiler();
    if found.compiler_version.is_none() {
        found.problem =
            Some("no run-time compiler (libnvrtc) found: install the CUDA toolkit, or its package nvrtc, on the loader's path".into());
    }
    found
}

/// Version and devices; the library is present.
fn driver() -> Result<((i32, i32), Vec<Device>), result::DriverError> {
    result::init()?;
    let mut version = 0;
    // SAFETY: the driver writes one int.
    unsafe { sys::cuDriverGetVersion(&raw mut version) }.result()?;
    let count = result::device::get_count()?;
    let devices = (0..count).map(device).collect::<Result<_, _>>()?;
    // CUDA writes 12.8 as 12080.
    Ok(((version / 1000, version % 1000 / 10), devices))
}

fn device(ordinal: i32) -> Result<Device, result::DriverError> {
    use sys::CUdevice_attribute_enum as Attribute;
    let handle = result::device::get(ordinal)?;
    // SAFETY: the handle was just given out by the driver.
    let attribute = |which| unsafe { result::device::get_attribute(handle, which) };
    // SAFETY: as above.
    let memory = unsafe { result::device::total_mem(handle) }?;
    Ok(Device {
        ordinal: ordinal as usize,
        name: result::device::get_name(handle)?,
        compute_capability: (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        ),
        memory_bytes: memory as u64,
    })
}

/// Version of NVRTC, where it is installed and answers.
fn compiler() -> Option<(i32, i32)> {
    // SAFETY: opens and closes a shared library of this name.
    if !unsafe { nvrtc::sys::is_culib_present() } {
        return None;
    }
    let (mut major, mut minor) = (0, 0);
    // SAFETY: NVRTC writes two ints.
    let status = unsafe { nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    (status == nvrtc::sys::nvrtcResult::NVRTC_SUCCESS).then_some((major, minor))
}

/// The driver's own sentence for an error.
fn words(error: result::DriverError) -> String {
    error.error_string().map_or_else(|_| format!("{:?}", error.0), |text| text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_usable_or_says_why_not() {
        let found = probe();
        assert_eq!(found.problem.is_none(), !found.devices.is_empty() && found.compiler_version.is_some(), "{found:?}");
        assert!(found.driver_version.is_some() || found.devices.is_empty(), "{found:?}");
        for (index, device) in found.devices.iter().enumerate() {
            assert_eq!(device.ordinal, index);
            assert!(!device.name.is_empty() && device.memory_bytes > 0 && device.compute_capability.0 >= 3, "{device:?}");
        }
        assert_eq!(probe(), found, "a second look finds the same");
    }
}
