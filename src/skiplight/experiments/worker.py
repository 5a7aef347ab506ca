"""Train a run from its folder: `python -m skiplight.experiments.worker RUN [--rank N]`.

The parent process creates RUN with its config.yaml; the worker starts the run, or resumes it from its newest
checkpoint. Rank N joins the training of the first rank, its parent, and ends with it. A parent with several runs starts
them by `run_in_process` of `skiplight.experiments.processes`.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from skiplight.errors import (
    BusyError,
    DivergedError,
    PausedError,
    PrunedError,
    SkiplightError,
    Stopped,
    UnwritableError,
    command,
    describe_os_error,
)
from skiplight.experiments.processes import EXIT_CODES, ProcessResult
from skiplight.process import log_to_stderr, provide_home, run_program
from skiplight.training.run_folder import RunFolder

if TYPE_CHECKING:
    from skiplight.training.fit import Watch

LOCK_WAIT_SECONDS = 30
"""Seconds to wait for the lock of a run, which a worker whose parent was killed holds until it exits."""


def main(arguments: list[str] | None = None) -> int:
    """Train the run in the given folder, and return the exit code of its state, from `EXIT_CODES`."""
    provide_home()
    arguments = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser("python -m skiplight.experiments.worker", description=__doc__.partition("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--rank", type=int, help="rank of this process, which ends when its standard input is closed")
    given = parser.parse_args(arguments)
    if given.rank is not None:
        from skiplight.distributed.launcher import end_with_first_rank

        end_with_first_rank()
    result = train_folder(given.run)
    if result.message:
        where = "" if given.rank is None else f" rank {given.rank}:"
        print(f"skiplight:{where} {result.message}", file=sys.stderr)
    return EXIT_CODES[result.state]


def train_folder(run: Path, lock_wait: float = LOCK_WAIT_SECONDS) -> ProcessResult:
    """Train the run in a folder, in this process, and return how it ended; never raises."""
    os.environ.pop("WANDB_SERVICE", None)  # the parent's W&B process, which would end with the parent
    log_to_stderr()
    try:
        _train(run, lock_wait)
    except PrunedError as error:
        return ProcessResult("pruned", str(error))
    except PausedError as error:
        return ProcessResult("paused", str(error))
    except Stopped as error:
        return ProcessResult("stopped", str(error))
    except BusyError as error:
        return ProcessResult("busy", str(error))
    except UnwritableError as error:
        return ProcessResult("unwritable", str(error))
    except KeyboardInterrupt:
        return ProcessResult("stopped", f"stopped; resume with: {command('resume', run)}")
    except DivergedError as error:
        return ProcessResult("diverged", str(error))
    except SkiplightError as error:
        return ProcessResult("failed", str(error))
    except OSError as error:
        traceback.print_exc()
        return ProcessResult("failed", describe_os_error(error))
    except BaseException as error:
        reason = f"{type(error).__name__}: {str(error).strip() or 'no message'}".splitlines()[0]
        # Out of memory is a RuntimeError in torch on the CPU, a MemoryError in NumPy, and an OutOfMemoryError on CUDA.
        if "memory" in reason.lower():
            reason = f"out of memory ({reason}): lower model.dim, vocabulary.max_size or data.block_tokens"
        traceback.print_exc()
        return ProcessResult("failed", reason)
    return ProcessResult("finished")


def _train(run: Path, lock_wait: float) -> None:
    from skiplight.training.fit import resume

    try:
        resume(run, _trial_callback_factory(run), lock_wait)
    except PausedError:
        from skiplight.experiments.sweeps.forks import record_fork

        record_fork(run)
        raise


def _trial_callback_factory(run: Path) -> Watch | None:
    """Return a function that makes the callback of a trial of a study that prunes or promotes trials, or None."""
    trial_info = RunFolder(run).trial_info
    if trial_info is None or trial_info.kind != "study":
        return None
    from skiplight.experiments.sweeps.pruning import trial_callback_factory

    return trial_callback_factory(run)


if __name__ == "__main__":
    run_program(main)
