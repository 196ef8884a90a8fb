//! A device with its kernels: compiled when first asked for, kept as long as the runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::backend::cuda::cache::Cache;
use crate::backend::cuda::compile::{Cubin, architecture, compile, cubin};
use crate::backend::cuda::device::Device;
use crate::backend::cuda::module::{Function, Module};
use crate::backend::cuda::nvrtc::Compiler;
use crate::backend::cuda::problem::Problem;
use crate::backend::cuda::sources::{Kernel, kernel};
use crate::error::Result;

/// Where things lie that are not the driver's.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// Where to look for NVRTC, in this order.
    pub nvrtc: Vec<PathBuf>,
    /// Folder of compiled kernels; `None` compiles in every process.
    pub cache: Option<PathBuf>,
}

/// A device, a compiler and the kernels loaded so far.
#[derive(Debug)]
pub struct Runtime {
    device: Device,
    compiler: Compiler,
    cache: Cache,
    modules: Mutex<BTreeMap<&'static str, Arc<Module>>>,
}

impl Runtime {
    /// The runtime of device `ordinal`. The error says what is missing and what to install.
    pub fn open(ordinal: usize, places: &Places) -> Result<Self> {
        let device = Device::open(ordinal)?;
        let compiler = Compiler::find(&places.nvrtc, Some(device.driver_version())).map_err(|problem| device.error(problem))?;
        serves(&compiler, device.card().compute_capability).map_err(|problem| device.error(problem))?;
        Ok(Self { device, compiler, cache: Cache::new(places.cache.clone()), modules: Mutex::default() })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The compiler.
    pub fn compiler(&self) -> &Compiler {
        &self.compiler
    }

    /// Kernel `entry` of `kernels/<file>.cu`.
    pub fn function(&self, file: &str, entry: &str) -> Result<Function> {
        self.module(self.kernel(file)?, None)?.function(entry)
    }

    /// Compiles and loads several files of kernels, those that the cache lacks at the same time: a first start waits for the slowest file
    /// instead of for all.
    pub fn prepare(&self, files: &[&str]) -> Result<()> {
        let kernels = files.iter().map(|file| self.kernel(file)).collect::<Result<Vec<_>>>()?;
        let architecture = architecture(self.device.card().compute_capability);
        let compile = |kernel| cubin(&self.compiler, &self.cache, kernel, &architecture).map_err(|problem| self.device.error(problem));
        let cubins: Result<Vec<_>> = thread::scope(|scope| {
            let running: Vec<_> = kernels.iter().map(|kernel| scope.spawn(|| compile(kernel))).collect();
            running.into_iter().map(|one| one.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
        });
        for (kernel, cubin) in kernels.into_iter().zip(cubins?) {
            self.module(kernel, Some(cubin))?;
        }
        Ok(())
    }

    fn kernel(&self, file: &str) -> Result<&'static Kernel> {
        kernel(file).ok_or_else(|| self.device.error(Problem::new(format!("there is no file of kernels {file:?}"), "")))
    }

    /// The module of `kernel`, loaded from `ready` if it is not there yet.
    fn module(&self, kernel: &'static Kernel, ready: Option<Cubin>) -> Result<Arc<Module>> {
        let mut modules = self.modules.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(module) = modules.get(kernel.name) {
            return Ok(Arc::clone(module));
        }
        let architecture = architecture(self.device.card().compute_capability);
        let problem = |problem| self.device.error(problem);
        let found = match ready {
            Some(cubin) => cubin,
            None => cubin(&self.compiler, &self.cache, kernel, &architecture).map_err(problem)?,
        };
        let module = match Module::load(&self.device, &found) {
            // A cubin that was kept may have been sound when written and not serve this driver.
            Err(_) if found.cached => {
                let fresh = compile(&self.compiler, &self.cache, kernel, &architecture).map_err(problem)?;
                Module::load(&self.device, &fresh)?
            }
            module => module?,
        };
        let module = Arc::new(module);
        modules.insert(kernel.name, Arc::clone(&module));
        Ok(module)
    }
}

/// Whether the compiler knows the card.
pub(super) fn serves(compiler: &Compiler, (major, minor): (i32, i32)) -> Result<(), Problem> {
    let wanted = u32::try_from(major * 10 + minor).unwrap_or(0);
    let known = compiler.architectures();
    if known.contains(&wanted) {
        return Ok(());
    }
    let newest = known.iter().max().copied().unwrap_or(0);
    let found =
        format!("NVRTC {} ({}) knows sm_{newest} at most, and the card is sm_{wanted}", compiler.version(), compiler.path().display());
    Err(Problem::new(found, "pip install --upgrade nvidia-cuda-nvrtc"))
}
