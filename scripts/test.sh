#!/usr/bin/env bash
# Installs into .venv what development needs, then checks style and types and runs every test that is not marked slow.
# Arguments are passed on to pytest: ./scripts/test.sh -m slow
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" "[dev]"

.venv/bin/ruff check .
.venv/bin/ruff format --check .
.venv/bin/mypy
.venv/bin/pytest -m "not slow" "$@"
