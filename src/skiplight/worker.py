"""Trains a run from its resolved folder, in a process of its own: `python -m skiplight.worker RUN [--rank N]`.

The parent makes RUN with its config.yaml; the worker goes on from the newest checkpoint in it, or begins. Rank N joins
the training that the first rank, its parent, begins or goes on with, and ends with it. A parent with
several runs starts them by `run_apart`: a server process imports everything once and forks for each, so that a run
costs no imports, and one that dies takes nothing with it. What a run says goes to RUN/output.log.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from skiplight.errors import PrunedError, SkiplightError, Stopped, UnwritableError

if TYPE_CHECKING:
    from lightning import Callback

    from skiplight.evaluation.callback import Evaluation

IMPORTED = ["skiplight.training", "skiplight.engines.fused_cpu", "skiplight.evaluation.suite", "optuna", "wandb"]
"""What the server imports before it forks. None of it may have begun to compute, or to use a GPU."""

PATIENCE = 30
"""Seconds that a worker waits for one whose parent was killed to end."""

POLL_SECONDS = 0.2

State = Literal["finished", "pruned", "stopped", "failed", "unwritable", "killed"]
CODES: dict[State, int] = {"finished": 0, "failed": 1, "pruned": 3, "unwritable": 4, "stopped": 143}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a training ended.

    Attributes:
        state: `unwritable` if the disk was full or read-only, `killed` if a signal ended the process.
        message: what went wrong, in a line; empty where nothing did.
    """

    state: State
    message: str = ""


def main(arguments: list[str] | None = None) -> int:
    """Trains the run in the folder that is given; 0 if it is finished, else as `CODES` has it."""
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser("python -m skiplight.worker", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rank", type=int, help="which rank this is; standard input ends with the first rank")
    given = parser.parse_args(arguments)
    if given.rank is not None:
        from skiplight.distributed.launcher import end_with_first_rank

        end_with_first_rank()
    outcome = train_folder(given.run)
    if outcome.message:
        where = "" if given.rank is None else f" rank {given.rank}:"
        print(f"skiplight:{where} {outcome.message}", file=sys.stderr)
    return CODES[outcome.state]


def train_folder(run: Path) -> Outcome:
    """Trains the run in a folder, in this process; raises nothing."""
    os.environ.pop("WANDB_SERVICE", None)  # a parent's: this training's W&B run is its own
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("skiplight").setLevel(logging.INFO)
    try:
        from skiplight import training

        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
        training.resume(run, _watching(run), PATIENCE)
    except PrunedError as error:
        return Outcome("pruned", str(error))
    except Stopped as error:
        return Outcome("stopped", str(error))
    except UnwritableError as error:
        return Outcome("unwritable", str(error))
    except KeyboardInterrupt:
        return Outcome("stopped", f"stopped; go on with: skiplight resume {run}")
    except SkiplightError as error:
        return Outcome("failed", str(error))
    except BaseException as error:
        reason = f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
        # torch raises RuntimeError where the CPU's memory is at its end, numpy a MemoryError, CUDA an OutOfMemoryError.
        if "memory" in reason.lower():
            reason = f"out of memory ({reason}): lower model.dim, vocabulary.max_size or data.block_tokens"
        traceback.print_exc()
        return Outcome("failed", reason)
    return Outcome("finished")


def _watching(run: Path) -> Callable[[Evaluation], Callback] | None:
    """What makes the callback that prunes, where the run is a trial of a study."""
    if not (run.parent / "study.yaml").exists():
        return None
    from skiplight.sweeps.pruning import watching

    return watching(run)


def run_apart(
    run: Path,
    *,
    cores: Collection[int] = (),
    environment: Mapping[str, str] | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Outcome:
    """Trains the run in a folder in a process of its own, and waits for its end; may be called from several threads.

    Args:
        run: the folder, made by `RunFolder.create`.
        cores: the process may use these only; empty for all of this process.
        environment: variables that are set in the process.
        stopping: asked now and then; as soon as it is true the training is told to save and stop.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_apart, args=(run, tuple(cores), dict(environment or {}), sender))
    process.start()
    sender.close()
    told = False
    while not wait([receiver, process.sentinel], POLL_SECONDS):
        if not told and stopping():
            process.terminate()
            told = True
    try:
        outcome = receiver.recv()
    except EOFError:
        outcome = None
    process.join()
    receiver.close()
    if outcome is not None:
        return outcome
    if told or stopping():
        return Outcome("stopped", f"stopped before its first step; go on with: skiplight resume {run}")
    code = process.exitcode or 0
    if code >= 0:
        return Outcome("failed", f"the process ended with code {code}; see {run / 'output.log'}")
    name = signal.Signals(-code).name
    perhaps = ", most likely for want of memory" if -code == signal.SIGKILL else ""
    return Outcome("killed", f"the process was killed by {name}{perhaps}")


def _apart(run: Path, cores: tuple[int, ...], environment: dict[str, str], sender: Connection) -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ.update(environment)
    # Its loaders are started as in any process, not by another server, which would import everything again.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    try:
        with (run / "output.log").open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        if cores:
            import torch

            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(0, cores)
            torch.set_num_threads(len(cores))
        outcome = train_folder(run)
    except OSError as error:
        outcome = Outcome("unwritable", f"{run} cannot be written: {error.strerror}; make room or make it writable")
    sender.send(outcome)
    sender.close()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(128 + signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
