#!/usr/bin/env bash
# Builds a wheel from a source archive alone, cut off from the network, and tries it.
#
#   tools/sdist_offline.sh dist/reset_nvfp4-0.1.0.tar.gz [PYTHON]
#
# What the build needs from registries (the crates of Cargo.lock, maturin) is fetched first, as a packager would; then pip and cargo run
# where the system offers no network (a namespace of their own, if it grants one) and are told to stay offline in any case.
set -euo pipefail
unset PYTHONPATH # it would put the repository before the wheel
archive=$(realpath "$1")
python=${2:-python3}
tools=$(cd "$(dirname "$0")" && pwd)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
tar -xzf "$archive"
mv reset_nvfp4-* sources
"$python" -m venv venv
echo "== fetch"
venv/bin/pip install -q 'maturin>=1.9.4,<2'
cargo fetch --quiet --locked --manifest-path sources/Cargo.toml

echo "== build"
cut_off=(env CARGO_NET_OFFLINE=true PIP_NO_INDEX=1 "PATH=$work/venv/bin:$PATH")
if unshare --map-root-user --net true 2> /dev/null; then
    cut_off=(unshare --map-root-user --net "${cut_off[@]}")
else
    echo "no network namespace is to be had: pip and cargo are only told to stay offline"
fi
"${cut_off[@]}" venv/bin/pip wheel -q --no-deps --no-build-isolation --wheel-dir dist ./sources

echo "== use"
"$python" "$tools/check_dist.py" dist/*.whl
"$python" "$tools/wheel_smoke.py" dist/*.whl --python "$python"
