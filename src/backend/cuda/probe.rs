//! What NVIDIA hardware and software this machine has, for reports: every part that is there, and every part that is missing with what
//! would help. Asks nothing of a machine that has none, and makes no context.

use std::path::{Path, PathBuf};

use crate::backend::cuda::device::Card;
use crate::backend::cuda::driver::Driver;
use crate::backend::cuda::nvrtc::Compiler;
use crate::backend::cuda::problem::{Problem, Version, help};
use crate::backend::cuda::runtime::serves;

/// What was found. Where `missing` is empty, kernels can run on every card listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Probe {
    /// In the driver's order: number N is `cuda:N`.
    pub cards: Vec<Card>,
    /// The newest CUDA version the driver serves.
    pub driver: Option<Version>,
    /// The run-time compiler's version and path.
    pub compiler: Option<(Version, PathBuf)>,
    /// What is in the way.
    pub missing: Vec<Problem>,
}

/// Looks for driver, cards, and NVRTC in `candidates`. Never panics; cheap after the first call.
pub fn probe(candidates: &[PathBuf]) -> Probe {
    let mut found = Probe::default();
    match Driver::load() {
        Ok(driver) => {
            found.driver = Some(driver.version());
            match cards(driver) {
                Ok(cards) => found.cards = cards,
                Err(problem) => found.missing.push(problem),
            }
        }
        Err(problem) => found.missing.push(problem),
    }
    match Compiler::find(candidates, found.driver) {
        Ok(compiler) => {
            let unserved = found.cards.iter().find_map(|card| serves(&compiler, card.compute_capability).err());
            found.missing.extend(unserved);
            found.compiler = Some((compiler.version(), Path::to_path_buf(compiler.path())));
        }
        Err(problem) => found.missing.push(problem),
    }
    found
}

fn cards(driver: Driver) -> Result<Vec<Card>, Problem> {
    use cudarc::driver::sys::CUresult;
    match driver.devices()? {
        0 => Err(Problem::new("the NVIDIA driver shows no device", help(CUresult::CUDA_ERROR_NO_DEVICE))),
        count => (0..count).map(|ordinal| Card::of(driver, ordinal)).collect(),
    }
}
