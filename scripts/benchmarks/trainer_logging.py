"""What logging through Lightning costs: one's own Trainer with and without the metrics of the module, in turns.

    python scripts/benchmarks/trainer_logging.py TEXT [--turns N] [--json PATH]

Prints the seconds of each training, and the median over turns of the ratio with to without logging.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.loggers import CSVLogger

from skiplight import SkipGramDataModule, SkipGramModule, compose


def main() -> None:
    """Time both trainings in turns."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("text", type=Path, help="file of text, one document per line, or a Parquet file")
    parser.add_argument("--turns", type=int, default=5, help="turns (5)")
    parser.add_argument("--json", type=Path, help="file for the results")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        overrides = ["data=files", f"data.path='{given.text}'", "trainer.max_epochs=1", "data.heldout=0"]
        config = compose(*overrides, f"data.store='{folder}/stores'")
        data = SkipGramDataModule.from_config(config)
        _train(config, data, Path(folder), logs=True)  # compiles the kernels
        found = [
            {logs: _train(config, data, Path(folder), logs=logs) for logs in (False, True)} for _ in range(given.turns)
        ]
    for turn in found:
        print(f"without {turn[False]:.2f} s, with {turn[True]:.2f} s")
    ratio = statistics.median(turn[True] / turn[False] for turn in found)
    print(f"with / without, median of {given.turns} turns: {ratio:.3f}")
    if given.json is not None:
        result = {"ratio": ratio, "turns": [{"without": turn[False], "with": turn[True]} for turn in found]}
        given.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _train(config: Any, data: SkipGramDataModule, folder: Path, *, logs: bool) -> float:
    """Train one epoch under a Trainer of one's own; return the seconds of `fit`."""
    module = SkipGramModule.from_config(config, data)
    module.is_tracked = not logs
    trainer = lightning.Trainer(
        accelerator="cpu", devices=1, max_epochs=1, logger=CSVLogger(folder) if logs else False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    data.load_state_dict(data.state_dict() | {"cursor": (0, 0, 0, -1, -1)})
    begin = time.perf_counter()
    trainer.fit(module, data)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
