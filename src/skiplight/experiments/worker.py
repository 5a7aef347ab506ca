"""Trains a run from its resolved folder: `python -m skiplight.experiments.worker RUN [--rank N]`.

The parent makes RUN with its config.yaml; the worker goes on from the newest checkpoint in it, or begins. Rank N joins
the training that the first rank, its parent, begins or goes on with, and ends with it. A parent with several runs
starts them by `run_apart` of `skiplight.experiments.processes`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from skiplight.errors import (
    BusyError,
    DivergedError,
    PrunedError,
    SkiplightError,
    Stopped,
    UnwritableError,
    command,
    describe_os_error,
)
from skiplight.experiments.processes import CODES, ProcessResult
from skiplight.process import hurry, provide_home
from skiplight.training.run_folder import RunFolder

if TYPE_CHECKING:
    from lightning import Callback

    from skiplight.training.callbacks.evaluation import Evaluation

PATIENCE = 30
"""Seconds that a worker waits for one whose parent was killed to end."""


def main(arguments: list[str] | None = None) -> int:
    """Trains the run in the folder that is given; 0 if it is finished, else as `CODES` has it."""
    hurry()
    provide_home()
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser("python -m skiplight.experiments.worker", description=__doc__.partition("\n")[0])
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


def train_folder(run: Path, patience: float = PATIENCE) -> ProcessResult:
    """Trains the run in a folder, in this process; raises nothing."""
    os.environ.pop("WANDB_SERVICE", None)  # a parent's: this training's W&B run is its own
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("skiplight").setLevel(logging.INFO)
    try:
        from skiplight.training.fit import resume

        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
        resume(run, _watching(run), patience)
    except PrunedError as error:
        return ProcessResult("pruned", str(error))
    except Stopped as error:
        return ProcessResult("stopped", str(error))
    except BusyError as error:
        return ProcessResult("busy", str(error))
    except UnwritableError as error:
        return ProcessResult("unwritable", str(error))
    except KeyboardInterrupt:
        return ProcessResult("stopped", f"stopped; go on with: {command('resume', run)}")
    except DivergedError as error:
        return ProcessResult("diverged", str(error))
    except SkiplightError as error:
        return ProcessResult("failed", str(error))
    except OSError as error:
        traceback.print_exc()
        return ProcessResult("failed", describe_os_error(error))
    except BaseException as error:
        reason = f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
        # torch raises RuntimeError where the CPU's memory is at its end, numpy a MemoryError, CUDA an OutOfMemoryError.
        if "memory" in reason.lower():
            reason = f"out of memory ({reason}): lower model.dim, vocabulary.max_size or data.block_tokens"
        traceback.print_exc()
        return ProcessResult("failed", reason)
    return ProcessResult("finished")


def _watching(run: Path) -> Callable[[Evaluation], Callback] | None:
    """What makes the callback that prunes, where the run is a trial of a study."""
    part = RunFolder(run).part_of
    if part is None or part.kind != "study":
        return None
    from skiplight.experiments.sweeps.pruning import watching

    return watching(run)


if __name__ == "__main__":
    sys.exit(main())
