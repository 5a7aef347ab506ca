"""Sources and normalisers of a user's own: read like those of the package, found again, and refused when wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pytest

from skiplight.corpus import TokenStore, open_source, prepare
from skiplight.errors import ConfigError, DataError
from skiplight.registry import NORMALISERS, SOURCES, register_normaliser, register_source

TEXTS = ["one two two", "three\nthree one", "two"]


@pytest.fixture(autouse=True)
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    for registry in (SOURCES, NORMALISERS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))


def words(source: Any, folder: Path, **options: Any) -> list[list[str]]:
    store = prepare(source, normalise="none", min_count=1, stores=folder / "stores", heldout=0, **options)
    assert isinstance(store, TokenStore)
    names = store.vocabulary.words
    block = store.train.select(0, len(store.train))
    ids = np.split(block.ids, block.segments[1:-1])
    return [[names[word] for word in segment] for segment in ids]


def generated(*, times: int = 1) -> Iterator[str]:
    """A generator of texts."""
    for _ in range(times):
        yield from TEXTS


def listed(*, times: int = 1) -> list[str]:
    """A list of texts."""
    return TEXTS * times


def stored(*, times: int = 1) -> datasets.Dataset:
    """A data set with other columns besides."""
    return datasets.Dataset.from_dict({"id": list(range(3 * times)), "text": TEXTS * times})


def streamed(*, times: int = 1) -> datasets.IterableDataset:
    """A stream of `datasets`."""
    return stored(times=times).to_iterable_dataset()


@pytest.mark.parametrize("function", [generated, listed, stored, streamed])
def test_texts_are_those_of_a_file(tmp_path: Path, function: Any) -> None:
    register_source("own")(function)
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": {text!r}}}\n'.replace("'", '"') for text in TEXTS * 2))
    for unit in ("document", "line"):
        of_file = open_source("files", path=tmp_path / "texts.jsonl", cache=tmp_path, document=unit)
        own = open_source("own", times=2, cache=tmp_path, document=unit)
        assert words(own, tmp_path) == words(of_file, tmp_path)
        assert len(own.units) == 1
        assert next(own.read(own.units[0])).keys[0] == 0


def test_lists_of_tokens_are_sequences_that_are_not_normalised(tmp_path: Path) -> None:
    @register_source("own")
    def sequences(*, path: str = "") -> Iterator[list[Any]]:
        yield from [["New York", 7], ["7", "É"]]

    source = open_source("own", cache=tmp_path)
    assert source.sequences
    assert words(source, tmp_path) == [["New York", "7"], ["7", "É"]]


def test_a_store_is_found_again_by_options_and_the_content_of_files(tmp_path: Path) -> None:
    @register_source("own")
    def lines(*, path: str = "", upper: bool = False) -> Iterator[str]:
        for line in Path(path).read_text().splitlines():
            yield line.upper() if upper else line

    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("one two\n")
    first = open_source("own", path=str(tmp_path / "a.txt"), cache=tmp_path).fingerprint
    assert open_source("own", path=str(tmp_path / "b.txt"), cache=tmp_path).fingerprint == first
    assert open_source("own", path=str(tmp_path / "a.txt"), upper=True, cache=tmp_path).fingerprint != first
    (tmp_path / "a.txt").write_text("one two three\n")
    assert open_source("own", path=str(tmp_path / "a.txt"), cache=tmp_path).fingerprint != first


def fails() -> Iterator[str]:
    """Fails behind its first text."""
    yield "one two"
    raise RuntimeError("the server is gone")


def mixes() -> Iterator[Any]:
    """Yields a number behind its first text."""
    yield "one two"
    yield 3


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: 1 / 0, "data=own: it fails .ZeroDivisionError: division by zero"),
        (lambda: None, "data=own: it returns NoneType, not texts"),
        (lambda: "a text", "data=own: it returns str, not texts"),
        (lambda: [], "data=own: there is nothing in it"),
        (lambda: [3], "data=own: '3' is int, neither a text"),
        (lambda: [{"body": "a"}], "nor a row with a column `text`"),
        (fails, "data=own cannot be read .*the server is gone"),
        (mixes, "data=own.*'3' is int, neither a text"),
    ],
)
def test_a_function_that_gives_no_text_is_named(tmp_path: Path, function: Any, message: str) -> None:
    register_source("own")(function)
    with pytest.raises(DataError, match=message):
        words(open_source("own", cache=tmp_path), tmp_path)
    assert not (tmp_path / "stores").exists() or not list((tmp_path / "stores").glob("*/manifest.json"))


def test_a_normaliser_of_ones_own(tmp_path: Path) -> None:
    @register_normaliser("stems")
    def stems(texts: pa.Array) -> list[str]:
        return [text.rstrip("s") for text in texts.to_pylist()]

    (tmp_path / "text.txt").write_text("cat cats dog dogs s cats")
    source = open_source("files", path=tmp_path / "text.txt", cache=tmp_path)
    store = prepare(source, normalise="stems", min_count=1, stores=tmp_path, heldout=0)
    assert dict(zip(store.vocabulary.words, store.vocabulary.counts.tolist(), strict=True)) == {"cat": 3, "dog": 2}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            lambda texts: texts.nothing,
            r"data.normalise=bad \(tests.corpus.test_own_sources\): it fails .AttributeError",
        ),
        (lambda texts: texts.to_pylist()[:-1], "it makes 2 texts of 3"),
        (lambda texts: [None] * len(texts), "it makes 0 texts of 3"),
        (lambda texts: [1] * len(texts), "it fails"),
    ],
)
def test_a_normaliser_that_is_none_is_named(tmp_path: Path, function: Any, message: str) -> None:
    register_normaliser("bad")(function)
    (tmp_path / "text.txt").write_text("cat cats")
    source = open_source("files", path=tmp_path / "text.txt", cache=tmp_path)
    with pytest.raises(DataError, match=message):
        prepare(source, normalise="bad", min_count=1, stores=tmp_path, heldout=0)


def test_normalisers_have_no_options() -> None:
    with pytest.raises(ConfigError, match=r"`data.normalise=stems` of .* has options"):

        @register_normaliser("stems")
        def stems(texts: pa.Array, *, language: str = "en") -> pa.Array:
            return texts
