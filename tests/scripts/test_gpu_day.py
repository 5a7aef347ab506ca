"""The script for a day with a GPU runs its parts, and goes on with what did not end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts/benchmarks/gpu_day.sh"


@pytest.mark.slow
def test_it_runs_interpreted_and_goes_on(tmp_path: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | {"PATH": path}
    for name in ("tests", "speed", "quality", "blocks"):
        (tmp_path / f"{name}.done").touch()  # as if they had ended
    command = [str(SCRIPT), str(tmp_path), "--tiny", "--interpret"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "== speed: done before" in done.stdout
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert {"ceilings", "settings", "full softmax", "profile", "input", "rivals"} <= found.keys()
    assert "speed" not in found
    one, two, *_ = json.loads((tmp_path / "gpu_ranks.json").read_text())
    assert two["replicas are equal"] is True
    assert two["loss"] == pytest.approx(one["loss"], rel=0.05)
    (tmp_path / "ranks.done").unlink()
    (tmp_path / "gpu_ranks.json").unlink()
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.stdout.count("done before") == again.stdout.count("==") - 2
    assert (tmp_path / "gpu_ranks.json").exists()
