"""CSV and TSV are read by column, sequences by their separator, and what a folder has besides is named."""

from __future__ import annotations

import csv
import gzip
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skiplight.corpus import Source, open_source, prepare
from skiplight.errors import DataError

BASKET = ["whole milk", "citrus fruit", "soda"]


def opened(source: str, path: object, cache: Path, **options: object) -> Source:
    return open_source(source, path=str(path), cache=cache, **options)  # type: ignore[arg-type]


def documents(source: Source) -> list[str] | list[list[str]]:
    keys, found = [], []
    for part in source.documents():
        keys += part.keys.tolist()
        found += part.texts.to_pylist()
    assert keys == sorted(keys)
    return found


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".csv.gz"])
def test_a_column_of_a_table_is_the_text(tmp_path: Path, separator: str, suffix: str) -> None:
    text = "\n".join([f"id{separator}text", *(f"{n}{separator}sun moon" for n in range(20))]) + "\n"
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith(".gz") else text.encode("utf-8-sig"))
    assert documents(opened("files", path, tmp_path, column="text")) == ["sun moon"] * 20
    store = prepare(
        opened("files", path, tmp_path), normalise="text8", min_count=1, heldout=0, stores=tmp_path / "stores"
    )
    assert sorted(store.vocabulary.words) == ["moon", "sun"]
    with pytest.raises(DataError, match=r"data\.column=body: there is no such column; there are id, text"):
        documents(opened("files", path, tmp_path, column="body"))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30), min_size=1))
def test_values_are_those_of_the_csv_module(tmp_path_factory: pytest.TempPathFactory, values: list[str]) -> None:
    folder = tmp_path_factory.mktemp("table")
    with (folder / "x.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows(
            [["id", "text"], *([str(n), v] for n, v in enumerate(values))]
        )
    assert documents(opened("files", folder / "x.csv", folder)) == values


def test_rows_are_divided_and_a_separator_can_be_given(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('text~n\n"a, b\nc"~1\nd~2\n')
    assert documents(opened("files", tmp_path / "x.csv", tmp_path, separator="~", document="line")) == [
        "a, b",
        "c",
        "d",
    ]


def test_what_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("id,text\n1,a\n2\n")
    with pytest.raises(DataError, match=r"row 2 of .*short\.csv has 1 of 2 columns"):
        documents(opened("files", tmp_path / "short.csv", tmp_path))
    (tmp_path / "quote.csv").write_text('id,text\n1,"a\n2,b\n')
    with pytest.raises(DataError, match=r"quote\.csv cannot be read as a table, line 3: .*quotation marks"):
        documents(opened("files", tmp_path / "quote.csv", tmp_path))
    (tmp_path / "latin.csv").write_bytes("id,text\n1,caf\u00e9\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv .*UTF-8"):
        documents(opened("files", tmp_path / "latin.csv", tmp_path))
    (tmp_path / "x.xlsx").write_bytes(b"PK\3\4 [Content_Types].xml")
    with pytest.raises(DataError, match=r"x\.xlsx is a document of an office program.*\.csv"):
        opened("files", tmp_path / "x.xlsx", tmp_path)
    with pytest.raises(DataError, match=r"data\.name=x\.xlsx .*`data=files data\.path=x\.xlsx`"):
        open_source("hub", name="x.xlsx", config=None, split="train", revision=None, column="text", cache=tmp_path)
    (tmp_path / "empty.csv").write_text("")
    assert documents(opened("files", tmp_path / "empty.csv", tmp_path)) == []


def test_options_that_plain_text_does_not_have_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("id,text\n1,a\n")
    with pytest.raises(DataError, match=r"data\.column=body: .*x\.txt is read as plain text, which has no columns"):
        opened("files", tmp_path / "x.txt", tmp_path, column="body")
    with pytest.raises(DataError, match=r"data\.separator=',': .* data=sequences"):
        opened("files", tmp_path / "x.txt", tmp_path, separator=",")


@pytest.mark.parametrize(("separator", "mark"), [(",", ","), ("comma", ", "), ("tab", "\t"), ("|", "|"), (";", " ; ")])
@pytest.mark.parametrize("name", ["baskets.txt", "baskets.csv"])
def test_items_of_sequences_are_separated_as_is_asked(tmp_path: Path, name: str, separator: str, mark: str) -> None:
    (tmp_path / name).write_text((mark.join(BASKET) + "\n") * 20 + "soda\n\n")
    source = opened("sequences", tmp_path / name, tmp_path, separator=separator)
    assert documents(source) == [BASKET] * 20 + [["soda"]]
    store = prepare(source, normalise="none", min_count=1, heldout=0, stores=tmp_path / "stores")
    assert sorted(store.vocabulary.words) == sorted(BASKET)
    assert source.fingerprint != opened("sequences", tmp_path / name, tmp_path).fingerprint


def test_items_may_be_in_a_column(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text('user,items\n1,"whole milk,citrus fruit,soda"\n2,soda\n')
    pq.write_table(pa.table({"items": [",".join(BASKET), "soda"]}), tmp_path / "x.parquet")
    for name in ("x.csv", "x.parquet"):
        source = opened("sequences", tmp_path / name, tmp_path, column="items", separator=",")
        assert documents(source) == [BASKET, ["soda"]]


def test_a_table_of_sequences_without_a_separator_is_refused_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(",".join(BASKET) + "\n")
    with pytest.raises(DataError, match=r"its first line has whole milk, citrus fruit, soda.*data\.separator=comma"):
        documents(opened("sequences", tmp_path / "x.csv", tmp_path))
    with pytest.raises(DataError, match=r"data\.separator='::': give one character"):
        opened("sequences", tmp_path / "x.csv", tmp_path, separator="::")


def test_a_folder_says_what_of_it_is_not_read(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("sun moon\n")
    (folder / "b.xlsx").write_bytes(b"PK")
    with caplog.at_level(logging.INFO):
        assert "".join(documents(opened("files", folder, tmp_path))).split() == ["sun", "moon"]  # type: ignore[arg-type]
    assert f"data.path={folder}: 1 .txt are read, 1 .xlsx are not" in caplog.text
    (folder / "c.csv").write_text("text\nstars\n")
    with pytest.raises(DataError, match=r"different kinds \(1 \.txt, 1 \.csv\)"):
        opened("files", folder, tmp_path)
