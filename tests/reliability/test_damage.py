"""Whatever is read may be damaged: it is taken as it is or refused by name, never half read and never a traceback."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skiplight.config.schema import Config
from skiplight.config.validate import load_config, save_config
from skiplight.corpus import TokenStore, Vocabulary, open_source, prepare
from skiplight.errors import ConfigError, DataError, RunError, SkiplightError
from skiplight.evaluation.analogy import read_questions
from skiplight.evaluation.similarity import read_pairs
from skiplight.training.checkpoints import FolderCheckpointIO, verify_checkpoint
from skiplight.training.run_folder import RunFolder
from skiplight.vectors.word_vectors import WordVectors

few = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = st.sampled_from(["word", "naïve", "שלום", "a\u0301", "\u202e", "\0", "\x1b[2J", "\x85", "東京", "x" * 3000])
TEXTS = st.one_of(
    st.binary(max_size=300),
    st.lists(WORDS, max_size=60).map(lambda words: " ".join(words).encode()),
    st.text(st.characters(codec="utf-8"), max_size=200).map(str.encode),
)


def hurt(data: bytes, place: float, change: Callable[[bytes], bytes]) -> bytes:
    at = int(place * len(data))
    return data[:at] + change(data[at:])


def read_or_refused(read: Callable[[], Any], name: object) -> Any:
    """What was read; None where it was refused by an error that names the file or folder."""
    try:
        return read()
    except SkiplightError as error:
        message = str(error)
    assert str(name) in message
    return None


PLACES = st.floats(0, 0.999)
CHANGES = st.sampled_from(
    [
        lambda rest: b"",
        lambda rest: bytes([rest[0] ^ 1]) + rest[1:],
        lambda rest: bytes([rest[0] ^ 128]) + rest[1:],
        lambda rest: rest * 2,
        lambda rest: bytes(len(rest)),
    ]
)


@few
@given(TEXTS, st.sampled_from(["text8", "unicode", "none"]), st.sampled_from(["document", "line", "paragraph"]))
def test_any_bytes_are_a_text_or_refused(tmp_path: Path, data: bytes, normalise: str, document: str) -> None:
    (tmp_path / "text.txt").write_bytes(data)
    source = open_source("files", path=tmp_path / "text.txt", document=document, cache=tmp_path / "cache")
    try:
        store = prepare(source, normalise=normalise, min_count=1, heldout=0, stores=tmp_path / "stores", threads=1)
    except SkiplightError:
        return
    assert isinstance(store, TokenStore)
    store.verify()
    assert store.vocabulary.counts.sum() == store.train.tokens == store.manifest["raw_tokens"]
    words = [word for word in store.vocabulary.words if word.split() != [word] or not word]
    assert not words, "white space is in no word"


def test_strings_of_parquet_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\4\0\0\0"), pa.py_buffer(b"a \xff\xfe"))
    pq.write_table(pa.table({"text": bad}), tmp_path / "a.parquet")
    source = open_source("files", path=tmp_path / "a.parquet", cache=tmp_path)
    for normalise in ("text8", "unicode", "none"):
        with pytest.raises(DataError, match=r"a\.parquet cannot be read"):
            prepare(source, normalise=normalise, min_count=1, heldout=0, stores=tmp_path / "stores")


@few
@given(PLACES, CHANGES, st.data())
def test_damaged_vectors_and_vocabularies_are_refused_or_whole(tmp_path: Path, place, change, data) -> None:
    whole = WordVectors(Vocabulary(["a", "b\t", "東"], [5, 3, 1]), torch.ones(3, 4), torch.zeros(3, 4))
    whole.save(tmp_path)
    file = tmp_path / data.draw(st.sampled_from(["vectors.safetensors", "vocabulary.tsv"]))
    file.write_bytes(hurt(file.read_bytes(), place, change))
    found = read_or_refused(lambda: WordVectors.load(tmp_path, verify=True), tmp_path)
    if found is not None:
        assert found.vocabulary.words == whole.vocabulary.words
        assert torch.equal(found.input, whole.input)


@few
@given(PLACES, CHANGES, st.sampled_from(["manifest.json", "state.pt", "tables-0.safetensors"]))
def test_damaged_checkpoints_are_refused_or_whole(tmp_path_factory, place, change, name) -> None:
    folder = tmp_path_factory.mktemp("checkpoint") / "step-1"
    FolderCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(2, 2)}, "global_step": 7}, folder)
    (folder / name).write_bytes(hurt((folder / name).read_bytes(), place, change))
    found = read_or_refused(lambda: FolderCheckpointIO().load_checkpoint(folder), folder)
    assert found is None or (found["state_dict"]["a"].tolist(), found["global_step"]) == ([[1, 1], [1, 1]], 7)


@few
@given(
    st.binary(max_size=200)
    | st.lists(WORDS | st.sampled_from([":", "\n", "\t", "1", "nan"])).map(lambda w: " ".join(w).encode())
)
def test_any_bytes_are_an_evaluation_set_or_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "set.txt").write_bytes(data)
    for read in (read_pairs, read_questions):
        read_or_refused(functools.partial(read, tmp_path / "set.txt"), "set.txt")


@few
@given(PLACES, CHANGES)
def test_damaged_configs_are_refused_or_configs(tmp_path: Path, place, change) -> None:
    save_config(Config(), tmp_path / "config.yaml")
    (tmp_path / "config.yaml").write_bytes(hurt((tmp_path / "config.yaml").read_bytes(), place, change))
    assert isinstance(read_or_refused(lambda: load_config(tmp_path / "config.yaml"), ""), Config | None)


def test_a_logger_without_options_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("logger:\n  csv: {}\n  wandb:\n")
    assert list(load_config(tmp_path / "config.yaml").logger) == ["csv"]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "seed: [" + "[" * 5000,
        "1: 2",
        "seed: 2020-01-01",
        "seed: !!binary aGk=",
        "seed: ???",
        "x" * (1 << 21),
    ],
)
def test_a_config_that_would_grow_or_is_not_plain_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(tmp_path / "config.yaml")


def test_a_checkpoint_that_would_run_code_does_not(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "evil"), "w"))

    folder = tmp_path / "step-1"
    FolderCheckpointIO().save_checkpoint({"state_dict": {}, "global_step": 1, "evil": Evil()}, folder)
    verify_checkpoint(folder)
    with pytest.raises(RunError, match="not written by skiplight"):
        FolderCheckpointIO().load_checkpoint(folder)
    assert not (tmp_path / "evil").exists()


def test_newer_and_damaged_files_of_a_run_are_named(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.create(Config())
    with pytest.raises(RunError, match="not finished"):
        run.read_summary()
    run.write_summary({"loss": 1.0})
    assert run.read_summary() == {"format": 1, "loss": 1.0}
    for text, message in (('{"format": 9}', "format 9, newer"), ("{", "damaged"), ("[]", "damaged")):
        run.summary.write_text(text)
        with pytest.raises(RunError, match=message):
            run.read_summary()
    for name in ("../../x", "", 3, None):
        (run.path / "environment.json").write_text(json.dumps({"id": name}))
        with pytest.raises(RunError, match=r"environment\.json is damaged"):
            assert run.id
