"""The loggers that `logger=` names: W&B (offline unless told otherwise), CSV, or none.

W&B runs are made by `wandb.init` itself rather than by Lightning's arguments, whose offline mode would set an
environment variable for the whole process. One training is one W&B run: its id comes from the run folder, so that a
resumed run goes on with it, and it is finished in every case.
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
    """Finds out before anything is made whether the logger can be used.

    Raises:
        ConfigError: W&B is to be sent to, but nobody is logged in.
    """
    if config.logger.name == "wandb" and not config.logger.offline:
        import wandb

        if not wandb.api.api_key:
            raise ConfigError(
                "`logger.offline=false`, but nobody is logged in to W&B: run `wandb login` or set WANDB_API_KEY"
            )


@contextlib.contextmanager
def open_logger(config: Config, run: RunFolder) -> Iterator[Logger | None]:
    """The logger of a training, finished when the training is over, however it ends."""
    if config.logger.name == "wandb":
        with _wandb(config, run) as logger:
            yield logger
    elif config.logger.name == "csv":
        # Lightning empties a folder that has a file already: what a resumed run adds stands beside it.
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
        reinit="create_new",  # never an earlier training's run of the same process
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
    """Logs the neighbours of words as a table, where the logger has tables."""
    if isinstance(logger, WandbLogger) and neighbors:
        import wandb

        rows = [[word, rank, *near] for word, found in neighbors.items() for rank, near in enumerate(found, 1)]
        table = wandb.Table(columns=["word", "rank", "neighbor", "cosine"], data=rows)
        logger.experiment.log({"evaluation/neighbors": table, "tokens": tokens})


def log_pictures(logger: Logger | None, data: dict[str, Any], page: Path, tokens: int) -> None:
    """Logs what a run's page shows, where the logger has such: word pairs and the map as scatter plots, and the page.

    Args:
        logger: of the training.
        data: of the page, see `skiplight.report.run`.
        page: its file.
        tokens: of the run.
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
    """Logs what summary.json holds and, where asked, the vectors as an artifact."""
    if not isinstance(logger, WandbLogger):
        return
    logger.experiment.summary.update(summary)
    if artifact:
        import wandb

        vectors = wandb.Artifact(f"vectors-{run.id}", type="model")
        # Immutable: else W&B copies the vectors to a folder of its own, outside the run's.
        vectors.add_dir(str(run.vectors), policy="immutable")
        logger.experiment.log_artifact(vectors)
