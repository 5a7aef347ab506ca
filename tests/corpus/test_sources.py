"""Reading text of all kinds from all places, and what is said of text that cannot be read."""

import bz2
import gzip
import http.server
import importlib.util
import json
import lzma
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skiplight.corpus import Source, TokenStore, open_source, prepare
from skiplight.corpus.text.documents import SHARD_ROWS
from skiplight.errors import DataError

TEXT = "First line\nsecond  line\n\nNext paragraph\n \nLast one\n"
LINES = [["First", "line"], ["second", "line"], [], ["Next", "paragraph"], [], ["Last", "one"]]
PARAGRAPHS = [["First", "line", "second", "line"], ["Next", "paragraph"], ["Last", "one"]]


def read(source: Source, shard: int = 0) -> dict[int, list[str]]:
    """The words of each document of a file, by its position there."""
    found: dict[int, list[str]] = {}
    for unit in source.units:
        for part in source.read(unit) if unit.shard == shard else ():
            for key, text in zip(part.keys.tolist(), part.texts.to_pylist(), strict=True):
                position = key - shard * SHARD_ROWS
                found.setdefault(position, []).extend(text.split() if isinstance(text, str) else text)
    return found


def shards(source: Source) -> int:
    return len({unit.shard for unit in source.units})


def files(path: object, **options: str) -> Source:
    folder = Path(str(path[0] if isinstance(path, list) else path))
    cache = Path(str(options.pop("cache", folder.parent / "cache")))
    return open_source(options.pop("source", "files"), path=path, cache=cache, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".parquet", ""])
def test_lines_paragraphs_and_documents(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"text{suffix}"
    if suffix == ".jsonl":
        path.write_text(json.dumps({"id": 1, "body": TEXT}) + "\n" + json.dumps({"id": 2, "body": None}) + "\n")
    elif suffix == ".parquet":
        pq.write_table(pa.table({"id": [1, 2], "body": [TEXT, None]}), path)
    else:
        path.write_text(TEXT)
    tail = 0 if suffix in ("", ".txt") else 1  # the null is a document without words
    for unit, expected in (("line", LINES), ("paragraph", PARAGRAPHS), ("document", [TEXT.split()])):
        column = {} if suffix in ("", ".txt") else {"column": "body"}
        source = files(path, document=unit, **column)
        found = list(read(source).values())
        assert [words for words in found if words] == [words for words in expected if words]
        keys = list(read(source))
        assert keys == sorted(keys)
        assert len(keys) >= len(expected) + tail
        if suffix in ("", ".txt"):
            data = path.read_bytes()
            assert all(key == 0 or data[key - 1 : key] == b"\n" for key in keys)
        elif suffix == ".parquet" and unit == "document":
            assert keys == [0, 1]


def test_carriage_returns_and_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "dos.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.replace("\n", "\r\n").encode())
    found = read(files(tmp_path / "dos.txt", document="paragraph"))
    assert [words for words in found.values() if words] == PARAGRAPHS


@pytest.mark.parametrize("suffix", [".txt", ".jsonl"])
@pytest.mark.parametrize(("compression", "module"), [(".gz", gzip), (".bz2", bz2), (".xz", lzma)])
def test_compressed_files(tmp_path: Path, suffix: str, compression: str, module) -> None:  # type: ignore[no-untyped-def]
    text = "a b\nc\n" if suffix == ".txt" else '{"text": "a b"}\n{"text": "c"}\n'
    path = tmp_path / f"text{suffix}{compression}"
    path.write_bytes(module.compress(text.encode()))
    found = read(files(path, document="line"))
    assert [words for words in found.values() if words] == [["a", "b"], ["c"]]


@pytest.mark.parametrize(("compression", "suffix", "library"), [("zstd", ".zst", "zstandard"), ("lz4", ".lz4", "lz4")])
def test_files_compressed_as_python_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compression: str, suffix: str, library: str
) -> None:
    for name, text in (("text.txt", "a b\nc\n"), ("text.jsonl", '{"text": "a b"}\n{"text": "c"}\n')):
        path = tmp_path / f"{name}{suffix}"
        with pa.CompressedOutputStream(str(path), compression) as file:
            file.write(text.encode())
        if importlib.util.find_spec(library):
            found = read(files(path, document="line"))
            assert [words for words in found.values() if words] == [["a", "b"], ["c"]]
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(DataError, match=rf"text\.jsonl\{suffix} cannot be read without the package {library}: pip"):
        files(path)


