# Makes .venv with skiplight and its tested dependencies; sourced by quickstart.sh and test.sh, which pass an extra.
# With SKIPLIGHT_LOCKED=1, pip installs the files of requirements.lock and refuses any whose hash is not in it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=""
for candidate in python3 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
        python="$candidate"
        break
    fi
done
if [ -z "$python" ]; then
    echo "skiplight needs Python 3.11, 3.12 or 3.13; install one and run this again" >&2
    exit 1
fi

# The stamp says what was installed, so that a second run installs nothing.
wanted="$(cat pyproject.toml constraints.txt requirements.lock | cksum) $1 ${SKIPLIGHT_LOCKED:-}"
if [ ! -x .venv/bin/python ] || [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    echo "installing skiplight$1 into .venv (a few minutes the first time)"
    "$python" -m venv .venv
    pip=(.venv/bin/python -m pip install --quiet --disable-pip-version-check)
    if [ -n "${SKIPLIGHT_LOCKED:-}" ]; then
        # What has no wheel is built by the locked setuptools, and skiplight by the locked hatchling.
        sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock > .venv/setuptools.lock
        "${pip[@]}" --require-hashes --no-deps -r .venv/setuptools.lock
        "${pip[@]}" --require-hashes --no-deps --no-build-isolation -r requirements.lock
        "${pip[@]}" --no-deps --no-build-isolation -e .
    else
        # Without a GPU, PyTorch's CPU build does: pip would bring 4 GB of CUDA libraries; uv knows where it is.
        "${pip[@]}" --dry-run --report .venv/torch.json -c constraints.txt torch
        if ! command -v nvidia-smi >/dev/null && grep -q '"name": *"nvidia' .venv/torch.json; then
            echo "there is no GPU (no nvidia-smi): installing PyTorch's CPU build"
            "${pip[@]}" uv
            .venv/bin/uv pip install --quiet --python .venv/bin/python --torch-backend=cpu -c constraints.txt torch ||
                echo "the CPU build cannot be fetched: installing PyTorch with its CUDA libraries instead" >&2
        fi
        # pip would compile all modules one after the other; on two cores this takes 20 s less.
        "${pip[@]}" --no-compile -c constraints.txt -e ".$1"
        .venv/bin/python -m compileall -q -j 0 -x '/tests/' .venv/lib >/dev/null || true # a file may be of a later Python
    fi
    echo "$wanted" > .venv/installed
fi
