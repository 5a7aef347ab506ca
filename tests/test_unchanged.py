"""A training with one thread and a fixed seed ends with the tables that it ended with when they were recorded.

Whoever means to change what a training computes records them again: SKIPLIGHT_RECORD=1 pytest tests/test_unchanged.py
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from pathlib import Path

import llvmlite.binding
import numba
import numpy as np
import pytest
import torch

from skiplight import engines
from skiplight.config.compose import compose
from skiplight.engines.fused_gpu import FusedGpuEngine
from skiplight.training.fit import train
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import SMALL
from tests.support.texts import write_texts

RECORD = Path(__file__).with_suffix(".json")

RUNS = {
    "fused": ["engine=fused"],
    "fused, noise per pair": ["engine=fused", "noise.shared=pair"],
    "autograd": ["engine=autograd"],
    "autograd, adagrad": ["engine=autograd", "optim.name=adagrad", "optim.lr=0.05"],
    "autograd, centre as input": ["engine=autograd", "sampling.input=centre"],
    "nce": ["engine=autograd", "objective=nce"],
    "sampled_softmax": ["engine=autograd", "objective=sampled_softmax"],
    "full_softmax": ["engine=autograd", "objective=full_softmax"],
    "hierarchical_softmax": ["engine=autograd", "objective=hierarchical_softmax"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unchanged")
    write_texts(folder / "texts", documents=4)
    return folder


@pytest.mark.parametrize("streaming", [False, True], ids=["stored", "streamed"])
@pytest.mark.parametrize("name", RUNS)
def test_the_tables_are_those_that_were_recorded(folder: Path, name: str, streaming: bool) -> None:
    assert_trains_as_recorded(
        folder,
        f"{name}, {'streamed' if streaming else 'stored'}",
        [*RUNS[name], f"data.streaming={streaming}", "trainer.max_epochs=2"],
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="programs of a GPU run at the same time, in no fixed order")
def test_the_gpu_engines_tables_are_those_that_were_recorded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")

    class Interpreted(FusedGpuEngine):  # Triton's interpreter runs one program after the other, on the CPU
        device = "cpu"

    monkeypatch.setattr(engines, "ENGINES", (Interpreted,))
    options = ["engine=fused", "sampling.subsample=1e-4", "data.block_tokens=500", "trainer.max_tokens=1000"]
    interpreter = f"triton {triton.__version__}, numpy {np.__version__}"
    assert_trains_as_recorded(folder, "fused on a GPU, stored", options, interpreter)


def assert_trains_as_recorded(folder: Path, key: str, options: list[str], interpreter: str | None = None) -> None:
    """Train on the texts in `folder` and compare the tables with those recorded under `key`, or record them.

    Args:
        interpreter: what computed the kernels, where the processor did not do so itself.
    """
    run = folder / key
    data = ["data=files", f"data.path='{folder}/texts/*.txt'", f"data.store={folder}/stores", "data.tokens=5000"]
    train(compose([*data, *SMALL, *options, "evaluation.heldout_pairs=0", f"run_dir='{run}'"]), run)
    vectors = WordVectors.load(run)
    tables = [table.double() for table in (vectors.input, vectors.output) if table is not None]
    measured = {
        "norms": [float(table.norm()) for table in tables],
        "first": [table[0, :3].tolist() for table in tables],
        "interpreter": interpreter,
        "sha256": hashlib.sha256(b"".join(table.float().numpy().tobytes() for table in tables)).hexdigest(),
    }
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if os.environ.get("SKIPLIGHT_RECORD"):
        recorded = {"computed by": _computed_by(), "tables": recorded.get("tables", {}) | {key: measured}}
        RECORD.write_text(json.dumps(recorded, indent=1) + "\n")
    expected = recorded["tables"][key]
    assert measured["norms"] == pytest.approx(expected["norms"], rel=1e-4)
    assert measured["first"] == [pytest.approx(row, rel=1e-3, abs=1e-5) for row in expected["first"]]
    # Others round differently.
    if recorded["computed by"] == _computed_by() and expected.get("interpreter") == interpreter:
        assert measured["sha256"] == expected["sha256"]


def _computed_by() -> dict[str, str]:
    """Return what decides how results are rounded."""
    return {
        "machine": platform.machine(),
        "processor": llvmlite.binding.get_host_cpu_name(),
        "torch": f"{torch.__version__}, {torch.backends.cpu.get_cpu_capability()}",
        "numba": numba.__version__,
    }
