"""Attack skiplight by its options, texts, servers, journals, states, files, links and signals.

    python scripts/reliability/attack.py --cases 5000 --minutes 30 --seed 1 --output attack.md

It complements fuzz.py (damaged input of every reader) and kills.py (trainings that are killed). Every case is a process
of its own with a time limit. It may end well, or be refused by one of skiplight's own errors. A traceback, the end by a
signal, a hang, and a result that is another than without the attack are failures; each is printed with the number that
repeats it (`--first N --cases 1`, with the same seed). Runs on Linux, from a checkout.
"""

# ruff: noqa: E402  (the path is set first)

from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]

import fuzz

from skiplight.cli import main as skiplight
from skiplight.config.compose import compose
from skiplight.config.validate import iterate_options
from skiplight.errors import SkiplightError
from skiplight.experiments.collect import collect_trials
from skiplight.experiments.processes import ProcessResult
from skiplight.experiments.sweeps.study import JOURNAL_FILE, Study
from skiplight.training.checkpoints import FolderCheckpointIO, list_checkpoints
from skiplight.training.run_folder import OWN_NAMES
from skiplight.training.signals import SIGNALS
from tests.support.runs import left, train_arguments
from tests.support.servers import FAULTS, WORDS, serving

Case = Callable[[Path, Path, random.Random], str]
"""Given the folder of `prepare`, a folder of its own and dice, returns `taken` or `refused`; asserts what must hold."""

TEXT = WORDS.decode() * 100
LONG = ("epochs", "tokens", "devices", "num_nodes", "dim", "timeout", "every", "callbacks", "plugins", "workers")
"""Parts of the names of options with which a training may rightly take long; they are tried without a text."""

VALUES = [
    "-1", "0", "1", "1e999", "nan", "null", "true", "''", "[]", "{}", "{a: {b: [1]}}", str(2**63), str(-(2**70)),
    "9" * 400, "x" * 5000, "a\0b", "\udcff", "'${oc.env:HOME}'", "'???'", "/dev/zero", "/dev/stdin", "../..", "~no/x",
    "[" * 100 + "]" * 100, "[" * 3000 + "]" * 3000, "http://127.0.0.1:9/x", "'a b'", "\u202e", "auto", "none", "0.5",
]  # fmt: skip


def prepare(folder: Path) -> None:
    """Make a run with a checkpoint at each step, and a study of three trials."""
    (folder / "a.txt").write_text(TEXT)
    options = ["trainer.max_epochs=2", "data.heldout=0", "checkpoint.every=1e-6", "noise.exclude=none", "seed=7"]
    assert skiplight(train_arguments(folder / "a.txt", folder, folder / "run", *options)) == 0
    space = "study.space={noise.exponent: {low: -1, high: 1}, noise.negatives: [5, 15]}"
    study = Study.create_or_load(folder / "study", compose([space, "study.metric=loss"]))
    for number in range(3):
        trial = study.claim()
        if trial is None:
            raise RuntimeError("the study gives out no trial")
        shutil.copy(folder / "run" / "summary.json", trial.run / "summary.json")
        study.finish(trial, ProcessResult("failed", "no text") if number == 1 else ProcessResult("finished"))


def verb(*arguments: str) -> str:
    """Run a verb of the command line."""
    code = skiplight(list(arguments))
    assert code in (0, 2), f"exit code {code}"
    return "taken" if code == 0 else "refused"


def options(base: Path, folder: Path, dice: random.Random) -> str:
    """A value that no option was made for."""
    name = dice.choice([name for name, _ in iterate_options()])
    text = folder / "none.txt" if any(part in name for part in LONG) else base / "a.txt"
    given = train_arguments(text, base, folder / "run", "trainer.max_tokens=2000", "data.heldout=0")
    return verb(*given, f"{name}={dice.choice(VALUES)}")


def texts(base: Path, folder: Path, dice: random.Random) -> str:
    """A text that is none."""
    devices = ["/dev/zero", "/dev/random", "/dev/tty", "/proc/self/mem"]
    kind = dice.choice(["pipe", "socket", *devices, "json", "list", "name"])
    path = folder / "a.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    elif kind.startswith("/"):
        path.symlink_to(kind)
    elif kind == "name":
        path = folder / dice.choice(["x" * 255, "a\nb", "[a]*.txt", "=,{}", "\u202e.txt", "-"])
        path.write_text(TEXT)
    else:
        depth, path = dice.choice([10, 100, 1000, 5000]), folder / dice.choice(["a.jsonl", "a.json"])
        nested = "[" * depth + "]" * depth if kind == "list" else '{"a":' * depth + "1" + "}" * depth
        path.write_text(f'{{"text": "a b c", "x": {nested}}}\n' * 3)
    given = [f"data.path={json.dumps(str(path))}", "trainer.max_tokens=2000", "data.heldout=0", "noise.exclude=none"]
    return verb(*train_arguments(path, folder, folder / "run", *given))


