#!/usr/bin/env bash
# Fills dist/ with what tools/gpu_check.sh needs on a bare machine: this package's wheel and the few pure-Python wheels that images with
# torch and transformers tend to lack. Run it where Rust, maturin and an index are; carry dist/ along with the sources.
#
#   tools/gpu_pack.sh [PYTHON_VERSION]     the bare machine's Python, default 3.12
set -euo pipefail
cd "$(dirname "$0")/.."

version="${1:-3.12}"
rm -rf dist && mkdir dist
maturin build --release --locked --out dist
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" --dest dist platformdirs pytest-timeout
ls -l dist
