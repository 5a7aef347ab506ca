"""The loggers of `logger=`: W&B (offline by default), CSV, TensorBoard, MLflow, and those named by `_target_`.

W&B runs are created by `wandb.init`, because the offline mode of Lightning's logger sets an environment variable for
the whole process. One training is one W&B run: its id comes from the run folder, so that a resumed run continues it,
and it is always finished. A resumed MLflow run has the id that environment.json keeps.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from skiplight.config.schema import Config
from skiplight.config.validate import run_options
from skiplight.errors import ConfigError, PausedError, PrunedError, Stopped
from skiplight.training.run_folder import RunFolder
from skiplight.training.targets import find_target, make_target

NEEDED = {
    "tensorboard": (("tensorboard", "tensorboardX"), "tensorboard"),
    "mlflow": (("mlflow",), "mlflow"),
    "TensorBoardLogger": (("tensorboard", "tensorboardX"), "tensorboard"),
    "MLFlowLogger": (("mlflow",), "mlflow"),
    "CometLogger": (("comet_ml",), "comet-ml"),
    "NeptuneLogger": (("neptune",), "neptune"),
}
"""By a logger's name or class, the modules of which it needs one, and what pip calls the package."""

_BASE: Any = Logger


def check_logger(config: Config) -> None:
    """Check that the loggers can be used, before anything is written.

    Raises:
        ConfigError: a package is not installed, W&B is online but nobody is logged in, or a `_target_` is no logger of
            an allowed package.
    """
    for name, options in config.logger.items():
        kind = name
        if "_target_" in options:
            found, arguments = find_target(f"logger.{name}", options, _BASE, "logger", "loggers.CSVLogger")
            kind = found.__name__
            try:
                inspect.signature(found).bind_partial(**arguments)
            except TypeError as error:
                raise ConfigError(f"`logger.{name}`: {options['_target_']} cannot be made: {error}") from None
        modules, package = NEEDED.get(kind, ((), ""))
        if modules and not any(importlib.util.find_spec(module) for module in modules):
            raise ConfigError(f"`logger={name}` needs a package that is not installed: `pip install {package}`")
        if kind == "wandb" and not options["offline"]:
            import wandb

            if not wandb.api.api_key:
                raise ConfigError(
                    "`logger.wandb.offline=false`, but nobody is logged in to W&B: run `wandb login` or set"
                    " WANDB_API_KEY"
                )


@contextlib.contextmanager
def open_loggers(config: Config, run: RunFolder) -> Iterator[list[Logger]]:
    """Yield the loggers of a training, and finish them in every case."""
    with contextlib.ExitStack() as stack:
        loggers = []
        for name, options in config.logger.items():
            if "_target_" in options:
                loggers.append(_own(name, options, run))
            else:
                loggers.append(stack.enter_context(_OPENED[name](config, run)))
        yield loggers


def _own(name: str, options: dict[str, Any], run: RunFolder) -> Logger:
    """Make a logger by its `_target_`; it writes to the run's folder where it takes one and none is given."""
    found, _ = find_target(f"logger.{name}", options, _BASE, "logger", "loggers.CSVLogger")
    takes = "save_dir" in inspect.signature(found).parameters
    defaults = {"save_dir": str(run.path)} if takes else {}
    return make_target(f"logger.{name}", options, _BASE, "logger", "loggers.CSVLogger", **defaults)


@contextlib.contextmanager
def _csv(config: Config, run: RunFolder) -> Iterator[Logger]:
    # Lightning empties a folder that has a file already, so a resumed run gets a new one.
    number = sum(1 for _ in run.path.glob("csv*/metrics.csv"))
    yield CSVLogger(run.path, name="", version=f"csv-{number}" if number else "csv")


@contextlib.contextmanager
def _tensorboard(config: Config, run: RunFolder) -> Iterator[Logger]:
    yield TensorBoardLogger(run.path, name="", version="tensorboard")


@contextlib.contextmanager
def _mlflow(config: Config, run: RunFolder) -> Iterator[Logger]:
    options = config.logger["mlflow"]
    named = options["tracking_uri"] or os.environ.get("MLFLOW_TRACKING_URI")
    # MLflow no longer writes to plain folders, and would put the artifacts of a database into the working folder.
    own = f"sqlite:///{run.path.resolve() / 'mlflow.db'}", str(run.path.resolve() / "mlflow-artifacts")
    uri, artifacts = (named, None) if named else own
    before = json.loads(run.environment.read_text(encoding="utf-8")).get("mlflow_run_id")
    try:
        logger = MLFlowLogger(
            experiment_name=options["experiment_name"],
            run_name=run.path.name,
            tracking_uri=uri,
            artifact_location=artifacts,
            run_id=before,
        )
        number = logger.run_id  # which connects
    except Exception as error:
        raise ConfigError(f"`logger=mlflow` cannot write to {uri}: {type(error).__name__}: {error}") from error
    if before is None:
        run.add_facts(mlflow_run_id=number)
    yield logger


