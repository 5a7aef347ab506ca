"""The loggers of `logger=`: W&B (offline by default), CSV, or none.

W&B runs are created by `wandb.init`, because the offline mode of Lightning's logger sets an environment variable for
the whole process. One training is one W&B run: its id comes from the run folder, so that a resumed run continues it,
and it is always finished.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from skiplight.config.schema import Config
from skiplight.config.validate import run_options
from skiplight.errors import ConfigError, PrunedError, Stopped
from skiplight.training.run_folder import RunFolder


def check_logger(config: Config) -> None:
    """Check that the logger can be used, before anything is written.

    Raises:
        ConfigError: W&B is online, but nobody is logged in.
    """
    if config.logger.name == "wandb" and not config.logger.offline:
        import wandb

        if not wandb.api.api_key:
            raise ConfigError(
                "`logger.offline=false`, but nobody is logged in to W&B: run `wandb login` or set WANDB_API_KEY"
            )


@contextlib.contextmanager
def open_logger(config: Config, run: RunFolder) -> Iterator[Logger | None]:
    """Yield the logger of a training, or None, and finish it in every case."""
    if config.logger.name == "wandb":
        with _wandb(config, run) as logger:
            yield logger
    elif config.logger.name == "csv":
        # Lightning empties a folder that has a file already, so a resumed run gets a new one.
        number = sum(1 for _ in run.path.glob("csv*/metrics.csv"))
        yield CSVLogger(run.path, name="", version=f"csv-{number}" if number else "csv")
    else:
        yield None


@contextlib.contextmanager
def _wandb(config: Config, run: RunFolder) -> Iterator[WandbLogger]:
    import wandb

    experiment = wandb.init(
        project=config.logger.project,
        group=config.logger.group,
        id=run.id,
        name=run.path.name,
        dir=run.path,
        resume="allow",
        mode="offline" if config.logger.offline else "online",
        config=run_options(config),
        reinit="create_new",  # not an earlier run of the same process
        settings=wandb.Settings(silent=True, console="off"),
    )
    experiment.define_metric("tokens")
    experiment.define_metric("*", step_metric="tokens")
    failed = True
    try:
        yield WandbLogger(experiment=experiment)
        failed = False
    except (Stopped, PrunedError):
        failed = False
        raise
    finally:
        experiment.finish(exit_code=int(failed))


def log_neighbors(logger: Logger | None, neighbors: dict[str, list[tuple[str, float]]], tokens: int) -> None:
    """Log the neighbours of words as a table, to W&B only."""
    if isinstance(logger, WandbLogger) and neighbors:
        import wandb

        rows = [[word, rank, *near] for word, nearest in neighbors.items() for rank, near in enumerate(nearest, 1)]
        table = wandb.Table(columns=["word", "rank", "neighbor", "cosine"], data=rows)
        logger.experiment.log({"evaluation/neighbors": table, "tokens": tokens})


def log_pictures(logger: Logger | None, data: dict[str, Any], page: Path, tokens: int) -> None:
    """Log the page of a run, and its word pairs and map as scatter plots, to W&B only.

    `data` is that of the page (`skiplight.report.run`), `page` its file, and `tokens` the tokens of the run.
    """
    if not isinstance(logger, WandbLogger):
        return
    import wandb

    shown: dict[str, Any] = {"page": wandb.Html(page, inject=False)}
    for name, pairs in data["similarity"].items():
        table = wandb.Table(columns=["first", "second", "people", "cosine", "nearer than people rank it"], data=pairs)
        shown[f"similarity/{name}"] = wandb.plot.scatter(table, "people", "cosine", f"{name}: cosine against people")
    if found := data["map"]:
        rows = zip(found["words"], found["counts"], found["groups"], *found["layouts"]["PCA"], strict=True)
        table = wandb.Table(columns=["word", "count", "group", "x", "y"], data=list(map(list, rows)))
        shown["map"] = wandb.plot.scatter(table, "x", "y", "the most frequent words along their principal axes")
    logger.experiment.log({**shown, "tokens": tokens})


def log_summary(logger: Logger | None, summary: dict[str, Any], run: RunFolder, artifact: bool) -> None:
    """Log the content of summary.json and, if `artifact`, the vectors, to W&B only."""
    if not isinstance(logger, WandbLogger):
        return
    logger.experiment.summary.update(summary)
    if artifact:
        import wandb

        vectors = wandb.Artifact(f"vectors-{run.id}", type="model")
        # Otherwise W&B copies the vectors to a folder outside the run.
        vectors.add_dir(str(run.vectors), policy="immutable")
        logger.experiment.log_artifact(vectors)
