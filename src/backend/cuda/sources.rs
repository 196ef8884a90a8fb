//! The kernels' text, carried in the crate.
//!
//! A kernel is one file in `kernels/`, compiled alone. It includes no header of the toolkit (none is there at run time) and may include
//! the headers listed here, which NVRTC gets by name from memory.

/// One file of kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// The file's name without `.cu`.
    pub name: &'static str,
    /// One sentence.
    pub what: &'static str,
    /// Its text.
    pub source: &'static str,
}

macro_rules! kernel {
    ($name:literal, $what:literal) => {
        Kernel { name: $name, what: $what, source: include_str!(concat!("../../../kernels/", $name, ".cu")) }
    };
}

/// Every file of kernels.
pub const KERNELS: &[Kernel] = &[kernel!("probe", "copy bandwidth, the cost of a graph node, the ring to the host")];

/// Headers that kernels share: name as `#include "…"` spells it, and text.
pub const HEADERS: &[(&str, &str)] = &[];

/// The file of kernels called `name`.
pub fn kernel(name: &str) -> Option<&'static Kernel> {
    KERNELS.iter().find(|kernel| kernel.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    fn files(extension: &str) -> BTreeSet<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernels");
        let paths = std::fs::read_dir(folder).expect("kernels/").map(|entry| entry.expect("an entry").path());
        paths.filter(|p| p.extension().is_some_and(|e| e == extension)).map(|p| p.file_name().unwrap().to_str().unwrap().into()).collect()
    }

    #[test]
    fn every_file_in_kernels_is_listed() {
        assert_eq!(KERNELS.iter().map(|kernel| format!("{}.cu", kernel.name)).collect::<BTreeSet<_>>(), files("cu"));
        assert_eq!(HEADERS.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>(), files("cuh"));
    }

    #[test]
    fn a_kernel_includes_listed_headers_only() {
        let texts = KERNELS.iter().map(|kernel| kernel.source).chain(HEADERS.iter().map(|(_, text)| *text));
        for line in texts.flat_map(str::lines).filter(|line| line.trim_start().starts_with("#include")) {
            assert!(HEADERS.iter().any(|(name, _)| line.contains(&format!("\"{name}\""))), "{line}");
        }
    }
}
