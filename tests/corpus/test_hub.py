"""A data set of the Hub is read through `datasets` and huggingface_hub, from a server of the Hub's protocol here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.runs import SMALL, command

CARD = """---
configs:
- config_name: plain
  default: true
  data_files:
  - {split: train, path: "plain/train-*.parquet"}
  - {split: test, path: "plain/test-*.parquet"}
- config_name: other
  data_files:
  - {split: train, path: "other/train-*.parquet"}
---
# A data set
"""


def parquet(*texts: str) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table({"title": ["t"] * len(texts), "body": list(texts)}), file)
    return file.getvalue()


def repository(mark: str) -> dict[str, bytes]:
    """The files of a commit; every word of them ends in `mark`."""
    words = [" ".join(f"{name}{mark}" for name in ("ant", "bee", "cat", "dog") * 20) for _ in range(4)]
    return {
        "README.md": CARD.encode(),
        "plain/train-00000-of-00002.parquet": parquet(*words, f"first{mark} " * 30),
        "plain/train-00001-of-00002.parquet": parquet(*words, f"second{mark} " * 30),
        "plain/test-00000-of-00001.parquet": parquet(*words, f"tested{mark} " * 30),
        "other/train-00000-of-00001.parquet": parquet(f"other{mark} words{mark} " * 30),
    }


COMMITS = {"a" * 40: repository("old"), "b" * 40: repository("new")}
NAMES = {"main": "b" * 40, "v1": "a" * 40} | {sha: sha for sha in COMMITS}


class Hub(BaseHTTPRequestHandler):
    """Answers what the Hub answers for the public data set me/texts."""

    protocol_version = "HTTP/1.1"
    requests: list[str]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.requests.append(f"{self.command} {path}")
        if match := re.fullmatch("/api/datasets/me/texts(?:/revision/([^/]+))?", path):
            sha = NAMES.get(match[1] or "main")
            if sha:
                siblings = [{"rfilename": name} for name in COMMITS[sha]]
                return self.json({"id": "me/texts", "sha": sha, "siblings": siblings, "private": False, "tags": []})
        elif match := re.fullmatch("/api/datasets/me/texts/tree/([^/]+)/?(.*)", path):
            sha, folder = NAMES.get(match[1]), match[2]
            if sha:
                return self.json(listing(sha, f"{folder}/" if folder else ""))
        elif match := re.fullmatch("/datasets/me/texts/resolve/([^/]+)/(.+)", path):
            sha = NAMES.get(match[1])
            if sha and match[2] in COMMITS[sha]:
                return self.file(sha, COMMITS[sha][match[2]])
        self.send(404, b"{}", {"X-Error-Code": "RepoNotFound" if "me/texts" not in path else "EntryNotFound"})

    def json(self, content: object) -> None:
        self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def file(self, sha: str, data: bytes) -> None:
        headers = {"ETag": f'"{oid(data)}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            begin, end = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
            return self.send(206, data[begin : end + 1], headers)
        self.send(200, data, headers)

    def send(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


def oid(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def entry(sha: str, name: str) -> dict:
    data = COMMITS[sha][name]
    return {"type": "file", "path": name, "size": len(data), "oid": oid(data)}


def listing(sha: str, folder: str) -> list[dict]:
    """What is in a folder, and not below it."""
    inside = [name.removeprefix(folder) for name in COMMITS[sha] if name.startswith(folder)]
    folders = sorted({name.split("/")[0] for name in inside if "/" in name})
    return [
        *({"type": "directory", "path": folder + name, "size": 0, "oid": oid(name.encode())} for name in folders),
        *(entry(sha, folder + name) for name in inside if "/" not in name),
    ]


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    handler = type("OneHub", (Hub,), {"requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler.requests
        server.shutdown()


def environment(folder: Path, endpoint: str) -> dict[str, str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    return own | {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"}


READ = """
import json, sys
from pathlib import Path
from skiplight.corpus import open_source
from skiplight.errors import DataError

