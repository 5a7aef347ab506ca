"""Start of the other ranks of this machine on the same run folder, which all end together.

Lightning's launcher repeats the command line of the first rank, so under Hydra's multirun every other rank would begin
with trial 0 (Lightning issue 11300), and a rank in a collective would wait for a dead one forever. Here a rank is the
program `skiplight.experiments.worker RUN`, which reads its options from the folder. It ends when its standard input is
closed, which the first rank holds open, and the first rank watches the others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.strategies.launchers.subprocess_script import _SubprocessScriptLauncher

GRACE = 10.0
"""Seconds that this process has after the death of another rank to notice it and end in good order."""

POLL_SECONDS = 0.2


class RankLauncher(_SubprocessScriptLauncher):
    """Start the other `num_processes - 1` ranks of this machine, one of `num_nodes`, on the folder `run`."""

    def __init__(self, environment: ClusterEnvironment, num_processes: int, num_nodes: int, run: Path) -> None:
        super().__init__(environment, num_processes, num_nodes)
        self.run = run
        self._over = threading.Event()

    @property
    def is_interactive_compatible(self) -> bool:
        return True  # the other ranks start from a run folder, not a notebook

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Start the other ranks, unless something else has, and call the function."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._start()
            threading.Thread(target=self._watch, name="skiplight-ranks", daemon=True).start()
        return function(*args, **kwargs)

    def _start(self) -> None:
        environment = self.cluster_environment
        first = environment.node_rank() * self.num_processes
        addresses = {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        command = [sys.executable, "-m", "skiplight.experiments.worker", str(self.run), "--rank"]
        for local_rank in range(1, self.num_processes):
            variables = os.environ | addresses | {"LOCAL_RANK": str(local_rank)}
            variables.pop("WANDB_SERVICE", None)
            self.procs.append(
                subprocess.Popen([*command, str(first + local_rank)], env=variables, stdin=subprocess.PIPE)
            )

    def dead(self, patience: float = 0) -> str | None:
        """Return which rank of this machine has failed and how, or None if none fails within `patience` seconds."""
        deadline = time.monotonic() + patience
        first = self.cluster_environment.node_rank() * self.num_processes
        while True:
            for rank, process in enumerate(self.procs, first + 1):
                if code := process.poll():
                    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
                    return f"rank {rank} {how}"
            if time.monotonic() >= deadline:
                return None
            time.sleep(POLL_SECONDS)

    def _watch(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            if (dead := self.dead()) and not self._over.wait(GRACE):
                # No exception can reach the main thread, which waits in a collective that will never end.
                print(f"skiplight: {dead}: the other ranks end too", file=sys.stderr, flush=True)
                self.end(0)
                os._exit(1)

    def end(self, patience: float) -> None:
        """Wait up to `patience` seconds for the other ranks to end, then kill the remaining ones."""
        self._over.set()
        deadline = time.monotonic() + patience
        for process in self.procs:
            try:
                process.wait(max(0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            assert process.stdin is not None
            process.stdin.close()

    def kill(self, signum: int) -> None:
        for process in self.procs:
            process.send_signal(signum)


def end_with_first_rank() -> None:
    """End this process when the first rank of its machine has ended, for any reason."""

    def watch() -> None:
        while os.read(0, 1024):  # not sys.stdin, whose lock no thread may hold when Python exits
            pass
        os._exit(128 + signal.SIGKILL)

    threading.Thread(target=watch, name="skiplight-first-rank", daemon=True).start()
