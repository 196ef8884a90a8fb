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
pub const KERNELS: &[Kernel] = &[
    kernel!("activations", "a linear layer's operand, the gate, residuals"),
    kernel!("attention", "attention over the cache in splits, joined in a fixed order"),
    kernel!("bf16_linear", "bf16 layers for a few tokens"),
    kernel!("dense_linear", "dense layers of any format and shape"),
    kernel!("draw", "the draw of a token"),
    kernel!("embed", "rows of the embedding table"),
    kernel!("logits", "entropy of the logits and the policy's step"),
    kernel!("narrow", "top-k, top-p and min-p"),
    kernel!("nvfp4_linear", "NVFP4 layers for a few tokens"),
    kernel!("nvfp4_prefill", "NVFP4 layers for a prompt"),
    kernel!("probe", "copy bandwidth, the cost of a graph node, the ring to the host"),
    kernel!("rms_norm", "norms, and the operand made from them"),
    kernel!("rotate", "norm and rotation of heads, the cache"),
];

/// Headers that kernels share: name as `#include "…"` spells it, and text.
pub const HEADERS: &[(&str, &str)] = &[
    ("common.cuh", include_str!("../../../kernels/common.cuh")),
    ("instructions.cuh", include_str!("../../../kernels/instructions.cuh")),
    ("sampling.cuh", include_str!("../../../kernels/sampling.cuh")),
];

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