for options in json.loads(sys.argv[2]):
    try:
        source = open_source("hub", name="me/texts", cache=Path(sys.argv[1]), **{"column": "body", **options})
        words = {word for part in source.documents() for text in part.texts.to_pylist() for word in text.split()}
        print(json.dumps([len(source.units), source.loader.revision, sorted(words)]))
    except DataError as error:
        print(json.dumps(str(error)))
"""


def run(arguments: list[str], folder: Path, endpoint: str) -> subprocess.CompletedProcess[str]:
    own = environment(folder, endpoint)
    return subprocess.run(arguments, env=own, capture_output=True, text=True, check=False, timeout=100)


def test_configuration_split_revision_and_column_are_what_is_read(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    animals = {"ant", "bee", "cat", "dog"}
    new, old = "b" * 40, "a" * 40
    expected: list[tuple[dict, tuple[int, str, set[str]] | str]] = [
        ({}, (2, new, {f"{word}new" for word in animals | {"first", "second"}})),
        ({"split": "test"}, (1, new, {f"{word}new" for word in animals | {"tested"}})),
        ({"config": "other"}, (1, new, {"othernew", "wordsnew"})),
        ({"revision": "v1"}, (2, old, {f"{word}old" for word in animals | {"first", "second"}})),
        ({"revision": old, "config": "other"}, (1, old, {"otherold", "wordsold"})),
        ({"column": "title"}, (2, new, {"t"})),
        ({"split": "nope"}, r"data\.split=nope: .*train"),
        ({"config": "nope"}, r"data\.config: me/texts .*plain.*other"),
        ({"column": "text"}, r"data\.column=text: .*title, body"),
        ({"revision": "v9"}, r"data\.name=me/texts, data\.revision=v9: the Hub does not have it"),
    ]
    asked = json.dumps([options for options, _ in expected])
    done = run([sys.executable, "-c", READ, str(tmp_path), asked], tmp_path, hub[0])
    assert done.returncode == 0, done.stderr
    for line, (options, wanted) in zip(done.stdout.splitlines(), expected, strict=True):
        found = json.loads(line)
        if isinstance(wanted, str):
            assert re.search(wanted, found), options
        else:
            assert (*found[:2], set(found[2])) == wanted, options


@pytest.mark.parametrize("streaming", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_data_set_of_the_hub_trains(tmp_path: Path, hub: tuple[str, list[str]], streaming: bool) -> None:
    data = ["data=hub", "data.name=me/texts", "data.column=body", f"data.streaming={streaming}", "data.heldout=0"]
    folders = [f"data.store={tmp_path / 'stores'}", f"run_dir={tmp_path / 'run'}"]
    options = [option for option in SMALL if not option.startswith("data.document")]
    done = run(command("train", *data, *folders, *options, "trainer.max_epochs=2"), tmp_path, hub[0])
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["tokens"] == 2 * (2 * 4 * 80 + 2 * 30)
    assert any("plain/train-00001" in request for request in hub[1])
    assert not any("plain/test" in request or "other/" in request for request in hub[1])


READ_FILES = """
import json, sys
from pathlib import Path
from skiplight.corpus import open_source

path = "hf://datasets/me/texts@v1/plain/train-00000-of-00002.parquet"
source = open_source("files", path=path, column="body", cache=Path(sys.argv[1]))
words = {word for part in source.documents() for text in part.texts.to_pylist() for word in text.split()}
print(json.dumps([len(source.units), sorted(words)]))
"""


def test_a_file_of_the_hub_is_read_by_its_address(tmp_path: Path, hub: tuple[str, list[str]]) -> None:
    done = run([sys.executable, "-c", READ_FILES, str(tmp_path)], tmp_path, hub[0])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [1, ["antold", "beeold", "catold", "dogold", "firstold"]]
