"""The GPU benchmark runs on a machine that has neither a GPU nor most of skiplight's dependencies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.evaluation.similarity import similarity
from skiplight.vectors.word_vectors import WordVectors

SCRIPT = Path(__file__).parents[2] / "scripts/benchmarks/gpu.py"

BARE = """
import runpy, sys

class Missing:
    names = {"datasets", "gensim", "hydra", "omegaconf", "optuna", "pyarrow", "rich", "safetensors", "scipy", "wandb"}

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
import skiplight.evaluation.similarity
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_it_runs_without_what_a_bare_machine_lacks(tmp_path: Path) -> None:
    options = ["--tiny", *(["--interpret"] if not torch.cuda.is_available() else []), "--output", str(tmp_path)]
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BARE, str(SCRIPT), *options],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no figure means anything" in done.stdout
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["smoke test, no figures"] is True
    assert {row["layout"] for row in found["speed"]} == {"resident", "reloaded"}
    assert all(row["relative difference of the loss"] < 1e-3 for row in found["sampled softmax"])
    assert (tmp_path / "gpu.png").stat().st_size > 0


def test_its_similarities_are_those_of_word_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    import gpu

    words, table = ["a", "b", "c", "d"], torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    file = tmp_path / "pairs.txt"
    file.write_text("a b 1\na c 2\nb d 3\nc d 4\n")
    vocabulary = Vocabulary(words, np.ones(4, np.int64))
    expected = similarity(WordVectors(vocabulary, table, table), file).score
    bench = types.SimpleNamespace(
        text=types.SimpleNamespace(words=words), options=types.SimpleNamespace(sets=[str(file)])
    )
    assert gpu.similarities(bench, table) == {"pairs": pytest.approx(expected)}
