"""What cannot be registered, or chosen once it is: said at once, with the plug-in and the remedy."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from hydra.core.config_store import ConfigStore

import skiplight
from skiplight.cli import main
from skiplight.config.compose import compose
from skiplight.errors import ConfigError
from skiplight.registry import CALLBACKS, LOGGERS, NOISE, OBJECTIVES, SOURCES, Registry, load_plugins
from skiplight.training.targets import make_callbacks
from tests.support.own_script import make_components, small_options
from tests.support.texts import write_texts

REGISTRIES = (NOISE, OBJECTIVES, SOURCES, CALLBACKS, LOGGERS)


@pytest.fixture(autouse=True)
def unregistered() -> Iterator[None]:
    """Forget what a test has registered, here and with Hydra."""
    compose([])  # which makes Hydra register its own
    before = [dict(registry._entries) for registry in REGISTRIES]
    repo = copy.deepcopy(ConfigStore.instance().repo)
    yield
    ConfigStore.instance().repo = repo
    for registry, entries in zip(REGISTRIES, before, strict=True):
        registry._entries.clear()
        registry._entries.update(entries)


@dataclasses.dataclass
class Plain:
    power: float = 2.0


@dataclasses.dataclass
class Required:
    power: float


def complex_option(counts: Any, *, power: complex = 1j) -> Any: ...


def wrong_default(counts: Any, *, power: int = "x") -> Any: ...  # type: ignore[assignment]


def function(counts: Any) -> Any: ...


class NoModule:
    pass


@pytest.mark.parametrize(
    ("registry", "name", "target", "options", "message"),
    [
        (NOISE, "f", complex_option, None, r"no config can have its option `power`: .*complex"),
        (NOISE, "f", wrong_default, None, r"no config can have its option `power`: Value 'x'"),
        (NOISE, "f", function, dict, "`options` must be a dataclass"),
        (NOISE, "f", function, Required, "the option `power` needs a default"),
        (NOISE, 3, function, None, "`noise=3` cannot be registered: give a name"),
        (OBJECTIVES, "f", function, None, "must be a class derived from skiplight.objectives.base.Objective"),
        (OBJECTIVES, "f", NoModule, None, "must be a class derived from skiplight.objectives.base.Objective"),
        (CALLBACKS, "f", function, None, "must be a class derived from lightning.pytorch.Callback"),
        (LOGGERS, "f", NoModule, None, "must be a class derived from lightning.pytorch.loggers.Logger"),
    ],
)
def test_what_cannot_be_registered(registry: Registry, name: Any, target: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        registry.register(name, options=options)(target)
    assert name not in registry


@pytest.mark.parametrize(
    ("register", "message"),
    [
        (lambda: NOISE.register("f")(negatives), "`noise=f` of .* has an option `negatives`, which `noise` itself has"),
        (lambda: NOISE.register("f")(named), "`noise=f` of .* has an option `name`"),
        (lambda: CALLBACKS.register("timer")(Counting), "`callbacks=timer` of .* is a choice of skiplight already"),
        (lambda: SOURCES.register("text8")(function), "`data=text8` of .* is a choice of skiplight already"),
        (lambda: LOGGERS.register("csv")(lightning.pytorch.loggers.CSVLogger), "`logger=csv` of .* already"),
    ],
)
def test_names_that_skiplight_has_itself(register: Callable[[], Any], message: str) -> None:
    register()
    with pytest.raises(ConfigError, match=message):
        compose([])


def negatives(counts: Any, *, negatives: int = 3) -> Any: ...


def named(counts: Any, *, name: str = "x") -> Any: ...


def test_fields_without_limits_are_options() -> None:
    NOISE.register("f", options=Plain)(function)
    assert compose(["noise=f", "noise.power=3"]).noise.power == 3.0  # type: ignore[attr-defined]


def test_what_a_notebook_registers_again_has_its_new_options() -> None:
    cell = "@skiplight.register_noise('f')\ndef f(counts, *, {}): ..."
    exec(cell.format("power: float = 1.0"))
    assert compose(["noise=f", "noise.power=2"]).noise.power == 2.0  # type: ignore[attr-defined]
    exec(cell.format("root: int = 1"))
    assert compose(["noise=f", "noise.root=2"]).noise.root == 2  # type: ignore[attr-defined]


class Counting(lightning.Callback):
    def __init__(self, *, top: int = 17, low: float = 1.0) -> None:
        self.options = top, low


def test_options_of_callbacks_are_checked_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    CALLBACKS.register("counting")(Counting)
    given = compose(["callbacks=counting", "callbacks.counting.low=3"]).callbacks
    [made] = make_callbacks(given)
    assert made.options == (17, 3.0)  # type: ignore[attr-defined]
    with pytest.raises(ConfigError, match=r"`callbacks.counting.top`: Value 'x' .* Integer"):
        make_callbacks(compose(["callbacks=counting", "callbacks.counting.top=x"]).callbacks)
    assert main(["train", "--help", "callbacks"]) == 0
    assert "callbacks.counting.top=17" in capsys.readouterr().out


def test_a_plugin_that_ends_the_process_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(ConfigError, match=r"ends.py\]` cannot be imported: SystemExit: 3"):
        load_plugins([str(tmp_path / "ends.py")])


class Unprepared(skiplight.ScoreObjective):
    def __init__(self, noise: np.ndarray) -> None:
        pass

    def score_loss(self, scores: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        return scores[counted].sum()


class Learned(Unprepared):
    def __init__(self, noise: np.ndarray) -> None:
        super(Unprepared, self).__init__(noise)
        self.temperature = torch.nn.Parameter(torch.ones(()))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Unprepared, r"its `__init__` must call `super\(\).__init__\(noise\)` first"),
        (Learned, "it has parameters of its own, temperature, which nothing trains"),
    ],
)
def test_objectives_that_could_not_train(tmp_path: Path, kind: type[Unprepared], message: str) -> None:
    write_texts(tmp_path / "texts", files=1, documents=10)
    OBJECTIVES.register("wrong")(kind)
    with pytest.raises(ConfigError, match=message):
        make_components(small_options(tmp_path, "objective=wrong"))


def test_ranks_do_not_know_what_a_program_has_registered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(function, "__module__", "__main__")
    NOISE.register("f")(function)
    texts = write_texts(tmp_path / "texts", files=1, documents=10)
    two = ["trainer.devices=2", "trainer.accelerator=cpu", "data=files", f"data.path='{texts}'"]
    with pytest.raises(ConfigError, match=r"`noise=f` is registered by the program itself, .* `plugins=\[./file.py\]`"):
        skiplight.train(*two, "noise=f", "logger=none", run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
