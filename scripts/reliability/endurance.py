"""Train for long on a synthetic text, and check that memory, threads and open files do not grow.

    python scripts/reliability/endurance.py --tokens 100_000_000 --files 1
    python scripts/reliability/endurance.py --tokens 100_000_000 --files 50 --epochs 10

Words follow Zipf's law over 200,000, of which the vocabulary keeps 100,000; the text is streamed, evaluated and saved
all the while. Every second the training's resident memory, threads and open files are read from /proc (so: Linux). It
fails where memory passes the limit, or where the last third of the training has more of them than the third before.
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WORDS, VOCABULARY = 200_000, 100_000
CHUNK = 500_000


@dataclasses.dataclass
class Sample:
    """The memory, threads and open files of a process and its children."""

    seconds: float
    training: bool
    memory: float
    """Return the memory in GB, without the pages of mapped files."""
    threads: int
    files: int


def write_text(folder: Path, tokens: int, files: int) -> None:
    """Write Zipf-distributed words, 200 per line, to a number of files."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = np.array(["".join(letters[[i // 26**k % 26 for k in range(4)]]) for i in range(WORDS)], dtype=object)
    shares = np.cumsum(1 / np.arange(1, WORDS + 1))
    folder.mkdir(parents=True)
    for number in range(files):
        with (folder / f"{number:04}.txt").open("w", encoding="ascii") as file:
            left = tokens // files
            while left > 0:
                drawn = words[np.searchsorted(shares, rng.random(min(left, CHUNK)) * shares[-1])]
                lines = (" ".join(drawn[i : i + 200]) for i in range(0, len(drawn), 200))
                file.writelines(f"{line}\n" for line in lines)
                left -= len(drawn)


def measure(pid: int, begin: float, training: bool) -> Sample | None:
    """Return the usage of a process, or None if it has ended."""
    memory, threads, files, waiting = 0.0, 0, 0, [pid]
    try:
        while waiting:
            process = Path("/proc", str(waiting.pop()))
            status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines() if ":" in line)
            memory += (int(status["RssAnon"].split()[0]) + int(status["RssShmem"].split()[0])) / 2**20
            threads += int(status["Threads"])
            files += sum(1 for _ in (process / "fd").iterdir())
            for task in (process / "task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
    except (OSError, KeyError):
        return None
    return Sample(time.monotonic() - begin, training, memory, threads, files)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=100_000_000, help="words of the text (100 M)")
    parser.add_argument("--files", type=int, default=50, help="files that it is in (50)")
    parser.add_argument("--epochs", type=int, default=1, help="passes of training over it (1)")
    parser.add_argument("--limit", type=float, default=2.0, help="GB of memory (2)")
    parser.add_argument("options", nargs="*", help="further options of `skiplight train`")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="skiplight-endurance-"))
    write_text(folder / "text", arguments.tokens, arguments.files)
    size = sum(file.stat().st_size for file in (folder / "text").iterdir())
    print(f"{arguments.tokens:,} words in {arguments.files} files, {size / 1e9:.2f} GB", flush=True)

    run = folder / "run"
    command = [sys.executable, "-m", "skiplight.cli", "train", "data=files", f"data.path={folder / 'text'}"]
    command += ["data.document=line", "data.streaming=true", f"data.store={folder / 'stores'}", "logger=none"]
    command += [f"vocabulary.max_size={VOCABULARY}", "model.dim=100", f"trainer.max_epochs={arguments.epochs}"]
    command += [f"evaluation.every={max(1, arguments.tokens * arguments.epochs // 20)}", "checkpoint.every=10"]
    command += ["evaluation.similarity=[]", "evaluation.heldout_pairs=20000", f"run_dir={run}", *arguments.options]
    process = subprocess.Popen(command)
    begin, samples = time.monotonic(), []
    while process.poll() is None:
        sample = measure(process.pid, begin, (run / "metrics.jsonl").exists())
        if sample is not None:
            samples.append(sample)
            if len(samples) % 30 == 0:
                seconds, memory = f"{sample.seconds:6.0f} s", f"{sample.memory:.2f} GB"
                print(f"{seconds}  {memory}  {sample.threads} threads  {sample.files} files", flush=True)
        time.sleep(1)
    shutil.rmtree(folder)
    if process.returncode:
        sys.exit(f"the training ended with {process.returncode}")

    training = [sample for sample in samples if sample.training]
    third = len(training) // 3
    problems = []
    for name, slack in (("memory", 0.05), ("threads", 0), ("files", 2)):
        counting = max((getattr(s, name) for s in samples if not s.training), default=0)
        middle, last = (max(getattr(s, name) for s in part) for part in (training[third:-third], training[-third:]))
        print(f"{name}: at most {counting:.4g} while counting, {middle:.4g} in the middle, {last:.4g} in the end")
        if last > middle + slack:
            problems.append(f"{name} grew from {middle:.4g} to {last:.4g}")
    most = max(sample.memory for sample in samples)
    if most > arguments.limit:
        problems.append(f"{most:.2f} GB of memory, more than {arguments.limit}")
    print("; ".join(problems) or f"flat over {training[-1].seconds - training[0].seconds:.0f} s of training")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
