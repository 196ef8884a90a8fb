#!/usr/bin/env bash
# Everything that needs a CUDA card, in stages of at most eight minutes, the most valuable first.
#
#   tools/gpu_check.sh [--installed] DIR [STAGE …]       tables and logs go to DIR; without stages, all of them:
#
#   device     what the machine has (doctor.json); copy bandwidth, cost of a graph's nodes, way back to the host (device.json)
#   checks     golden models, CPU against device, check after check (tests/python/cuda_checks.py): every one runs, whatever failed before
#   sanitize   compute-sanitizer, memcheck then racecheck, over the device's probes, logits of the golden models, and generation
#   tests      pytest -m gpu over tests/python/test_cuda*.py: other files need packages that a bare machine lacks
#   steps      whole decode steps of Qwen3-8B, 14B and 32B at 1K, 8K and 32K, NVFP4 and bf16, ReSET and fixed (step-*.json)
#   linears    linear layers of the five models, NVFP4 and bf16, cold and hot (linear-*.json)
#   torch      torch's bf16 products at the same shapes (torch-matmul.json)
#   peers      transformers with a static cache and torch.compile, Qwen3-8B at 1K (transformers.json)
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
known=(device checks sanitize tests steps linears torch peers)
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
stage_checks() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    local worst=0
    for check in logits greedy batches ends sampled streams linear shapes; do
        echo "-- $check"
        PYTHONPATH="$PWD/tests/python${PYTHONPATH:+:$PYTHONPATH}" timeout 150 python3 tests/python/cuda_checks.py "$check" || worst=1
    done
    return $worst
}
stage_sanitize() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    command -v compute-sanitizer > /dev/null || { echo "compute-sanitizer is not installed"; return 77; }
    local worst=0
    for tool in memcheck racecheck; do
        for work in "-m reset bench device --gib 0.01 --nodes 20 --repetitions 2" "tests/python/cuda_checks.py --quick streams" \
            "tests/python/cuda_checks.py --quick sampled"; do
            echo "-- $tool: $work"
            # shellcheck disable=SC2086
            timeout 100 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 python3 $work || worst=1
        done
    done
    return $worst
}
stage_steps() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    local worst=0
    # The most telling first: the budget of a stage may end before its list does.
    while read -r shape context weights activations policy batches; do
        local name="step-$shape-$context-$weights-$activations-$policy"
        # shellcheck disable=SC2086
        timeout 120 python3 -m reset bench decode --device cuda --shape "$shape" --context "$context" --weights "$weights" \
            --activations "$activations" --lm-head bf16 --policy "$policy" --tokens 200 $batches --json > "$out/$name.json" || { worst=1; continue; }
        python3 - "$out/$name.json" "$name" <<'PY'
import json, sys
result = json.load(open(sys.argv[1]))
for row in result["rows"]:
    print(f"{sys.argv[2]:44} batch {row['batch']}  {row['ms']:.3f} ms  {row['tokens_per_second']:.0f} tokens/s  {row['share_of_bandwidth']:.0%}")
PY
    done <<'LIST'
qwen3-8b 1024 nvfp4 nvfp4 reset --batch 1 --batch 2 --batch 4 --batch 8
qwen3-8b 1024 bf16 float reset --batch 1
qwen3-8b 1024 nvfp4 nvfp4 fixed --batch 1
qwen3-8b 1024 nvfp4 float reset --batch 1
qwen3-8b 8192 nvfp4 nvfp4 reset --batch 1
qwen3-8b 32768 nvfp4 nvfp4 reset --batch 1
qwen3-32b 1024 nvfp4 nvfp4 reset --batch 1
qwen3-32b 1024 bf16 float reset --batch 1
qwen3-14b 1024 nvfp4 nvfp4 reset --batch 1
qwen3-14b 1024 bf16 float reset --batch 1
qwen3-14b 8192 nvfp4 nvfp4 reset --batch 1
qwen3-14b 32768 nvfp4 nvfp4 reset --batch 1
qwen3-32b 8192 nvfp4 nvfp4 reset --batch 1
qwen3-32b 32768 nvfp4 nvfp4 reset --batch 1
LIST
    return $worst
}
stage_linears() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    for weights in nvfp4 bf16; do
        for where in cold no-cold; do
            reset bench linear --weights $weights --$where --json > "$out/linear-$weights-$where.json" || return 1
        done
    done
    reset bench linear --shape qwen3-8b
}
stage_torch() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    python3 -c "import torch" 2> /dev/null || { echo "torch is not installed"; return 77; }
    python3 tools/gpu_compare.py matmul "$out/torch-matmul.json"
}
stage_peers() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    python3 -c "import torch, transformers" 2> /dev/null || { echo "torch or transformers is not installed"; return 77; }
    python3 tools/gpu_compare.py decode "$out/transformers.json"
}

reset doctor --json > "$out/doctor.json" || exit 1
absent="$(missing)" || exit 1
export -f reset "${known[@]/#/stage_}"
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
