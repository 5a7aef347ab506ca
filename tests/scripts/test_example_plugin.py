"""The example plug-in: installed, its pieces are there without being named, and are swept and compared."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from tests.support.runs import SMALL
from tests.support.texts import write_texts

PLUGIN = Path(__file__).parents[2] / "scripts" / "examples" / "plugin"


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A Python in whose environment the plug-in is installed, with the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    here = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (here / "outer.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--target", str(here)]
    subprocess.run([*install, str(PLUGIN)], check=True, timeout=200)
    return [str(folder / "bin" / "python"), "-m", "skiplight.cli"]


def run(python: list[str], *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = [str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run([*python, *arguments], capture_output=True, text=True, env=environment, timeout=250)


def test_it_is_short() -> None:
    lines = [path.read_text().count("\n") for path in PLUGIN.rglob("*") if path.suffix in (".py", ".toml")]
    assert sum(lines) < 150


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("data")
    texts = write_texts(folder / "texts", files=1, documents=40)
    options = ["data=files", f"data.path='{texts}'", f"data.store={folder / 'stores'}", "data.heldout=0.2", *SMALL]
    return [*options, "trainer.max_epochs=1"]


@pytest.mark.slow
def test_its_pieces_are_listed_and_swept(python: list[str], data: list[str], tmp_path: Path) -> None:
    shown = run(python, "train", "--help", "all")
    assert shown.returncode == 0, shown.stderr
    assert all(
        name in shown.stdout
        for name in ("clipped", "info_nce", "margin", "noise.quantile", "walks", "data.length", "anisotropy")
    )
    grid = ["noise.name=power,clipped", "study.sampler=grid", "study.metric=heldout/perplexity"]
    grid += ["evaluation.metrics=[anisotropy]"]
    done = run(python, "sweep", *data, *grid, f"run_dir={tmp_path / 'study'}")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "study" / "trials.csv").open()))
    assert [(row["noise.name"], row["state"]) for row in rows] == [("power", "complete"), ("clipped", "complete")]
    assert all(0 <= float(row["evaluation/anisotropy"]) <= 1 for row in rows)


@pytest.mark.slow
def test_its_pieces_are_compared(python: list[str], data: list[str], tmp_path: Path) -> None:
    variants = "compare.variants={ns: [], info: ['objective=info_nce'], margin: ['objective=margin']}"
    options = [variants, "compare.seeds=1", "compare.points=2", "noise=clipped"]
    done = run(python, "compare", *data, *options, f"run_dir={tmp_path / 'comparison'}")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "comparison" / "trials.csv").open()))
    assert [(row["variant"], row["state"], row["engine"]) for row in rows] == [
        ("ns", "complete", "autograd"), ("info", "complete", "autograd"), ("margin", "complete", "autograd")
    ]  # fmt: skip
    wrong = run(python, "train", *data, "objective=info_nce", "objective.temperature=-1")
    assert wrong.returncode == 2
    assert "`objective.temperature=-1.0` must be above 0" in wrong.stderr


def test_its_source_is_read_and_its_callback_called(python: list[str], tmp_path: Path) -> None:
    """Two cliques that one edge joins: the neighbours of a node are those of its clique."""
    cliques = [[f"{name}{i} {name}{j}" for i in range(6) for j in range(i)] for name in "ab"]
    (tmp_path / "edges.txt").write_text("\n".join([*cliques[0], *cliques[1], "a0 b0"]))
    options = ["data.heldout=0", "data.walks=60", f"data.store={tmp_path}", "evaluation.words=[a1]", "optim.lr=0.1"]
    options += ["callbacks=norms", f"callbacks.norms.path={tmp_path / 'norms.txt'}", "callbacks.norms.top=12"]
    options += ["noise.exponent=0", "sampling.subsample=0", "evaluation.similarity=[]", "logger=none", "model.dim=8"]
    done = run(
        python, "train", "data=walks", f"data.path={tmp_path / 'edges.txt'}", *options, f"run_dir={tmp_path}/run"
    )
    assert done.returncode == 0, done.stderr
    [line] = [line for line in done.stdout.splitlines() if line.startswith("a1: ")]
    assert set(line.removeprefix("a1: ").split(", ")[:5]) == {"a0", "a2", "a3", "a4", "a5"}
    norms = [line.split("\t") for line in (tmp_path / "norms.txt").read_text().splitlines()]
    assert [epoch for epoch, _ in norms] == list("01234")
    assert float(norms[-1][1]) > float(norms[0][1])
    again = run(python, "train", "data=walks", "data.path=none.txt", f"run_dir={tmp_path}/other")
    assert again.returncode == 2
    assert "none.txt" in again.stderr
    assert "Traceback" not in again.stderr