def test_folders_patterns_and_lists_are_shards_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "text [1]"
    (folder / "deep").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name in ("b.txt", "a.txt", "deep/c*.txt", "README.md", ".hidden.txt", ".git/d.txt"):
        (folder / name).write_text(f"from {name[0]}")
    source = files(folder)
    assert [read(source, shard)[0] for shard in range(shards(source))] == [["from", name] for name in "abd"]
    pattern = files(str(tmp_path / "text*" / "*.txt"))
    assert shards(pattern) == 2
    listed = files([folder / "b.txt", folder / "a.txt"])
    assert [read(listed, shard)[0][1] for shard in range(2)] == ["b", "a"]
    assert listed.fingerprint != pattern.fingerprint
    assert read(pickle.loads(pickle.dumps(source)), 1)[0] == ["from", "b"]


def test_the_hash_of_a_file_is_kept_until_it_changes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one two")
    first = files(tmp_path / "a.txt").fingerprint
    assert files(tmp_path / "a.txt").fingerprint == first
    (tmp_path / "a.txt").write_text("one three")
    assert files(tmp_path / "a.txt").fingerprint != first
    (tmp_path / "cache" / "file-hashes.json").write_text("broken")
    (tmp_path / "a.txt").write_text("one two")
    assert files(tmp_path / "a.txt").fingerprint == first


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    (tmp_path / "served").mkdir()
    handler = partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_urls(tmp_path: Path, server: str) -> None:
    (tmp_path / "served" / "a.txt").write_text(TEXT)
    (tmp_path / "served" / "a.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    pq.write_table(pa.table({"text": [TEXT]}), tmp_path / "served" / "a.parquet")
    cache = str(tmp_path / "cache")
    for name in ("a.txt", "a.txt.gz", "a.parquet"):
        source = files(f"{server}/{name}", cache=cache, document="paragraph")
        assert [words for words in read(source).values() if words] == PARAGRAPHS
        assert files(f"{server}/{name}", cache=cache, document="paragraph").fingerprint == source.fingerprint
    with pytest.raises(DataError, match=r"data\.path=http.*none\.txt"):
        files(f"{server}/none.txt", cache=cache)


def test_sequences_of_tokens_and_ids(tmp_path: Path) -> None:
    (tmp_path / "items.txt").write_text("B-1 a\tÉ\n\nB-1 7\n")
    found = read(files(tmp_path / "items.txt", source="sequences"))
    assert [words for words in found.values() if words] == [["B-1", "a", "É"], ["B-1", "7"]]
    lists = pa.array([["New York", None, "b"], None, [], ["c", ""]], pa.list_(pa.string()))
    pq.write_table(pa.table({"items": lists}), tmp_path / "items.parquet")
    source = files(tmp_path / "items.parquet", source="sequences", column="items")
    assert list(read(source).values()) == [["New York", "b"], [], [], ["c"]]
    (tmp_path / "ids.jsonl").write_text('{"ids": [3, 1, 3]}\n{"ids": [2]}\n')
    source = files(tmp_path / "ids.jsonl", source="sequences", column="ids")
    assert list(read(source).values()) == [["3", "1", "3"], ["2"]]
    store = prepare(source, normalise="text8", min_count=1, heldout=0, stores=tmp_path / "stores")
    assert isinstance(store, TokenStore)
    assert store.vocabulary.words == ["3", "1", "2"]
    assert store.train.select(0, 2).ids.tolist() == [0, 1, 0, 2]


def test_a_local_data_set_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    for split, count in (("train", 2), ("test", 1)):
        for index in range(count):
            table = pa.table({"title": [split], "text": [f"text of {split} {index}"]})
            pq.write_table(table, folder / f"{split}-{index:05}-of-{count:05}.parquet")
    options = {"name": str(folder), "cache": tmp_path / "cache"}
    source = open_source("hub", **options)
    assert shards(source) == 2
    assert read(source, 1)[0] == ["text", "of", "train", "1"]
    test = open_source("hub", split="test", **options)
    assert read(test)[0] == ["text", "of", "test", "0"]
    assert test.fingerprint != source.fingerprint
    assert read(open_source("hub", column="title", **options))[0] == ["train"]
    with pytest.raises(DataError, match=r"data\.split=nope.*train"):
        open_source("hub", split="nope", **options).units  # noqa: B018
    with pytest.raises(DataError, match=r"data\.column=body: there is no such column; there are title, text"):
        open_source("hub", column="body", **options).units  # noqa: B018
    with pytest.raises(DataError, match=r"data\.config"):
        open_source("hub", config="nope", **options).units  # noqa: B018
    with pytest.raises(DataError, match=r"data\.name"):
        open_source("hub", cache=tmp_path)


def test_without_the_hub_the_last_commit_is_taken_or_the_remedy_named(tmp_path: Path, server: str) -> None:
    script = """
import sys
from pathlib import Path
from skiplight.corpus import open_source
from skiplight.errors import DataError
try:
    print(open_source("hub", name="user/repo", cache=Path(sys.argv[1])).loader.revision)
except DataError as error:
    print(error)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]

    def run(endpoint: str = "http://127.0.0.1:9") -> str:
        environment = {**os.environ, "HF_ENDPOINT": endpoint}
        return subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout

    assert run().startswith("data.name=user/repo: the Hub cannot be reached")
    (tmp_path / "hub-revisions.json").write_text(json.dumps({"user/repo@main": "c" * 40}))
    assert run() == "c" * 40 + "\n"
    assert "the Hub does not have it" in run(server)


def test_a_local_data_set_of_text_and_lists(tmp_path: Path) -> None:
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "a b", "n": 1}\n{"text": "c", "n": 2}\n')
    assert list(read(open_source("hub", name=str(folder), cache=tmp_path)).values()) == [["a", "b"], ["c"]]


def test_json_that_is_one_list(tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text('[{"text": "a b"}, {"text": "c"}]')
    assert list(read(files(tmp_path / "list.json")).values()) == [["a", "b"], ["c"]]


def broken(folder: Path) -> dict[str, tuple[str, str]]:
    """Bad input by name: what to open, and what the message must say."""
    (folder / "empty").mkdir()
    (folder / "mixed").mkdir()
    (folder / "mixed" / "a.txt").write_text("a")
    (folder / "mixed" / "b.jsonl").write_text('{"text": "a"}')
    (folder / "binary.txt").write_bytes(b"text\0more text")
    (folder / "latin.txt").write_bytes("caf\u00e9 au lait".encode("latin-1"))
    (folder / "blank.txt").write_text(" \n\n ")
    (folder / "nothing.txt").write_text("")
    (folder / "broken.jsonl").write_text('{"text": "a"\n')
    (folder / "broken.parquet").write_bytes(b"PAR1 and more")
    (folder / "broken.txt.gz").write_bytes(gzip.compress(b"text " * 1000)[:-20])
    (folder / "archive.zip").write_bytes(b"PK")
    (folder / "other.jsonl").write_text('{"body": "a", "title": "b"}\n')
    pq.write_table(pa.table({"text": [1, 2]}), folder / "numbers.parquet")
    pq.write_table(pa.table({"text": [["a"]]}), folder / "lists.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), folder / "none.parquet")
    return {
        "missing": ("missing.txt", r"data\.path=.*missing\.txt: there is no such file"),
        "pattern": ("*.nothing", r"data\.path=.*\*\.nothing: no file matches"),
        "empty folder": ("empty", r"data\.path=.*empty: no \.txt.* in this folder"),
        "mixed": ("mixed", r"data\.path: .* different kinds \(1 \.txt, 1 \.jsonl\)"),
        "archive": ("archive.zip", r"data\.path: archives .*unpack"),
        "binary": ("binary.txt", r"binary\.txt is not a text file, .* NUL byte at 4"),
        "not UTF-8": ("latin.txt", r"latin\.txt is not text in UTF-8 \(byte 3\).*iconv"),
        "blank": ("blank.txt", r"blank\.txt is empty: there is not one word"),
        "no bytes": ("nothing.txt", r"nothing\.txt is empty: there is not one word"),
        "no rows": ("none.parquet", r"none\.parquet is empty: there is not one word"),
        "broken JSON": ("broken.jsonl", r"data\.path: .*broken\.jsonl cannot be read"),
        "broken Parquet": ("broken.parquet", r"data\.path: .*parquet"),
        "cut gzip": ("broken.txt.gz", r"broken\.txt\.gz cannot be read"),
        "column": ("other.jsonl", r"data\.column=text: there is no such column; there are body, title"),
        "numbers": ("numbers.parquet", r"data\.column=text has int64, not text"),
        "lists": ("lists.parquet", r"data\.column=text has lists .*data=sequences"),
    }


CASES = [
    "missing", "pattern", "empty folder", "mixed", "archive", "binary", "not UTF-8", "blank", "no bytes", "no rows",
    "broken JSON", "broken Parquet", "cut gzip", "column", "numbers", "lists",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_named_and_leaves_nothing(tmp_path: Path, case: str) -> None:
    name, message = broken(tmp_path)[case]
    stores = tmp_path / "stores"
    with pytest.raises(DataError, match=message):
        prepare(files(tmp_path / name, cache=str(tmp_path / "cache")), normalise="text8", min_count=1, stores=stores)
    assert not stores.exists() or not [entry for entry in stores.iterdir() if entry.is_dir()]


def test_too_small_a_vocabulary_names_min_count(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a a a b")
    with pytest.raises(DataError, match=r"one word.*vocabulary\.min_count=2: lower it"):
        prepare(files(tmp_path / "a.txt"), normalise="none", min_count=2, heldout=0, stores=tmp_path / "stores")
    with pytest.raises(DataError, match=r"data\.path is missing: data=files"):
        open_source("files", cache=tmp_path)
