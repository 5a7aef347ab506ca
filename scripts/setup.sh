# Makes .venv with skiplight and its tested dependencies; sourced by quickstart.sh and test.sh.
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
wanted="$(cat pyproject.toml constraints.txt | cksum) $1"
if [ ! -x .venv/bin/python ] || [ "$(cat .venv/installed 2>/dev/null)" != "$wanted" ]; then
    echo "installing skiplight$1 into .venv (a few minutes the first time)"
    "$python" -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".$1"
    echo "$wanted" > .venv/installed
fi
