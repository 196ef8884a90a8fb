#!/usr/bin/env bash
# Everything that needs a CUDA card, in stages of at most eight minutes, the most valuable first.
#
#   tools/gpu_check.sh [--installed] DIR [STAGE …]       tables and logs go to DIR; without stages, all of them:
#
#   device     what the machine has (doctor.json); copy bandwidth, cost of a graph's nodes, way back to the host (device.json)
#   tests      pytest -m gpu over tests/python/test_cuda*.py: other files need packages that a bare machine lacks
#   sanitize   compute-sanitizer, memcheck and racecheck, over the device's checks with small sizes
#
# The machine may be bare: Python 3.10 or newer with numpy, jinja2, tokenizers, typer, rich, tqdm and pytest (images with torch and
# transformers have them), a driver, NVRTC (torch brings it) — no Rust, no network. If dist/ holds wheels (tools/gpu_pack.sh fills it;
# carry it beside the sources), they are installed into a temporary folder; else, and with --installed, the package must be there already.
#
# Exit status: 0 if no stage failed. A stage that this machine cannot run is skipped with its reason, and is no failure.
set -uo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."

installed=0
[ "${1:-}" = --installed ] && { installed=1; shift; }
[ $# -ge 1 ] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }
out="$1"; shift
mkdir -p "$out" && out="$(cd "$out" && pwd)"
known=(device tests sanitize)
stages=("${@:-${known[@]}}")
for stage in "${stages[@]}"; do
    [[ " ${known[*]} " == *" $stage "* ]] || { echo "unknown stage $stage; there are: ${known[*]}" >&2; exit 2; }
done
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

wheels=(dist/*.whl)
if [ ${#wheels[@]} -gt 0 ] && [ $installed = 0 ]; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$work/site" "${wheels[@]}" || exit 1
    export PYTHONPATH="$work/site${PYTHONPATH:+:$PYTHONPATH}"
fi
reset() { python3 -m reset "$@"; }

# Why kernels cannot run here; empty where they can.
missing() {
    python3 - "$out/doctor.json" <<'PY'
import json, sys
print("; ".join(entry["found"] for entry in json.load(open(sys.argv[1]))["cuda"]["missing"]))
PY
}

# A stage prints its results, or returns 77 after a line that says why it is skipped.
stage_device() {
    reset doctor || return 1
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    reset bench device && reset bench device --json > "$out/device.json"
}
stage_tests() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    python3 -m pytest -q -m gpu -p no:cacheprovider --timeout 300 tests/python/test_cuda*.py
}
stage_sanitize() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    command -v compute-sanitizer > /dev/null || { echo "compute-sanitizer is not installed"; return 77; }
    for tool in memcheck racecheck; do
        compute-sanitizer --tool "$tool" --error-exitcode 1 \
            python3 -m reset bench device --gib 0.01 --nodes 20 --repetitions 2 || return 1
    done
}

reset doctor --json > "$out/doctor.json" || exit 1
absent="$(missing)" || exit 1
export -f reset stage_device stage_tests stage_sanitize
export out absent
failed=0
: > "$out/summary.txt"
for stage in "${stages[@]}"; do
    echo "== $stage"
    start=$SECONDS
    timeout 480 bash -c "stage_$stage" 2>&1 | tee "$out/$stage.txt"
    status=${PIPESTATUS[0]}
    case $status in
        0) verdict="passed" ;;
        77) verdict="skipped: $(tail -n 1 "$out/$stage.txt")" ;;
        124) verdict="FAILED: past eight minutes"; failed=1 ;;
        *) verdict="FAILED: status $status"; failed=1 ;;
    esac
    echo "$stage: $verdict ($((SECONDS - start)) s)" >> "$out/summary.txt"
done
echo "== summary"
cat "$out/summary.txt"
exit $failed
