//! The table of `docs/architecture.md`, enforced: who may import whom.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Modules that each top-level module may import. Changed together with the table in `docs/architecture.md`.
const ALLOWED: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("memory", &[]),
    ("numeric", &[]),
    ("simd", &["memory", "numeric"]),
    ("nvfp4", &["error", "memory", "numeric", "simd"]),
    ("tensor", &["error", "numeric", "nvfp4"]),
    ("quantize", &["error", "numeric", "simd", "nvfp4", "tensor"]),
    ("checkpoint", &["error", "nvfp4", "tensor"]),
    ("model", &["error", "tensor", "checkpoint", "quantize"]),
    ("logits", &["simd"]),
    ("parallel", &["error"]),
    ("backend", &["error", "memory", "numeric", "simd", "nvfp4", "tensor", "logits", "parallel"]),
    ("decode", &["error", "tensor", "model", "backend", "parallel"]),
    ("controller", &["error"]),
    ("sampler", &["error", "simd", "logits", "parallel"]),
    ("generate", &["error", "simd", "backend", "decode", "controller", "sampler", "logits"]),
    ("pipeline", &["error", "quantize", "checkpoint", "model", "decode", "tensor", "nvfp4", "backend"]),
];

fn rust_files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("directory entry").path();
        if path.is_dir() {
            rust_files(&path, out);
        } else if path.extension().is_some_and(|e| e == "rs") {
            out.push(path);
        }
    }
}

fn module_of(relative: &Path) -> String {
    let first = relative.components().next().expect("a file below src");
    Path::new(first.as_os_str()).file_stem().expect("a name").to_string_lossy().into_owned()
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).expect("below src");
        let module = module_of(relative);
        let text = fs::read_to_string(&file).expect("UTF-8 source");
        let code = |line: &str| line.split("//").next().unwrap_or("").to_owned();
        for (number, line) in text.lines().map(code).enumerate() {
            let place = format!("{}:{}", relative.display(), number + 1);
            if module != "python" && (line.contains("pyo3") || line.contains("numpy::")) && !line.contains("feature") {
                wrong.push(format!("{place}: pyo3 and numpy belong to src/python"));
            }
            if !relative.starts_with("backend/cuda") && (line.contains("cudarc") || line.contains("libloading")) {
                wrong.push(format!("{place}: cudarc and libloading belong to src/backend/cuda"));
            }
            if line.contains("crate::{") {
                wrong.push(format!("{place}: write one `use crate::module::…` per module"));
            }
            let Some(list) = allowed.get(module.as_str()) else { continue };
            for part in line.split("crate::").skip(1) {
                let target: String = part.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if target != module && allowed.contains_key(target.as_str()) && !list.contains(&target.as_str()) {
                    wrong.push(format!("{place}: `{module}` may not import `{target}`"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_row_in_the_table() {
    let text = include_str!("../../src/lib.rs");
    for line in text.lines().filter_map(|l| l.strip_prefix("pub mod ")) {
        let module = line.trim_end_matches(';');
        assert!(ALLOWED.iter().any(|(name, _)| *name == module), "{module} has no row");
    }
}