def servers(base: Path, folder: Path, dice: random.Random) -> str:
    """A web server that misbehaves; what is taken is the whole text."""
    fault, size = dice.choice(FAULTS), dice.choice([400, 40_000, 400_000])
    with serving(fault, size) as address:
        given = [f"data.path={address}", "data.timeout=0.5", "trainer.max_tokens=2000", "data.heldout=0"]
        outcome = verb(*train_arguments(Path("x"), folder, folder / "run", *given, "noise.exclude=none"))
    assert outcome == "refused" or fault in ("none", "resets-once", "changes-quietly"), f"a text that {fault} was taken"
    return outcome


def journals(base: Path, folder: Path, dice: random.Random) -> str:
    """A damaged journal: the same table, or an error."""
    study = Path(shutil.copytree(base / "study", folder / "study"))
    before = _table(base / "study")
    journal = study / JOURNAL_FILE
    journal.write_bytes(fuzz.damaged(journal.read_bytes(), dice))
    try:
        found = _table(study)
    except SkiplightError:
        return "refused"
    assert found == before, "another table"
    return "taken"


def _table(folder: Path) -> list[Any]:
    return [(row.number, row.state, row.params, row.metrics) for row in collect_trials(folder).rows]


def states(base: Path, folder: Path, dice: random.Random) -> str:
    """A forged state, with right checksums."""
    run = _unfinished(base, folder)
    checkpoint = list_checkpoints(run / "checkpoints")[-1]
    state = inner = FolderCheckpointIO().load_checkpoint(checkpoint)
    while True:
        key = dice.choice(list(inner) if isinstance(inner, dict) else range(len(inner)))
        if not isinstance(inner[key], dict | list) or not inner[key] or dice.random() < 0.3:
            break
        inner = inner[key]
    values = [None, [], {}, "x", -1, 2**70, 1.5, float("nan"), "[" * 100_000, [1], {"a": 1}, True]
    if dice.random() < 0.2:
        del inner[key]
    else:
        inner[key] = dice.choice(values)
    state.setdefault("global_step", 0)
    shutil.rmtree(checkpoint)
    try:
        FolderCheckpointIO().save_checkpoint(state, checkpoint)
    except (AttributeError, TypeError, KeyError):
        return "refused"  # a state without tables cannot be written
    return verb("resume", str(run))


def _unfinished(base: Path, folder: Path) -> Path:
    run = Path(shutil.copytree(base / "run", folder / "run"))
    (run / "summary.json").unlink()
    shutil.rmtree(run / "vectors")
    return run


def files(base: Path, folder: Path, dice: random.Random) -> str:
    """A file of a run that is damaged, or that is a pipe, a device or a folder: the same words, or an error."""
    run = Path(shutil.copytree(base / "run", folder / "run"))
    file = dice.choice(sorted(path for path in run.rglob("*") if path.is_file()))
    kind = dice.choice(["damage", "damage", "damage", "pipe", "device", "folder", "closed"])
    data = file.read_bytes()
    if kind == "closed":
        file.chmod(0)
    else:
        file.unlink()
    if kind == "damage":
        file.write_bytes(fuzz.damaged(data, dice))
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "device":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    outcome = verb("export", str(run), "--format", "word2vec", "--output", str(folder / "out"))
    if outcome == "taken":
        assert verb("export", str(base / "run"), "--format", "word2vec", "--output", str(folder / "right")) == "taken"
        assert (folder / "out").read_bytes() == (folder / "right").read_bytes(), "other vectors"
    verb("report", str(run))
    verb("resume", str(run))
    return outcome


def links(base: Path, folder: Path, dice: random.Random) -> str:
    """A link in a run's folder: nothing is written where it leads."""
    run, outside = _unfinished(base, folder), folder / "outside"
    name = dice.choice([*OWN_NAMES, "plots", ".tmp-1-summary.json"])
    shutil.rmtree(run / name, ignore_errors=True) if (run / name).is_dir() else (run / name).unlink(missing_ok=True)
    outside.mkdir() if dice.random() < 0.5 else outside.write_text("of another user")
    (run / name).symlink_to(outside)
    outcome = verb("resume", str(run))
    verb("report", str(run))
    same = not list(outside.iterdir()) if outside.is_dir() else outside.read_text() == "of another user"
    assert same, f"written through the link {name}"
    return outcome


