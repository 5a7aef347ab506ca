#!/usr/bin/env bash
# From nothing to word vectors: installs into .venv, fetches 0.9 M words of Wikipedia, trains, and shows the results.
# Arguments are passed on to the training: ./scripts/quickstart.sh model.dim=200
# With SKIPLIGHT_LOCKED=1, only files whose hashes are in requirements.lock are installed.
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh" ""

run="runs/quickstart-$(date +%Y%m%d-%H%M%S)"
.venv/bin/skiplight train experiment=quickstart run_dir="$run" "$@"
.venv/bin/skiplight neighbors "$run" paris music physics
.venv/bin/skiplight report "$run" # the page again, with t-SNE
.venv/bin/skiplight export "$run" --format word2vec-binary --output "$run/vectors.bin"
echo "more neighbours: .venv/bin/skiplight neighbors $run WORD"
