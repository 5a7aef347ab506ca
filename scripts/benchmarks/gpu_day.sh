#!/usr/bin/env bash
# Everything to run when a GPU is at hand, in order of worth, in some 20 minutes: tests, limits of the card, speed,
# quality, softmax, FULL-W2V, a profile, and ranks. Each part has a time limit of its own and leaves its results at once.
# Called again with the same OUTPUT, it goes on with the part that did not end.
#
#   python scripts/benchmarks/gpu.py --prepare TEXT --output wiki17.npz                   # before, where skiplight is
#   scripts/benchmarks/gpu_day.sh OUTPUT [--text wiki17.npz] [--sets FILE ...] [--full-w2v FOLDER]
#   scripts/benchmarks/gpu_day.sh OUTPUT --tiny --interpret                               # no GPU: does it run at all?
#
# It needs Python with torch, triton, lightning, numba, hydra-core, pytest and hypothesis. What is missing is installed
# from a folder of wheels, $WHEELS, if that is given: `pip wheel -w wheels lightning numba hydra-core pytest hypothesis
# scipy safetensors`.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
output="${1:?the folder of the results}"
shift
mkdir -p "$output"
output="$(cd "$output" && pwd)"
export PYTHONPATH="$PWD/src:$PWD${PYTHONPATH:+:$PYTHONPATH}"
if [ -n "${WHEELS:-}" ]; then
    python3 -m pip install --quiet --no-index --find-links "$WHEELS" --target "$output/packages" \
        lightning numba hydra-core pytest hypothesis scipy safetensors || echo "not every package could be installed from $WHEELS"
    export PYTHONPATH="$PYTHONPATH:$output/packages" # after what the machine has
fi
failed=()

# part SECONDS NAME COMMAND...
part() {
    local limit="$1" name="$2" begin=$SECONDS code
    shift 2
    if [ -e "$output/$name.done" ]; then
        echo "== $name: done before"
        return
    fi
    echo "== $name (at most $limit s)"
    timeout --kill-after=20 "$limit" "$@" 2>&1 | tee "$output/$name.log"
    code="${PIPESTATUS[0]}"
    if [ "$code" -eq 0 ]; then
        touch "$output/$name.done"
    else
        failed+=("$name")
    fi
    echo "== $name: exit code $code after $((SECONDS - begin)) s"
}

bench() { # SECONDS NAME PART... ; what else gpu.py gets is in $given
    local limit="$1" name="$2"
    shift 2
    part "$limit" "$name" python3 -W ignore scripts/benchmarks/gpu.py --output "$output" "${given[@]}" --parts "$@"
}

given=("$@")
tests=(tests/engines/test_fused_gpu.py tests/sampling/test_triton.py tests/objectives/test_full_softmax_triton.py
    tests/objectives/test_sampled_softmax_triton.py tests/data/test_prefetch.py)
part 240 tests python3 -m pytest -q -p no:cacheprovider "${tests[@]}"
bench 60 ceilings ceilings
bench 120 speed speed
bench 120 settings settings
bench 240 quality quality
bench 60 again "rows read again"
bench 120 softmax "full softmax" "sampled softmax"
case " ${given[*]:-} " in *" --full-w2v "*) bench 180 peers peers ;; esac
bench 60 profile profile
if command -v ncu >/dev/null && [ ! -e "$output/ncu.done" ]; then
    part 120 ncu ncu --section SpeedOfLight --section WarpStateStats --section Occupancy --section LaunchStats \
        --kernel-name regex:train --launch-count 1 --clock-control none \
        python3 -W ignore scripts/benchmarks/gpu.py --output "$output/ncu" "${given[@]}" --parts profile
fi
ranks=()
for word in "${given[@]}"; do # of the options of gpu.py, those that gpu_ranks.py has too
    case "$word" in --text | --tiny | --interpret) ranks+=("$word") ;; *.npz) ranks+=("$word") ;; esac
done
part 120 ranks python3 -W ignore scripts/benchmarks/gpu_ranks.py --output "$output" "${ranks[@]}"
bench 60 input input
bench 120 blocks "block size and windows in flight"
bench 60 rivals rivals
if [ "${#failed[@]}" -gt 0 ]; then
    echo "not done: ${failed[*]}; the same command goes on with them"
    exit 1
fi