def signals(base: Path, folder: Path, dice: random.Random) -> str:
    """One to three signals to a training, which is then resumed: the same result."""
    options = ["trainer.max_epochs=2", "data.heldout=0", "checkpoint.every=1e-6", "noise.exclude=none", "seed=7"]
    arguments, run = train_arguments(base / "a.txt", base, folder / "run", *options), folder / "run"
    child = os.fork()
    if child == 0:
        os._exit(skiplight(arguments))
    while not run.exists() and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        time.sleep(0.005)
    for _ in range(dice.choice([1, 1, 2, 3])):
        time.sleep(dice.uniform(0, 1) ** 2)
        os.kill(child, dice.choice(SIGNALS))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    begun = (run / "metrics.jsonl").exists() and code > 0
    assert code in (0, *(128 + number for number in SIGNALS)) or not begun, f"exit code {code}"
    if not (run / "summary.json").exists():
        assert verb("resume", str(run)) == "taken"
    assert left(run) == left(base / "run"), "another result"
    return "taken"


CASES: tuple[Case, ...] = (options, texts, servers, journals, states, files, links, signals)


def attempt(case: Case, base: Path, dice: random.Random, seconds: float) -> tuple[str, str]:
    """Run a case in a process of its own, and return how it ended and what it said."""
    folder = Path(tempfile.mkdtemp(prefix="skiplight-attack-"))
    log = folder / "said"
    child = os.fork()
    if child == 0:
        os.setsid()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        (folder / "own").mkdir()
        try:
            word = case(base, folder / "own", dice)
            print(word, flush=True)
            os._exit(0)
        except AssertionError as error:
            print(f"wrong: {error}", flush=True)
            os._exit(1)
        except BaseException:
            traceback.print_exc()
            os._exit(3)
    deadline, status = time.monotonic() + seconds, None
    while status is None and time.monotonic() < deadline:
        found, code = os.waitpid(child, os.WNOHANG)
        status = code if found else None
        time.sleep(0.01)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if status is None:
        os.waitpid(child, 0)
    said = log.read_text(errors="replace") if log.exists() else ""
    shutil.rmtree(folder, ignore_errors=True)
    if status is None:
        return "hang", said
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"signal {-code}", said
    if "Traceback (most recent call last)" in said:
        return "traceback", said
    lines = said.splitlines() or [""]
    return (lines[-1] if code == 0 else "wrong"), said


def attempt_number(
    kinds: Sequence[Case], base: Path, seed: int, seconds: float, end: float, number: int
) -> tuple[str | None, str]:
    """Run the case of a number, as `attempt` does; None if the time is over."""
    if time.monotonic() > end:
        return None, ""
    return attempt(kinds[number % len(kinds)], base, random.Random(f"{seed} {number}"), seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000, help="cases to try (5000)")
    parser.add_argument("--minutes", type=float, default=30, help="stop after so long (30)")
    parser.add_argument("--seconds", type=float, default=120, help="limit of a case (120)")
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)), help="cases at once (cores)")
    parser.add_argument("--only", choices=[case.__name__ for case in CASES], help="cases of one kind")
    parser.add_argument("--output", type=Path, help="file for the table, in Markdown")
    arguments = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    base = Path(tempfile.mkdtemp(prefix="skiplight-attack-"))
    made, said = attempt(lambda *_: prepare(base) or "taken", base, random.Random(0), 600)
    if made != "taken":
        sys.exit(f"nothing to attack could be made: {said}")
    kinds = [case for case in CASES if arguments.only in (None, case.__name__)]
    counts: dict[str, collections.Counter[str]] = {case.__name__: collections.Counter() for case in kinds}
    end, failures = time.monotonic() + 60 * arguments.minutes, 0
    trying = functools.partial(attempt_number, kinds, base, arguments.seed, arguments.seconds, end)
    numbers = range(arguments.first, arguments.first + arguments.cases)
    with multiprocessing.get_context("fork").Pool(arguments.workers) as pool:
        for number, (outcome, said) in zip(numbers, pool.imap(trying, numbers), strict=True):
            if outcome is None:
                continue
            name = kinds[number % len(kinds)].__name__
            counts[name][outcome.split()[0]] += 1
            if outcome not in ("taken", "refused"):
                failures += 1
                print(f"case {number} ({name}): {outcome}\n{said[-3000:]}", flush=True)
    shutil.rmtree(base)
    columns = ("taken", "refused", "wrong", "traceback", "signal", "hang")
    rows = [f"| attack | tried | {' | '.join(columns)} |", "|---" * (2 + len(columns)) + "|"]
    for name, found in [*counts.items(), ("all", sum(counts.values(), collections.Counter()))]:
        rows.append(f"| {name} | {found.total():,} | {' | '.join(f'{found[column]:,}' for column in columns)} |")
    print("\n".join(rows))
    if arguments.output:
        arguments.output.write_text("\n".join(rows) + "\n")
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
