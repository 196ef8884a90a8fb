#!/usr/bin/env bash
# Fills dist/ with what tools/gpu_check.sh needs on a bare machine. Run it where Rust, maturin, NVRTC (`pip install nvidia-cuda-nvrtc`) and
# an index are; carry dist/ along with the sources.
#
#   tools/gpu_pack.sh [PYTHON_VERSION [ARCHITECTURE …]]     of the bare machine; default 3.12 sm_90
#
#   *.whl      this package, and the few pure-Python wheels that images with torch and transformers tend to lack
#   cubin/     kernels compiled for the architectures: used where the machine's own NVRTC is the same
#   bin/       unit tests and benchmarks of the CPU's inner loops, which need no file beside them
set -euo pipefail
cd "$(dirname "$0")/.."

version="${1:-3.12}"
shift $(($# > 0 ? 1 : 0))
rm -rf dist && mkdir -p dist/bin
maturin build --release --locked --out dist
python3 -m pip download --quiet --no-deps --only-binary=:all: --python-version "$version" --dest dist platformdirs pytest-timeout

scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$scratch" dist/reset_nvfp4-*.whl
PYTHONPATH="$scratch" python3 - dist/cubin "${@:-sm_90}" <<'PY'
import sys
from pathlib import Path
from reset import _core, _cuda
folder, *architectures = sys.argv[1:]
for architecture in architectures:
    for name, _ in _core.cuda_kernels():
        _core.cuda_compile(name, architecture, _cuda.nvrtc_candidates(), Path(folder))
PY

# executable NAME ARGUMENTS…: what cargo builds with these arguments, as dist/bin/NAME
executable() {
    local name="$1" built
    shift
    built="$(cargo "$@" --locked --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)"
    cp "$built" "dist/bin/$name" && strip --strip-debug "dist/bin/$name"
}
executable unit-tests test --release --lib
executable gemv bench --bench gemv
executable kernels bench --bench kernels
find dist -type f | sort | xargs du -h
