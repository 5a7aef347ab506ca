"""Give skiplight damaged texts, vocabularies, vectors, stores, checkpoints, evaluation files and configs.

    python scripts/reliability/fuzz.py --minutes 30 --seed 1

An input may be taken, or be refused with one of skiplight's own errors. Any other exception and a process that dies
are crashes, more than a minute for one input is a hang; each is printed with the number that repeats it (`--first N
--inputs 1`). What is taken must also hold together: a store's counts are its tokens, its stream has as many.
"""

from __future__ import annotations

import argparse
import bz2
import collections
import gzip
import itertools
import json
import logging
import lzma
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from skiplight.config.validate import load_config, save_config
from skiplight.corpus import TokenStore, TokenStream, Vocabulary, open_source, prepare
from skiplight.errors import SkiplightError
from skiplight.evaluation.analogy import read_questions
from skiplight.evaluation.similarity import read_pairs
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from skiplight.training.checkpoints import FolderCheckpointIO
from skiplight.vectors.word_vectors import WordVectors

HANG_SECONDS = 60
WORDS = ["the", "of", "naïve", "東京", "שלום", "مرحبا", "é́́", "\u200d", "a\u0301", "12", "\u202eabc", "ﬁ", "𝒳"]
SPACES = [" ", "\n", "\t", "\r\n", "\n\n", "\v", "\f", "\x85", "\u2028", "\x1c", "\u00a0", "  "]


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Return a copy with bytes cut, flipped, overwritten, repeated or inserted."""
    at, other = sorted(dice.choices(range(len(data) + 1), k=2))
    some = dice.randbytes(dice.choice([1, 2, 8, 64]))
    kind = dice.randrange(7)
    if kind == 0:
        return data[:at]
    if kind == 1:
        changed = bytearray(data)
        for place in dice.choices(range(len(data)), k=dice.choice([1, 1, 3, 20])) if data else []:
            changed[place] ^= 1 << dice.randrange(8)
        return bytes(changed)
    parts = {
        2: some,
        3: b"",
        4: data[at:other] * 2,
        5: bytes(other - at),
        6: dice.choice([b"\0", b"\xff\xfe", b"\xef\xbb\xbf"]),
    }
    return data[:at] + parts[kind] + data[other:]


def text(dice: random.Random) -> bytes:
    kind = dice.randrange(12)
    size = dice.choice([0, 1, 7, 100, 5000, 200_000])
    if kind == 0:
        return dice.randbytes(size)
    if kind == 1:
        return bytes(dice.choices([*range(33), 127, *b"ab \n"], k=size))
    if kind == 2:
        return b"word " * size
    if kind == 3:
        return b"x" * size * 30
    if kind == 4:
        return dice.choice([b"\n", b" ", b"a\n", b"\r\n", b"\xef\xbb\xbf"]) * size
    if kind == 5:
        characters = (
            chr(dice.choice([dice.randrange(0x20, 0x3000), dice.randrange(0xE000, 0x30000)])) for _ in range(size)
        )
        return "".join(characters).encode("utf-8", "ignore")
    mixed = "".join(dice.choice(WORDS) + dice.choice(SPACES) for _ in range(size)).encode()
    return damaged(mixed, dice) if kind == 6 else mixed


def corpus(folder: Path, dice: random.Random) -> None:
    """Try a text in a file of some kind, compressed or not, stored and streamed."""
    data, kind = text(dice), dice.choice(["txt", "txt", "jsonl", "parquet", "text8"])
    lines = data.decode("utf-8", "replace").split("\n")
    if kind == "jsonl":
        data = b"".join(json.dumps({"text": line}, ensure_ascii=dice.random() < 0.5).encode() + b"\n" for line in lines)
    elif kind == "parquet":
        pq.write_table(pa.table({"text": pa.array(lines, pa.string())}), folder / "whole", row_group_size=100)
        data = (folder / "whole").read_bytes()
        (folder / "whole").unlink()
    if kind in ("jsonl", "parquet") and dice.random() < 0.6:
        data = damaged(data, dice)
    name = f"a.{kind}"
    packed = dice.choice([None, None, None, ("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
    if packed and kind != "parquet":
        name, data = f"{name}.{packed[0]}", packed[1](data)
        data = damaged(data, dice) if dice.random() < 0.6 else data
    (folder / name).write_bytes(data)
    document = dice.choice(["document", "line", "paragraph"])
    kinds = dice.choice(["files", "files", "files", "sequences"])
    source = open_source(kinds, path=folder / name, document=document, cache=folder, max_bytes=50_000_000)
    options = {"normalise": dice.choice(["text8", "unicode", "none"]), "min_count": dice.choice([1, 2])}
    store = prepare(source, **options, heldout=dice.choice([0, 0.3]), stores=folder / "stores", threads=1)
    assert isinstance(store, TokenStore)
    store.verify()
    held_together(store)
    stream = prepare(source, **options, heldout=store.manifest["options"]["heldout"], stores=folder / "stores",
                     streaming=True, threads=1)  # fmt: skip
    assert isinstance(stream, TokenStream)
    assert sum(part.tokens for part in stream.segments(range(len(stream.units)))) == store.train.tokens


def held_together(store: TokenStore) -> None:
    assert int(store.vocabulary.counts.sum()) == store.train.tokens
    sampler = WindowSampler(store.vocabulary.counts, seed=1)
    windows = sampler(TokenBlock.of([store.train.select(0, 1).ids.tolist()]))
    assert windows.pairs == len(windows.inputs)


def vocabulary(folder: Path, dice: random.Random) -> None:
    words = list(dict.fromkeys(dice.choice(WORDS) + dice.choice(["", "\t", "\\", "\n", "\r", "x"]) for _ in range(30)))
    path = folder / "vocabulary.tsv"
    Vocabulary(words, sorted(dice.choices(range(1, 1000), k=len(words)), reverse=True)).save(path)
    path.write_bytes(damaged(path.read_bytes(), dice))
    found = Vocabulary.load(path)
    found.save(folder / "again.tsv")
    assert Vocabulary.load(folder / "again.tsv").words == found.words


def vectors(folder: Path, dice: random.Random) -> None:
    WordVectors(Vocabulary(["a", "b\t", "東"], [5, 3, 1]), torch.ones(3, 4), torch.zeros(3, 4)).save(folder, "# card")
    file = folder / dice.choice(["vectors.safetensors", "vectors.safetensors", "vocabulary.tsv", "README.md"])
    file.write_bytes(damaged(file.read_bytes(), dice))
    WordVectors.load(folder, verify=dice.random() < 0.5).unit()


def store(folder: Path, dice: random.Random) -> None:
    (folder / "a.txt").write_text("to be or not to be\n" * 500)
    source = open_source("files", path=folder / "a.txt", document="line", cache=folder)
    whole = prepare(source, normalise="text8", min_count=1, heldout=0.1, stores=folder / "stores", threads=1)
    assert isinstance(whole, TokenStore)
    right = whole.train.select(0, len(whole.train)).ids.copy()
    file = dice.choice(sorted(whole.path.iterdir()))
    data = damaged(file.read_bytes(), dice)
    file.unlink()  # the old one stays mapped
    file.write_bytes(data)
    found = TokenStore(whole.path)
    assert np.array_equal(found.train.select(0, len(found.train)).ids, right), "damage was not found"
    assert found.vocabulary.words == whole.vocabulary.words, "damage was not found"


def checkpoint(folder: Path, dice: random.Random) -> None:
    reader, path = FolderCheckpointIO(), folder / "step-1"
    state = {"state_dict": {"a": torch.ones(3, 2)}, "global_step": 1, "loops": {"b": [1, 2.5, "c", None]}}
    reader.save_checkpoint(state, path)
    file = dice.choice(sorted(path.iterdir()))
    file.write_bytes(damaged(file.read_bytes(), dice))
    assert torch.equal(reader.load_checkpoint(path)["state_dict"]["a"], torch.ones(3, 2)), "damage was not found"


def evaluation(folder: Path, dice: random.Random) -> None:
    words = [dice.choice(WORDS) for _ in range(40)]
    path = folder / "set.txt"
    tab = dice.choice(["\t", " "])
    pairs = "\n".join(
        f"{a}{tab}{b}{tab}{dice.choices([1, 2.5, -3, 'nan', '1e999'], [90, 90, 9, 1, 1])[0]}"
        for a, b in itertools.pairwise(words)
    )
    questions = ": section\n" + "\n".join(" ".join(words[i : i + 4]) for i in range(0, 36, 4))
    path.write_bytes(damaged(dice.choice([pairs, questions]).encode(), dice))
    dice.choice([read_pairs, read_questions])(path)


def config(folder: Path, dice: random.Random) -> None:
    from skiplight.config.compose import compose

    path = folder / "config.yaml"
    save_config(compose([]), path)
    lines = path.read_text().split("\n")
    strange = [
        "_target_: os.system", "hydra: {run: {dir: x}}", "seed: ${oc.env:HOME}", "seed: !!python/name:os.system ''",
        "a: &a [*a]", "? [1]\n: 2", "1: 2", "seed: 2020-01-01", "seed: !!binary aGk=", "model: null", "data: [1]",
        "model: {dim: 1e999}", "seed: " + "[" * 3000, "x: " + "{a: " * 500, "seed: ???", "optim: {lr: .nan}",
        "trainer: {max_epochs: " + "9" * 5000 + "}", "data: {path: {a: 1}}", "seed: !!set {a, b}",
    ]  # fmt: skip
    for _ in range(dice.randrange(3)):
        lines.insert(dice.randrange(len(lines)), dice.choice(strange))
    data = "\n".join(lines).encode()
    path.write_bytes(damaged(data, dice) if dice.random() < 0.6 else data)
    load_config(path)


KINDS: list[Callable[[Path, random.Random], None]] = [
    corpus, corpus, corpus, vocabulary, vectors, store, checkpoint, evaluation, config,
]  # fmt: skip


def large(folder: Path) -> None:
    """Try the two extreme shapes of text: one document of ten million words, and a million documents of one word."""
    for name, data, document in (("long", b"to be or not ", "document"), ("many", b"to\nbe\n", "line")):
        (folder / f"{name}.txt").write_bytes(data * (2_500_000 if name == "long" else 500_000))
        source = open_source("files", path=folder / f"{name}.txt", document=document, cache=folder)
        found = prepare(source, normalise="text8", min_count=1, stores=folder / "stores")
        assert isinstance(found, TokenStore)
        assert found.manifest["documents"] == (1 if name == "long" else 1_000_000), found.manifest["documents"]
        held_together(found)


def work(first: int, seed: int) -> None:
    """Try one input after the other and print the result of each, until the process is ended."""
    logging.disable(logging.CRITICAL)
    os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
    for number in itertools.count(first):
        kind = KINDS[number % len(KINDS)]
        print(f"begin {number} {kind.__name__}", flush=True)
        folder = Path(tempfile.mkdtemp(prefix="skiplight-fuzz-"))
        outcome = "taken"
        try:
            large(folder) if number == 0 else kind(folder, random.Random(f"{seed} {number}"))
        except SkiplightError:
            outcome = "refused"
        except Exception:
            outcome = "crash " + json.dumps(traceback.format_exc())
        shutil.rmtree(folder)
        print(f"end {number} {outcome}", flush=True)


def pass_on(output: IO[str], lines: queue.Queue[str]) -> None:
    for line in itertools.chain(output, [""]):
        lines.put(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--inputs", type=int, default=sys.maxsize, help="stop after so many")
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.first, arguments.seed)

    end, next_input, running = time.monotonic() + 60 * arguments.minutes, arguments.first, ""
    last = arguments.first + arguments.inputs
    kinds: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    while next_input < last and time.monotonic() < end:
        command = [sys.executable, __file__, "--worker", "--first", str(next_input), "--seed", str(arguments.seed)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=pass_on, args=(process.stdout, lines), daemon=True).start()
        while next_input < last and time.monotonic() < end:
            try:
                line = lines.get(timeout=HANG_SECONDS * (3 if running == "" else 1))
            except queue.Empty:
                outcome = "hang"
            else:
                if line.startswith("begin"):
                    running = line.split()[2]
                    continue
                outcome = line.split(maxsplit=2)[2] if line else f"crash, exit code {process.wait()}"
            word = outcome.split()[0].rstrip(",")
            kinds[running][word] += 1
            if word in ("crash", "hang"):
                print(f"input {next_input} ({running}): {outcome}".replace("\\n", "\n"), flush=True)
            next_input += 1
            if word == "hang" or outcome.startswith("crash,"):
                break
        process.kill()
        process.wait()

    columns = ("taken", "refused", "crash", "hang")
    print("| input | tried | taken | refused | crashes | hangs |\n|---|---|---|---|---|---|")
    for kind, counts in [*kinds.items(), ("all", sum(kinds.values(), collections.Counter()))]:
        print(f"| {kind} | {counts.total():,} | {' | '.join(f'{counts[column]:,}' for column in columns)} |")
    sys.exit(any(counts["crash"] or counts["hang"] for counts in kinds.values()))


if __name__ == "__main__":
    main()
