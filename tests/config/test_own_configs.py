"""A user's own folder of configs: groups, experiments, primary configs, interpolation and plug-ins."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from skiplight.config.compose import compose
from skiplight.errors import ConfigError
from skiplight.experiments.comparison.plan import Plan
from skiplight.registry import NOISE
from tests.support.runs import skiplight, train_arguments
from tests.support.texts import write_texts

PLUGIN = """
import numpy as np
from omegaconf import OmegaConf

from skiplight import register_noise

OmegaConf.register_new_resolver("twice", lambda number: 2 * number, replace=True)


@register_noise("root_own")
def root_own(counts, *, root: float = 2.0):
    return np.log1p(counts) ** (1 / root)
"""

FILES = {
    "experiment/mine.yaml": """# @package _global_
defaults:
  - override /noise: root_own
plugins: [{plugin}]
model: {{dim: 24}}
noise: {{root: 3, negatives: "${{twice:${{sampling.window}}}}"}}
evaluation: {{words: ["${{oc.env:SKIPLIGHT_TEST_WORD}}"]}}
""",
    "experiment/small.yaml": "# @package _global_\nmodel: {{dim: '${{sampling.window}}'}}\n",
    "noise/negative.yaml": "name: power\nexponent: -0.5\n",
    "optim/slow.yaml": "defaults: [adam]\nlr: 1e-4\n",
    "paper.yaml": "defaults: [config, _self_]\nmodel: {{dim: 7}}\nrun_dir: 'runs/${{hydra:job.config_name}}'\n",
}


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("SKIPLIGHT_TEST_WORD", "king")
    (tmp_path / "plugin.py").write_text(PLUGIN)
    for name, text in FILES.items():
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / name).write_text(text.format(plugin=tmp_path / "plugin.py"))
    yield tmp_path / "mine"
    NOISE._entries.pop("root_own", None)


def test_an_experiment_names_the_plugins_that_it_needs(mine: Path) -> None:
    config = compose([f"--config-dir={mine}", "experiment=mine"])
    assert (config.noise.name, config.noise.root, config.noise.negatives) == ("root_own", 3.0, 10)  # type: ignore[attr-defined]
    assert (config.model.dim, config.evaluation.words) == (24, ["king"])
    assert config.plugins == [str(mine.parent / "plugin.py")]


def test_values_of_a_plugins_options_may_be_given_with_the_file_that_names_it(mine: Path) -> None:
    config = compose([f"--config-dir={mine}", "experiment=mine", "noise.root=5", "model.dim=3"])
    assert (config.noise.root, config.model.dim) == (5.0, 3)  # type: ignore[attr-defined]


@pytest.mark.parametrize("flags", [["--config-dir={}"], ["-cd", "{}"], ["hydra.searchpath=['file://{}']"]])
def test_own_groups_stand_beside_those_of_skiplight(mine: Path, flags: list[str]) -> None:
    given = [flag.format(mine) for flag in flags]
    assert compose([*given, "noise=negative"]).noise.exponent == -0.5  # type: ignore[attr-defined]
    assert compose([*given, "optim=slow"]).optim.lr == 1e-4
    assert compose([*given, "experiment=small", "noise=uniform"]).model.dim == 5
    with pytest.raises(ConfigError, match="`noise=negativ` is not registered"):
        compose([*given, "noise=negativ"])


def test_a_primary_config_of_ones_own_includes_that_of_skiplight(mine: Path) -> None:
    config = compose([f"--config-dir={mine}", "-cn", "paper", "optim=adam"])
    assert (config.model.dim, config.optim.name, config.run_dir) == (7, "adam", "runs/paper")
    assert compose([f"--config-dir={mine}", "--config-name=paper.yaml", "model.dim=9"]).model.dim == 9


def test_a_folder_of_configs_may_stand_in_place_of_conf(mine: Path) -> None:
    (mine / "config.yaml").write_text("defaults: [schema, _self_]\nmodel: {dim: 3}\nlogger: {csv: {}}\n")
    config = compose([f"--config-path={mine}"])
    assert (config.model.dim, list(config.logger), config.optim.name) == (3, ["csv"], "sgd")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: {dim: '${nothing.there}'}", "model.dim"),
        ("model: {dim: '${oc.env:SKIPLIGHT_NOT_SET}'}", "SKIPLIGHT_NOT_SET"),
        ("model: {dim: '${no_resolver:1}'}", "no_resolver"),
        ("model: {depth: 3}", "model.depth"),
        ("plugins: [nowhere_at_all]", "cannot be imported: ModuleNotFoundError"),
        ("plugins: nowhere", "experiment/wrong"),
        ("trainer: {max_steps: 3}", "`trainer.max_steps` is refused"),
        ("defaults: [override /noise: nothing]", "`noise=nothing` is none of"),
        ("callbacks: {a: {_target_: os.system, command: 'touch harm'}}", None),
    ],
)
def test_what_is_wrong_in_a_file_is_an_error_that_names_it(mine: Path, text: str, message: str | None) -> None:
    (mine / "experiment" / "wrong.yaml").write_text(f"# @package _global_\n{text}\n")
    if message is None:  # it is an option like any other, and refused where callbacks are made
        assert compose([f"--config-dir={mine}", "experiment=wrong"]).callbacks["a"]["_target_"] == "os.system"
        return
    with pytest.raises(ConfigError) as error:
        compose([f"--config-dir={mine}", "experiment=wrong"])
    assert message in str(error.value)


def test_a_comparison_composes_all_its_runs_from_the_same_folders(mine: Path) -> None:
    plan = Plan([f"--config-dir={mine}", "experiment=mine", "compare.variants={k: ['optim=slow']}"], tokens=100)
    run = plan.full_run(plan.views[0], "k", [], 1)
    assert (run.config.model.dim, run.config.optim.lr, run.config.seed) == (24, 1e-4, 1)


@pytest.mark.slow
def test_a_multirun_and_a_sweep_train_with_a_folder_and_its_plugins(mine: Path) -> None:
    folder = mine.parent
    texts = write_texts(folder / "texts", files=1, documents=20)
    given = train_arguments(texts, folder, folder / "many", "trainer.max_epochs=1", "engine=autograd")[1:]
    flags = ["--config-dir", str(mine), "experiment=mine"]
    done = skiplight(["train", "-m", *flags, *(o for o in given if o != "model.dim=16"), "noise.root=2,3"])
    assert done.returncode == 0, done.stderr
    assert "2 of 2 trials are finished" in done.stdout
    assert json.loads((folder / "many" / "1" / "summary.json").read_text())["engine"] == "autograd"
    options = [f"run_dir={folder / 'study'}" if option.startswith("run_dir") else option for option in given]
    studied = ["study.metric=heldout/perplexity", "study.sampler=grid", "data.heldout=0.2", "noise.root=2"]
    done = skiplight(["sweep", *options, *studied, "optim.lr=0.01,0.02", *flags])
    assert done.returncode == 0, done.stderr
    assert len(list((folder / "study").glob("*/summary.json"))) == 2
