#!/usr/bin/env bash
# Installs into .venv what development needs, then checks style and types and runs every test that is not marked slow.
# Arguments are passed on to pytest: ./scripts/test.sh -m slow
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" "[dev,notebook]"

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
# Three processes, a file each, since most tests wait for a process of their own; each with one thread of OpenMP, whose
# threads would wait for each other on busy cores. Files in their own order: by default those of few tests come last,
# which are the slow ones.
OMP_NUM_THREADS=1 .venv/bin/pytest -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder "$@"
