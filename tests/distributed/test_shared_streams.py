"""Real ranks and workers share a stream, are stopped, and go on as another number of them."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.support.launches import start, wait_for
from tests.support.runs import command, skiplight
from tests.support.texts import prepared, write_texts


@pytest.mark.slow
def test_ranks_that_are_stopped_go_on_as_another_number(tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", files=1, documents=600, words=300)
    run = tmp_path / "run"
    options = [
        "data=files", f"data.path={tmp_path}/texts/0.txt", "data.document=line", f"data.store={tmp_path}/stores",
        "data.streaming=true", "data.workers=2", "data.heldout=0.1", "data.block_tokens=400", "vocabulary.min_count=2",
        "model.dim=8", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.max_epochs=30",
        "engine=fused", "evaluation=none", "logger=csv", f"run_dir={run}",
    ]  # fmt: skip
    stopped = 0
    for arguments in (command("train", *options), command("resume", str(run), "--devices", "3")):
        process = start(arguments)
        before = {path.name for path in run.glob("checkpoints/step-*")}
        lines = run / "metrics.jsonl"
        seen = len(lines.read_text().splitlines()) if lines.exists() else 0
        wait_for(lambda: lines.exists() and len(lines.read_text().splitlines()) > seen + 1, process)  # noqa: B023
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 143, output
        assert {path.name for path in run.glob("checkpoints/step-*")} - before
        stopped += 1
    done = skiplight(["resume", str(run), "--devices", "1"])
    assert done.returncode == 0, done.stderr
    tokens = prepared(texts, tmp_path, streaming=True).tokens
    assert stopped == 2
    # Thirty whole epochs: every token once in each, whatever ranks have consumed it.
    assert json.loads((run / "summary.json").read_text())["tokens"] == 30 * tokens