class _StepLogger(WandbLogger):
    """Lightning's logger for W&B, which logs at the step of the training.

    Lightning's own lets W&B count the calls, from 0 again in each process: `_step` of a resumed run would begin anew.
    With the training's steps it goes on, and what a killed process had logged behind its last checkpoint is replaced.
    """

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics at a step; default: that of what was logged last."""
        step = self.experiment.step if step is None else step
        self.experiment.log({**metrics, "trainer/global_step": step}, step=step)


@contextlib.contextmanager
def _wandb(config: Config, run: RunFolder) -> Iterator[Logger]:
    import wandb

    options, is_trial = config.logger["wandb"], run.trial_info is not None
    experiment = wandb.init(
        entity=options.get("entity"),
        project=options["project"],
        tags=options.get("tags") or None,
        group=options["group"],
        id=run.id,
        name=f"{options['group']}/{run.path.name}" if is_trial else run.path.name,
        dir=run.path,
        resume="allow",
        mode="offline" if options["offline"] else "online",
        config=run_options(config),
        reinit="create_new",  # not an earlier run of the same process
        settings=wandb.Settings(silent=True, console="off"),
    )
    experiment.define_metric("tokens")
    experiment.define_metric("*", step_metric="tokens")
    state = "failed"
    try:
        yield _StepLogger(experiment=experiment, save_dir=run.path)
        state = "complete"
    except (Stopped, PausedError, PrunedError) as error:
        state = {Stopped: "stopped", PausedError: "paused", PrunedError: "pruned"}[type(error)]
        raise
    finally:
        if is_trial:
            experiment.summary["state"] = state
        experiment.finish(exit_code=int(state == "failed"))


_OPENED: dict[str, Callable[[Config, RunFolder], AbstractContextManager[Logger]]] = {
    "wandb": _wandb,
    "csv": _csv,
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
}


def _wandb_loggers(loggers: Iterable[Logger]) -> list[WandbLogger]:
    return [logger for logger in loggers if isinstance(logger, WandbLogger)]


def log_neighbors(
    loggers: Iterable[Logger], neighbors: dict[str, list[tuple[str, float]]], tokens: int, step: int
) -> None:
    """Log the neighbours of words as a table, to W&B only."""
    for logger in _wandb_loggers(loggers) if neighbors else ():
        import wandb

        rows = [[word, rank, *near] for word, nearest in neighbors.items() for rank, near in enumerate(nearest, 1)]
        table = wandb.Table(columns=["word", "rank", "neighbor", "cosine"], data=rows)
        logger.experiment.log({"evaluation/neighbors": table, "tokens": tokens}, step=step)


def log_pictures(loggers: Iterable[Logger], data: dict[str, Any], page: Path, tokens: int) -> None:
    """Log the page of a run, and its word pairs and map as scatter plots, to W&B only.

    `data` is that of the page (`skiplight.report.run`), `page` its file, and `tokens` the tokens of the run.
    """
    if not (found := _wandb_loggers(loggers)):
        return
    import wandb

    shown: dict[str, Any] = {"page": wandb.Html(page, inject=False)}
    for name, pairs in data["similarity"].items():
        table = wandb.Table(columns=["first", "second", "people", "cosine", "nearer than people rank it"], data=pairs)
        shown[f"similarity/{name}"] = wandb.plot.scatter(table, "people", "cosine", f"{name}: cosine against people")
    if words := data["map"]:
        placed = len(words["groups"])  # the most frequent; the page has neighbours of others too
        named = words["words"][:placed], words["counts"][:placed], words["groups"]
        rows = zip(*named, *words["layouts"]["PCA"], strict=True)
        table = wandb.Table(columns=["word", "count", "group", "x", "y"], data=list(map(list, rows)))
        shown["map"] = wandb.plot.scatter(table, "x", "y", "the most frequent words along their principal axes")
    for logger in found:
        logger.experiment.log({**shown, "tokens": tokens}, step=logger.experiment.step)


def log_summary(loggers: Iterable[Logger], summary: dict[str, Any], run: RunFolder, artifact: bool) -> None:
    """Log the content of summary.json and, if `artifact`, the vectors, to W&B only."""
    for logger in _wandb_loggers(loggers):
        logger.experiment.log({}, commit=True)  # the last step, whose metrics would replace those of the summary
        # `seconds` is a number in the history, and stays one.
        seconds = {f"seconds/{part}": value for part, value in summary["seconds"].items()}
        logger.experiment.summary.update({name: v for name, v in summary.items() if name != "seconds"} | seconds)
        if not artifact:
            continue
        import wandb

        vectors = wandb.Artifact(f"vectors-{run.id}", type="model")
        # Otherwise W&B copies the vectors to a folder outside the run.
        vectors.add_dir(str(run.vectors), policy="immutable")
        logger.experiment.log_artifact(vectors)
