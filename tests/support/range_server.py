"""A server of files on this machine, by ranges of bytes, that counts what it sends and fails when it is told to."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Fault = Callable[[str], "str | None"]


class RangeServer(ThreadingHTTPServer):
    """Serves `files`, by name; `http://HOST/READER/NAME` counts for READER.

    Attributes:
        files: the content by name.
        sent: bytes of content by reader.
        fault: from a reader's name to `stall`, `reset`, `short`, `503` or None, asked for each request of content.
        ranges: whether ranges are served.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files, self.sent, self.ranges = files, Counter[str](), True
        self.fault: Fault = lambda reader: None

    def url(self, reader: str, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{reader}/{name}"


@contextlib.contextmanager
def serving(files: dict[str, bytes]) -> Iterator[RangeServer]:
    with RangeServer(files) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: RangeServer
    disable_nagle_algorithm = True

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        reader, name = urlsplit(self.path).path.lstrip("/").split("/", 1)
        data = self.server.files.get(name)
        if data is None:
            return self.answer(404, b"", {})
        headers = {"ETag": f'"{hashlib.sha1(data).hexdigest()}"'}
        status, part = 200, data
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if self.server.ranges:
            headers["Accept-Ranges"] = "bytes"
        if match and self.server.ranges:
            begin, end = int(match[1]), min(int(match[2] or len(data) - 1), len(data) - 1)
            if begin >= len(data):
                return self.answer(416, b"", headers | {"Content-Range": f"bytes */{len(data)}"})
            status, part = 206, data[begin : end + 1]
            headers["Content-Range"] = f"bytes {begin}-{end}/{len(data)}"
        fault = self.server.fault(reader)
        if fault == "503":
            return self.answer(503, b"", {})
        self.answer(status, part, headers, fault, reader)

    def answer(self, status: int, data: bytes, headers: dict[str, str], fault: str | None = None, reader="") -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(data))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = data if fault is None else data[: len(data) // 2]
        with contextlib.suppress(ConnectionError):
            for begin in range(0, len(sent), 1 << 14):
                self.server.sent[reader] += len(sent[begin : begin + (1 << 14)])
                self.wfile.write(sent[begin : begin + (1 << 14)])
            if fault == "stall":
                time.sleep(1.5)
            if fault == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if fault:
            self.close_connection = True
            self.connection.close()

    def log_message(self, *arguments: object) -> None:
        pass
