"""Starts the other ranks of this machine on the same run folder, and sees to it that none outlives the others.

Lightning's own launcher repeats the command line of the first rank, so that under Hydra's multirun every other rank
would begin with trial 0 (Lightning issue 11300), and a rank that hangs in a collective would wait for a dead one. Here
a rank is the program `skiplight.experiments.worker RUN`: it reads its options from the folder. It ends as soon as its
standard input does, which the first rank holds open; and the first rank watches the others.
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
"""Seconds that this process has, once another rank is dead, to find that out by itself and to end in good order."""

POLL_SECONDS = 0.2


class RankLauncher(_SubprocessScriptLauncher):
    """Starts ranks 1, 2, ... of this machine.

    Args:
        environment: how the ranks find each other.
        num_processes: ranks on this machine.
        num_nodes: machines.
        run: the run's folder.
    """

    def __init__(self, environment: ClusterEnvironment, num_processes: int, num_nodes: int, run: Path) -> None:
        super().__init__(environment, num_processes, num_nodes)
        self.run = run
        self._over = threading.Event()

    @property
    def is_interactive_compatible(self) -> bool:
        return True  # what the other ranks run is a folder, not a notebook

    def launch(self, function: Callable, *args: Any, trainer: Any = None, **kwargs: Any) -> Any:
        """Starts the other ranks, where nothing else has, and calls the function, which is to meet them."""
        self.cluster_environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        if not self.cluster_environment.creates_processes_externally:
            self._start()
            threading.Thread(target=self._watch, name="skiplight-ranks", daemon=True).start()
        return function(*args, **kwargs)

    def _start(self) -> None:
        environment = self.cluster_environment
        first = environment.node_rank() * self.num_processes
        places = {
            "MASTER_ADDR": environment.main_address,
            "MASTER_PORT": str(environment.main_port),
            "NODE_RANK": str(environment.node_rank()),
            "WORLD_SIZE": str(self.num_processes * self.num_nodes),
        }
        command = [sys.executable, "-m", "skiplight.experiments.worker", str(self.run), "--rank"]
        for local_rank in range(1, self.num_processes):
            variables = os.environ | places | {"LOCAL_RANK": str(local_rank)}
            variables.pop("WANDB_SERVICE", None)
            self.procs.append(
                subprocess.Popen([*command, str(first + local_rank)], env=variables, stdin=subprocess.PIPE)
            )

    def dead(self, patience: float = 0) -> str | None:
        """Which rank of this machine has failed, and how; None if none has within so many seconds."""
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
                # The main thread waits inside a collective that will never end: no exception can reach it.
                print(f"skiplight: {dead}: the other ranks end too", file=sys.stderr, flush=True)
                self.end(0)
                os._exit(1)

    def end(self, patience: float) -> None:
        """Waits so many seconds for the other ranks to end, and kills those that have not."""
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
    """Ends this process when the first rank of its machine has, however that came about."""

    def watch() -> None:
        while os.read(0, 1024):  # not by sys.stdin, whose lock a thread may not hold when Python ends
            pass
        os._exit(128 + signal.SIGKILL)

    threading.Thread(target=watch, name="skiplight-first-rank", daemon=True).start()
