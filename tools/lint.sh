#!/usr/bin/env bash
# Formatters, linters, types and stubs; run in the environment where the package and its extra `lint` are installed.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo fmt --check
for features in "" python cuda python,cuda; do
    cargo clippy --quiet --locked --all-targets --features "$features" -- -D warnings
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
