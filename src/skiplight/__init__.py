"""skiplight: skip-gram embeddings with negative sampling, as PyTorch Lightning experiments.

The names below are all that a notebook needs. Importing skiplight is cheap: modules are loaded on first use.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning import Callback

    from skiplight.config.schema import Config
    from skiplight.data.datamodule import SkipGramDataModule
    from skiplight.experiments.trials import TrialTable
    from skiplight.objectives import ScoreObjective
    from skiplight.registry import (
        register_callback,
        register_evaluation,
        register_logger,
        register_noise,
        register_normaliser,
        register_objective,
        register_schedule,
        register_source,
    )
    from skiplight.training.module import SkipGramModule
    from skiplight.training.run import Run
    from skiplight.vectors.word_vectors import WordVectors

if sys.platform == "win32":
    raise ImportError("skiplight runs on Linux and macOS: on Windows, install it in WSL 2, the subsystem for Linux")

__version__ = "0.1.0"

__all__ = [
    "Config",
    "Run",
    "ScoreObjective",
    "SkipGramDataModule",
    "SkipGramModule",
    "WordVectors",
    "compare",
    "compose",
    "load_run",
    "register_callback",
    "register_evaluation",
    "register_logger",
    "register_noise",
    "register_normaliser",
    "register_objective",
    "register_schedule",
    "register_source",
    "resume",
    "sweep",
    "train",
]

_ELSEWHERE = {
    "ScoreObjective": "skiplight.objectives",
    "register_callback": "skiplight.registry",
    "register_evaluation": "skiplight.registry",
    "register_logger": "skiplight.registry",
    "register_noise": "skiplight.registry",
    "register_normaliser": "skiplight.registry",
    "register_objective": "skiplight.registry",
    "register_schedule": "skiplight.registry",
    "register_source": "skiplight.registry",
    "Config": "skiplight.config.schema",
    "Run": "skiplight.training.run",
    "SkipGramDataModule": "skiplight.data.datamodule",
    "SkipGramModule": "skiplight.training.module",
    "WordVectors": "skiplight.vectors.word_vectors",
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE[name]), name)


def __dir__() -> list[str]:
    return __all__


def compose(*overrides: str) -> Config:
    """Return the checked options of conf/ with Hydra overrides, for a run.

    Args:
        overrides: as on the command line, `"data=files", "data.path=text.txt"`; `--config-dir=DIR` may be among them.

    Raises:
        ConfigError: an override cannot be parsed, is not read, or names an unknown option or value.
    """
    from skiplight.config.compose import compose as compose_options
    from skiplight.config.unread import check_read

    config = compose_options(_single(overrides))
    check_read(overrides, [config], "train")
    return config


def train(
    *overrides: str | Config, run_dir: str | Path | None = None, callbacks: Sequence[Callback] = (), **options: Any
) -> Run:
    """Train a new run, write its page, and return it.

    Args:
        overrides: Hydra overrides as on the command line, `"data=files", "data.path=text.txt"`; or a single `Config`.
        run_dir: the folder to make; default: the option `run_dir`, else runs/<time>-<data>.
        callbacks: further callbacks of Lightning, which see the metrics of metrics.jsonl in `trainer.callback_metrics`.
        options: of `skiplight.training.fit.train`.

    Raises:
        SkiplightError: an option is wrong, or the text cannot be trained on; no folder is made.
    """
    _begin_command()
    from skiplight.config.schema import Config
    from skiplight.report.run import show_finished_run
    from skiplight.training import fit
    from skiplight.training.run import Run

    given = [override for override in overrides if isinstance(override, Config)]
    if given and len(overrides) > 1:
        raise TypeError("give overrides, or a single Config")
    config = given[0] if given else compose(*map(str, _single(overrides)))
    folder = _folder(config, run_dir)
    fit.train(config, folder, show=show_finished_run, callbacks=callbacks, **options)
    return Run(folder)


def resume(run_dir: str | Path, *, callbacks: Sequence[Callback] = (), **options: Any) -> Run:
    """Continue a run that was stopped or killed, and return it.

    Args:
        run_dir: the run's folder.
        callbacks: further callbacks of Lightning, the same as when it began.
        options: of `skiplight.training.fit.resume`.

    Raises:
        RunError: there is no such run, or it is finished, in training, or damaged.
        Stopped: a signal requested a stop.
    """
    _begin_command()
    from skiplight.report.run import show_finished_run
    from skiplight.training import fit
    from skiplight.training.run import Run

    fit.resume(Path(run_dir), show=show_finished_run, callbacks=callbacks, **options)
    return Run(run_dir)


def compare(*overrides: str, run_dir: str | Path | None = None, **options: Any) -> TrialTable:
    """Train the runs of `compare.*`, or continue them, write what came out and a page, and return the trials.

    Args:
        overrides: Hydra overrides for all runs.
        run_dir: folder of the comparison; default: the option `run_dir`, else runs/<time>-<data>.
        options: of `skiplight.experiments.comparison.compare.compare`: workers, devices_per_trial.

    Raises:
        ConfigError, RunError: an option is wrong, or the folder is something else.
    """
    _begin_command()
    from skiplight.config.compose import compose as compose_options
    from skiplight.experiments.comparison.compare import compare as compare_runs
    from skiplight.report.comparison import write_comparison_page

    folder = _folder(compose_options(_single(overrides)), run_dir)
    table = compare_runs(overrides, folder, **options)
    write_comparison_page(folder)
    return table


def sweep(*overrides: str, run_dir: str | Path | None = None, **options: Any) -> TrialTable:
    """Search options by a study, or continue it, write what it found and a page, and return the trials.

    Args:
        overrides: Hydra overrides; those with several values, such as `noise.exponent=interval(-1,1)`, are searched.
        run_dir: folder of the study; default: the option `run_dir`, else runs/<time>-<data>.
        options: of `skiplight.experiments.sweeps.sweep.sweep`: trials, timeout, workers, devices_per_trial.

    Raises:
        ConfigError, RunError: an option is wrong, or the folder is something else.
    """
    _begin_command()
    from skiplight.experiments.sweeps.sweep import compose_study
    from skiplight.experiments.sweeps.sweep import sweep as search
    from skiplight.report.study import report_study

    config, folder = compose_study(_single(overrides), run_dir)
    search(config, folder, **options)
    return report_study(folder)


def load_run(run_dir: str | Path) -> Run:
    """Return a finished run.

    Raises:
        RunError: there is no run, or it is not finished or damaged.
    """
    from skiplight.training.run import Run

    run = Run(run_dir)
    run.summary  # noqa: B018  # raises where it is not finished
    return run


def _begin_command() -> None:
    """End a script here, if it is run for no more than what it registers."""
    from skiplight.experiments.run_server import end_script

    end_script()


def _folder(config: Config, run_dir: str | Path | None) -> Path:
    """The folder of the run, or of the experiment."""
    from skiplight.training.run_folder import default_run_dir

    return Path(run_dir or config.run_dir or default_run_dir(config))


def _single(overrides: Sequence[Any]) -> Sequence[Any]:
    """The overrides, none of which may be a list of overrides."""
    for override in overrides:
        if isinstance(override, list | tuple):
            raise TypeError(f"give overrides one by one, not as a list: {', '.join(map(repr, override))}")
    return overrides
