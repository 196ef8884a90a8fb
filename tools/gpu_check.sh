#!/usr/bin/env bash
# Everything that needs a CUDA card, in stages of at most eight minutes, the most valuable first.
#
#   tools/gpu_check.sh [OPTION …] DIR [STAGE …]          tables and logs go to DIR; without stages, all of them
#
#   cpu        the CPU backend, which the card is compared with: which inner loops this processor runs, against their definition
#   device     what the machine has (doctor.json); copy bandwidth, cost of a graph's nodes, way back to the host (device.json)
#   checks     CPU against device, check after check (tests/python/cuda_checks.py): every one runs, whatever failed before
#   memcheck   compute-sanitizer: memory accesses of the device's probes and of the quick checks; their barriers (synccheck)
#   steps      whole decode steps of Qwen3-8B, 14B and 32B at 1K, 8K and 32K, NVFP4 and bf16, ReSET and fixed (step-*.json)
#   linears    linear layers of the five models, NVFP4 and bf16, cold and hot (linear-*.json)
#   torch      torch's bf16 products at the same shapes (torch-matmul.json)
#   tests      pytest -m gpu over tests/python/test_cuda*.py without the checks above: other files need packages that a bare machine lacks
#   racecheck  compute-sanitizer: races in shared memory
#   cpu-bench  decode, batches, contexts, prefill and linear layers on the CPU with 1 to 16 threads (cpu-*.json, cpu-*.txt)
#   peers      transformers with a static cache and torch.compile, Qwen3-8B at 1K (transformers.json)
#
#   --installed    use the package of this Python, whatever lies in dist/
#   --archive      DIR gets two files only, rewritten after each stage: results.tar.gz and summary.txt
#   --seconds N    begin no stage, and let none go on, when N seconds have passed in all
#
# The machine may be bare: Python 3.10 or newer with numpy, jinja2, tokenizers, typer, rich, tqdm and pytest (images with torch and
# transformers have them), a driver, NVRTC (torch brings it) — no Rust, no network. If dist/ holds wheels (tools/gpu_pack.sh fills it;
# carry it beside the sources), they are installed into a temporary folder, and the kernels compiled there are used; else, and with
# --installed, the package must be there already.
#
# Exit status: 0 if no stage failed. A stage that this machine cannot run is skipped with its reason, and is no failure.
set -uo pipefail
shopt -s nullglob
cd "$(dirname "$0")/.."

installed=0 archive=0 total=0
while [[ "${1:-}" == --* ]]; do
    case $1 in
        --installed) installed=1 ;;
        --archive) archive=1 ;;
        --seconds) total="${2:?--seconds needs a number}"; shift ;;
        *) echo "unknown option $1; there are: --installed --archive --seconds N" >&2; exit 2 ;;
    esac
    shift
