#!/usr/bin/env bash
# Formatters, linters, types and stubs; run in the environment where the package and its extra `lint` are installed.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
for features in "" python cuda python,cuda; do
    cargo clippy --quiet --locked --all-targets --features "$features" -- -D warnings
done
# What this machine does not compile by itself: NEON, and what is not Unix.
for target in aarch64-unknown-linux-gnu x86_64-pc-windows-gnu; do
    if [ -d "$(rustc --print target-libdir --target "$target")" ]; then
        cargo clippy --quiet --locked --all-targets --target "$target" -- -D warnings
    else
        echo "lint: $target is not compiled: rustup target add $target" >&2
    fi
done
python tools/licenses.py --check
ruff check .
ruff format --check python tests
mypy
python -m mypy.stubtest reset._core --mypy-config-file pyproject.toml --allowlist tools/stubtest_allow.txt
check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
check-jsonschema --quiet --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
check-jsonschema --quiet --builtin-schema vendor.citation-file-format CITATION.cff
zizmor --offline --quiet .github/workflows
