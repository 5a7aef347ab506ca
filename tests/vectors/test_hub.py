"""Vectors are published through huggingface_hub's own client, to a server of the Hub's protocol on this machine."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from skiplight.corpus.vocabulary import Vocabulary
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import command


class Hub(BaseHTTPRequestHandler):
    """Takes what a client of the Hub commits, and keeps it in `files`."""

    files: dict[str, bytes]
    requests: list[str]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append(self.path)
        host = f"http://{self.headers['Host']}"
        if self.path == "/api/repos/create":
            self.answer({"url": f"{host}/me/vectors", "name": "me/vectors", "id": "1"})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            self.answer({"commitUrl": f"{host}/me/vectors/commit/0", "commitOid": "0" * 40, "success": True})
        else:
            self.answer({"orphan": []})

    def do_GET(self) -> None:
        self.answer({"sha": "0" * 40, "id": "me/vectors", "modelId": "me/vectors", "siblings": []})

    def answer(self, content: dict) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[tuple[str, type[Hub]]]:
    handler = type("OneHub", (Hub,), {"files": {}, "requests": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()


def push(folder: Path, endpoint: str, **environment: str) -> subprocess.CompletedProcess[str]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    own |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1"} | environment
    arguments = command("export", str(folder / "run"), "--push-to-hub", "me/vectors")
    return subprocess.run(arguments, capture_output=True, text=True, check=False, env=own, timeout=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vectors = WordVectors(Vocabulary(["a", "b"], [2, 1]), torch.ones(2, 3))
    vectors.save(tmp_path / "run" / "vectors", "# A card\n")
    return tmp_path


def test_the_whole_folder_arrives(folder: Path, hub: tuple[str, type[Hub]]) -> None:
    endpoint, server = hub
    done = push(folder, endpoint, HF_TOKEN="hf_token")
    assert done.returncode == 0, done.stderr
    assert "me/vectors" in done.stdout
    ours = {path.name: path.read_bytes() for path in (folder / "run" / "vectors").iterdir()}
    assert {name: data for name, data in server.files.items() if name != ".gitattributes"} == ours
    assert server.requests[0] == "/api/repos/create"


def test_without_a_token_nothing_is_sent(folder: Path, hub: tuple[str, type[Hub]]) -> None:
    endpoint, server = hub
    done = push(folder, endpoint)
    assert done.returncode == 2
    assert "hf auth login" in done.stderr
    assert server.requests == []


def test_a_hub_that_cannot_be_reached_is_an_error_not_a_traceback(folder: Path) -> None:
    done = push(folder, "http://127.0.0.1:9", HF_TOKEN="hf_token")
    assert done.returncode == 2
    assert done.stderr.startswith("skiplight: error: --push-to-hub me/vectors")