done
[ $# -ge 1 ] || { sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"; exit 2; }
place="$1"; shift
known=(cpu device checks memcheck steps linears torch tests racecheck cpu-bench peers)
stages=("${@:-${known[@]}}")
for stage in "${stages[@]}"; do
    [[ " ${known[*]} " == *" $stage "* ]] || { echo "unknown stage $stage; there are: ${known[*]}" >&2; exit 2; }
done
mkdir -p "$place" && place="$(cd "$place" && pwd)" || exit 2
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
out="$place"
[ $archive = 0 ] || { out="$scratch/results"; mkdir "$out"; }

wheels=(dist/*.whl)
if [ ${#wheels[@]} -gt 0 ] && [ $installed = 0 ]; then
    python3 -m pip install --quiet --no-index --no-deps --no-compile --target "$scratch/site" "${wheels[@]}" || exit 1
    export PYTHONPATH="$scratch/site${PYTHONPATH:+:$PYTHONPATH}"
    if [ -d dist/cubin ]; then
        mkdir -p "$scratch/cache/reset-nvfp4" && cp -r dist/cubin "$scratch/cache/reset-nvfp4/cubin" && export XDG_CACHE_HOME="$scratch/cache"
    fi
fi
# The driver is opened as libcuda.so. Where the first one on the loader's path is a toolkit's stub, the driver's own is put before it.
found="$( (IFS=:; for folder in ${LD_LIBRARY_PATH:-}; do ls "$folder/libcuda.so"; done; ldconfig -p | awk '$1 == "libcuda.so" {print $NF}') 2> /dev/null | head -n 1)"
driver="$(ldconfig -p 2> /dev/null | awk '$1 == "libcuda.so.1" && $NF !~ /stubs/ {print $NF}' | head -n 1)"
if [[ "$found" == */stubs/* && -n "$driver" ]]; then
    mkdir "$scratch/driver" && ln -s "$driver" "$scratch/driver/libcuda.so"
    export LD_LIBRARY_PATH="$scratch/driver:$LD_LIBRARY_PATH"
fi
# What hangs is stopped by SIGABRT, at which Python says where every thread is; and nothing printed before is lost.
export PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1

# The smaller of $1 and the seconds that the stage has left.
span() {
    local left=$((deadline - $(date +%s) - 8))
    echo $(($1 < left ? $1 : left))
}
# Runs a command for at most $1 seconds. It stays in the stage's group of processes, so that what ends the stage ends it too.
within() {
    local seconds
    seconds="$(span "$1")"
    shift
    [ "$seconds" -ge 5 ] || { echo "no time is left for: $*"; return 124; }
    timeout --foreground -s ABRT -k 5 "$seconds" "$@" < /dev/null
}
reset() { within 120 python3 -m reset "$@"; }
check() {
    local seconds="$1"
    shift
    PYTHONPATH="$PWD/tests/python${PYTHONPATH:+:$PYTHONPATH}" within "$seconds" python3 tests/python/cuda_checks.py "$@"
}
test_files() { within 300 python3 -m pytest -q -W default -p no:cacheprovider --timeout 120 --timeout-method thread "$@"; }

# Why kernels cannot run here; empty where they can.
missing() {
    python3 - "$out/doctor.json" <<'PY'
import json, sys
print("; ".join(entry["found"] for entry in json.load(open(sys.argv[1]))["cuda"]["missing"]))
PY
}

# A stage prints its results, or returns 77 after a line that says why it is skipped.
stage_cpu() {
    python3 - <<'PY'
from reset import _core
found = _core.cpu()
print("inner loops:", found["table"], "| not here:", {name: why for name, why in found["tables"] if why}, "| threads:", found["threads"])
PY
    local worst=0
    if [ -x dist/bin/unit-tests ]; then  # every table against the definition; without them, only the one chosen
        within 200 dist/bin/unit-tests --quiet simd:: || worst=1
    fi
    test_files tests/python/test_linear.py tests/python/test_model.py -k "linear or logits_are_those_of_transformers" || worst=1
    return $worst
}
stage_device() {
    reset doctor || return 1
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    within 120 python3 - <<'PY' || return 1
from time import perf_counter
from reset import _core, _cuda
major, minor = _core.cuda(_cuda.nvrtc_candidates())["devices"][0][2]
names, begun = [name for name, _ in _core.cuda_kernels()], perf_counter()
architecture = f"sm_{major}{minor}" + ("a" if major == 10 else "")
ready = [_core.cuda_compile(name, architecture, _cuda.nvrtc_candidates(), _cuda.cubin_folder())[1] for name in names]
print(f"{sum(ready)} of {len(names)} files of kernels were compiled before; the others took {perf_counter() - begun:.1f} s, one by one")
PY
    reset bench device && reset bench device --json > "$out/device.json"
}
stage_checks() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    local worst=0
    for name in linear logits large greedy batches sampled ends streams shapes; do
        echo "-- $name"
        check "$([ "$name" = large ] && echo 240 || echo 120)" "$name" || worst=1
    done
    return $worst
}
# compute-sanitizer with tool $1 over some work. It has a group of processes of its own, which the end of its time ends as a whole.
sanitize() {
    local tool="$1" seconds
    shift
    echo "-- $tool: $*"
    seconds="$(span 150)"
    [ "$seconds" -ge 5 ] || { echo "no time is left"; return 124; }
    # The package looks at the answer of every call itself, and asks events that are not ready yet.
    PYTHONPATH="$PWD/tests/python${PYTHONPATH:+:$PYTHONPATH}" timeout -k 5 "$seconds" compute-sanitizer --tool "$tool" --error-exitcode 9 \
        --print-limit 20 --report-api-errors no python3 "$@" < /dev/null
}
probes="-m reset bench device --gib 0.01 --nodes 20 --repetitions 2"
stage_memcheck() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    command -v compute-sanitizer > /dev/null || { echo "compute-sanitizer is not installed"; return 77; }
    local worst=0
    # shellcheck disable=SC2086
    sanitize memcheck $probes || worst=1
    for name in linear large batches logits sampled; do
        sanitize memcheck tests/python/cuda_checks.py --quick $name || worst=1
    done
    sanitize synccheck tests/python/cuda_checks.py --quick batches || worst=1
    return $worst
}
stage_racecheck() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    command -v compute-sanitizer > /dev/null || { echo "compute-sanitizer is not installed"; return 77; }
    local worst=0
    # shellcheck disable=SC2086
    sanitize racecheck $probes || worst=1
    for name in streams sampled batches logits; do
        sanitize racecheck tests/python/cuda_checks.py --quick $name || worst=1
    done
    return $worst
}
stage_tests() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    test_files -x -m gpu -k "not computes_what_the_cpu_does" tests/python/test_cuda*.py
}
stage_steps() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    # The most telling first: the budget of a stage may end before its list does. What a failure leaves on the card would spoil the rest.
    while read -r shape context weights activations policy batches; do
        local name="step-$shape-$context-$weights-$activations-$policy"
        # shellcheck disable=SC2086
        within 120 python3 -m reset bench decode --device cuda --shape "$shape" --context "$context" --weights "$weights" \
            --activations "$activations" --lm-head bf16 --policy "$policy" --tokens 200 $batches --json > "$out/$name.json" || return 1
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
    within 300 python3 tools/gpu_compare.py matmul "$out/torch-matmul.json"
}
stage_cpu_bench() {
    local worst=0 most threads list="" gemv=dist/bin/gemv kernels=dist/bin/kernels
    most="$(python3 -c 'from reset import _core; print(_core.cpu()["threads"])')"
    for threads in 1 2 8 16; do
        [ "$threads" -le "$most" ] || continue
        list="$list${list:+,}$threads"
        echo "-- $threads threads"
        within 60 python3 -m reset bench decode --threads "$threads" --json > "$out/cpu-decode-$threads.json" || worst=1
        within 60 python3 -m reset bench batch --threads "$threads" --json > "$out/cpu-batch-$threads.json" || worst=1
        within 60 python3 -m reset bench context --threads "$threads" --json > "$out/cpu-context-$threads.json" || worst=1
        within 60 python3 -m reset bench prefill --threads "$threads" --json > "$out/cpu-prefill-$threads.json" || worst=1
        python3 - "$out/cpu-decode-$threads.json" "$out/cpu-batch-$threads.json" <<'PY'
import json, sys
for path in sys.argv[1:]:
    for row in json.load(open(path))["rows"]:
        print(f"batch {row['batch']:2}  {row['ms']:.2f} ms  {row['tokens_per_second']:.1f} tokens/s  {row['share_of_bandwidth']:.0%}")
PY
    done
    within 60 python3 -m reset bench sampler --json > "$out/cpu-sampler.json" || worst=1
    if [ -x $gemv ] && [ -x $kernels ]; then
        within 60 $gemv --threads "$list" --rows 1,8 --formats nvfp4 --shapes 3072x1024 > "$out/cpu-gemv.txt" || worst=1
        cat "$out/cpu-gemv.txt"
        # The plain loops are a hundred times slower than the others: one row of activations, as many threads as there are.
        within 120 $gemv --tables --threads "${list##*,}" --rows 1 --formats nvfp4 --shapes 3072x1024 > "$out/cpu-gemv-tables.txt" || worst=1
        cat "$out/cpu-gemv-tables.txt"
        for table in $(python3 -c 'from reset import _core; print(*[name for name, why in _core.cpu()["tables"] if not why])'); do
            within 30 $kernels --table "$table" > "$out/cpu-kernels-$table.txt" || worst=1
        done
    fi
    return $worst
}
stage_peers() {
    [ -z "$absent" ] || { echo "$absent"; return 77; }
    python3 -c "import torch, transformers" 2> /dev/null || { echo "torch or transformers is not installed"; return 77; }
    within 300 python3 tools/gpu_compare.py decode "$out/transformers.json"
}

python3 -m reset doctor --json > "$out/doctor.json" || exit 1
absent="$(missing)" || exit 1
for stage in "${known[@]}"; do export -f "stage_${stage//-/_}"; done
export -f span within reset check test_files sanitize
export out absent probes
failed=0
: > "$out/summary.txt"
for stage in "${stages[@]}"; do
    limit=480
    [ "$total" = 0 ] || limit=$((total - SECONDS < limit ? total - SECONDS : limit))
    if [ $limit -lt 30 ]; then
        echo "$stage: left out: no time" >> "$out/summary.txt"
        continue
    fi
    echo "== $stage"
    start=$SECONDS
    deadline=$(($(date +%s) + limit)) timeout -k 10 $limit bash -c "stage_${stage//-/_}" 2>&1 | tee "$out/$stage.txt"
    status=${PIPESTATUS[0]}
    case $status in
        0) verdict="passed" ;;
        77) verdict="skipped: $(tail -n 1 "$out/$stage.txt")" ;;
        124 | 137) verdict="FAILED: its $limit seconds were over"; failed=1 ;;
        *) verdict="FAILED: status $status"; failed=1 ;;
    esac
    echo "$stage: $verdict ($((SECONDS - start)) s)" >> "$out/summary.txt"
    if [ $archive = 1 ]; then
        tar -C "$scratch" -czf "$scratch/results.tar.gz" results && cp "$scratch/results.tar.gz" "$out/summary.txt" "$place/"
    fi
done
echo "== summary"
cat "$out/summary.txt"
exit $failed
