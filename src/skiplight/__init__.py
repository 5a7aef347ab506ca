"""skiplight: skip-gram embeddings with negative sampling, as PyTorch Lightning experiments.

The names below are all that a notebook needs. Importing skiplight is cheap: modules are loaded on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from skiplight.config.compose import compose
    from skiplight.config.schema import Config
    from skiplight.data.datamodule import SkipGramDataModule
    from skiplight.experiments.trials import TrialTable
    from skiplight.objectives import ScoreObjective
    from skiplight.registry import register_noise, register_objective
    from skiplight.training.module import SkipGramModule
    from skiplight.vectors.word_vectors import WordVectors

__version__ = "0.1.0"

__all__ = [
    "Config",
    "ScoreObjective",
    "SkipGramDataModule",
    "SkipGramModule",
    "WordVectors",
    "compare",
    "compose",
    "load_run",
    "register_noise",
    "register_objective",
    "resume",
    "sweep",
    "train",
]

_ELSEWHERE = {
    "ScoreObjective": "skiplight.objectives",
    "register_noise": "skiplight.registry",
    "register_objective": "skiplight.registry",
    "Config": "skiplight.config.schema",
    "SkipGramDataModule": "skiplight.data.datamodule",
    "SkipGramModule": "skiplight.training.module",
    "WordVectors": "skiplight.vectors.word_vectors",
    "compose": "skiplight.config.compose",
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_ELSEWHERE[name]), name)


def __dir__() -> list[str]:
    return __all__


def train(config: Config | Sequence[str], run_dir: str | Path | None = None, **options: Any) -> dict[str, Any]:
    """Train a new run, write its page, and return the content of its summary.json.

    Args:
        config: all options, or Hydra overrides as on the command line: `["data=files", "data.path=text.txt"]`.
        run_dir: the folder to make; default: the option `run_dir`, else runs/<time>-<data>.
        options: of `skiplight.training.fit.train`.

    Raises:
        SkiplightError: an option is wrong, or the text cannot be trained on; no folder is made.
    """
    from skiplight.config.compose import compose
    from skiplight.config.schema import Config
    from skiplight.report.run import show_finished_run
    from skiplight.training import fit
    from skiplight.training.run_folder import default_run_dir

    config = config if isinstance(config, Config) else compose(config)
    folder = Path(run_dir or config.run_dir or default_run_dir(config))
    return fit.train(config, folder, show=show_finished_run, **options)


def resume(run_dir: str | Path, **options: Any) -> dict[str, Any]:
    """Continue a run that was stopped or killed, and return the content of its summary.json.

    Args:
        run_dir: the run's folder.
        options: of `skiplight.training.fit.resume`.

    Raises:
        RunError: there is no such run, or it is finished, in training, or damaged.
        Stopped: a signal requested a stop.
    """
    from skiplight.report.run import show_finished_run
    from skiplight.training import fit

    return fit.resume(Path(run_dir), show=show_finished_run, **options)


def compare(overrides: Sequence[str], run_dir: str | Path | None = None, **options: Any) -> TrialTable:
    """Train what `compare.*` says, write down what came out, make its page, and return its runs.

    A comparison that is there already is gone on with.

    Args:
        overrides: of Hydra, for all runs.
        run_dir: folder of the comparison; default: as `run_dir` says, else runs/<time>-<data>.
        options: of `skiplight.experiments.comparison.compare.compare`: workers, devices_per_trial.

    Raises:
        ConfigError, RunError: an option is wrong, or the folder is something else.
    """
    from skiplight.config.compose import compose
    from skiplight.experiments.comparison.compare import compare as compare_runs
    from skiplight.report.comparison import write_comparison_page
    from skiplight.training.run_folder import default_run_dir

    config = compose(overrides)
    folder = Path(run_dir or config.run_dir or default_run_dir(config))
    table = compare_runs(overrides, folder, **options)
    write_comparison_page(folder)
    return table


def sweep(overrides: Sequence[str], run_dir: str | Path | None = None, **options: Any) -> TrialTable:
    """Search options by a study, write down what it found, make its page, and return its trials.

    A study that is there already is gone on with.

    Args:
        overrides: Hydra overrides; those with several values, such as `noise.exponent=interval(-1,1)`, are searched.
        run_dir: folder of the study; default: the option `run_dir`, else runs/<time>-<data>.
        options: of `skiplight.experiments.sweeps.sweep.sweep`: trials, timeout, workers, devices_per_trial.

    Raises:
        ConfigError, RunError: an option is wrong, or the folder is something else.
    """
    from skiplight.config.compose import compose
    from skiplight.experiments.sweeps.space import split
    from skiplight.experiments.sweeps.sweep import sweep as search
    from skiplight.report.study import report_study
    from skiplight.training.run_folder import default_run_dir

    fixed, space = split(overrides)
    config = compose(fixed)
    config.study.space = {**(config.study.space or {}), **space}
    folder = Path(run_dir or config.run_dir or default_run_dir(config))
    search(config, folder, **options)
    return report_study(folder)


def load_run(run_dir: str | Path) -> tuple[Config, dict[str, Any]]:
    """Return the options of a finished run and the content of its summary.json.

    Raises:
        RunError: there is no run, or it is not finished or damaged.
    """
    from skiplight.training.run_folder import RunFolder

    run = RunFolder(run_dir)
    return run.config(), run.read_summary()
