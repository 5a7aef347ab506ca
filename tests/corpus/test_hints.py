"""What a text shows of a wrong option is said, with the option that is right."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skiplight.corpus import TokenStore, open_source, prepare
from skiplight.errors import DataError


def build(folder: Path, text: str, source: str = "files", normalise: str = "none", min_count: int = 5) -> TokenStore:
    (folder / "text.txt").write_text(text)
    opened = open_source(source, path=folder / "text.txt", cache=folder)
    store = prepare(opened, normalise=normalise, min_count=min_count, heldout=0, stores=folder / "stores")
    assert isinstance(store, TokenStore)
    return store


@pytest.mark.parametrize(
    ("line", "source", "mark"),
    [
        ("whole milk;soda;milk", "files", "semicolon"),
        ("milk,soda", "sequences", "comma"),
        ("milk|soda", "sequences", "pipe"),
        ("milk;soda", "files", "semicolon"),
    ],
)
def test_a_separator_that_is_missing_is_named(tmp_path: Path, line: str, source: str, mark: str) -> None:
    text = f"{line.replace(' ', '_')}\n" * 100
    with pytest.raises(DataError, match=f"looks like several: give `data=sequences data.separator={mark}`"):
        build(tmp_path, text, source)


def test_sequences_of_one_item_each_are_no_vocabulary_that_is_too_small(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"each sequence is one word, such as '.;.;.', which looks like several"):
        build(tmp_path, "a;b;c\nb;c;d\n" * 100, "sequences")


def test_punctuation_in_text_is_no_separator(tmp_path: Path) -> None:
    assert len(build(tmp_path, "one,two three\n" * 100).vocabulary) == 2
    with pytest.raises(DataError, match=r"one word.*vocabulary\.min_count=5: lower it"):
        build(tmp_path, "word\n" * 100)


@pytest.mark.parametrize("normalise", ["text8", "unicode", "none"])
def test_words_that_are_split_at_underscores_are_named(
    tmp_path: Path, normalise: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "skiplight")
    build(tmp_path, "nhà_thi_đấu đẹp lắm\n" * 100, normalise=normalise)
    note = f"data.normalise={normalise} splits words at underscores, such as 'nhà_thi_đấu': `data.normalise=none` keeps"
    assert (note in caplog.text) == (normalise != "none")
    caplog.clear()
    build(tmp_path, "a plain text __init__ _\n" * 100, normalise=normalise)
    assert "underscores" not in caplog.text


def test_a_type_of_thousands_of_characters_is_cut(tmp_path: Path) -> None:
    nested = pa.struct([(f"field_{number}", pa.float64()) for number in range(1000)])
    pq.write_table(pa.table({"text": pa.array([None], nested)}), tmp_path / "nested.parquet")
    opened = open_source("files", path=tmp_path / "nested.parquet", cache=tmp_path)
    with pytest.raises(DataError, match=r"data\.column=text has struct<field_0: double, .* \.\.\., not text") as error:
        list(opened.documents())
    assert len(str(error.value)) < 250
