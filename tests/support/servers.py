"""A web server that misbehaves in a way of choice, for tests and attacks."""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = b"to be or not to be that is the question\n"

FAULTS = (
    "none", "changes", "changes-quietly", "resets-once", "resets", "short", "stalls", "stalls-at-once", "web-page",
    "grows", "no-version", "error", "drops", "wrong-range",
)  # fmt: skip
"""What a server may do; text comes whole only from `none` and `resets-once`, which breaks off its first long answer."""


@contextlib.contextmanager
def serving(fault: str, size: int = 400_000) -> Iterator[str]:
    """Serve a text with a fault, and yield its address.

    Args:
        fault: one of `FAULTS`.
        size: of the text in bytes.
    """
    text = (WORDS * (size // len(WORDS) + 1))[:size]
    stop, requests, resets = threading.Event(), itertools.count(), itertools.count()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(with_body=False)

        def do_GET(self) -> None:
            self._answer(with_body=True)

        def _answer(self, *, with_body: bool) -> None:
            number = next(requests)
            body = text
            if fault in ("changes", "changes-quietly"):
                body = text.replace(b"question", f"answer{number:02}".encode())
            if fault == "grows":
                body = text + WORDS * number
            if fault == "drops":
                return self._reset()
            if fault == "stalls-at-once":
                stop.wait(30)
                return self._reset()
            if fault == "error":
                self.send_error(503)
                return None
            begin, end = 0, len(body)
            if (asked := self.headers.get("Range", "")).startswith("bytes="):
                first, _, last = asked.removeprefix("bytes=").partition("-")
                begin, end = int(first), min(int(last) + 1 if last else len(body), len(body))
            self.send_response(206 if asked else 200)
            if asked:
                self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(body)}")
            self.send_header("Content-Length", str(end - begin))
            self.send_header("Content-Type", "text/html; charset=utf-8" if fault == "web-page" else "text/plain")
            if fault != "no-version":
                self.send_header("ETag", f'"{number if fault == "changes" else 1}"')
            self.end_headers()
            if with_body:
                self._send(body[begin:end])
            return None

        def _send(self, body: bytes) -> None:
            half = len(body) // 2
            if fault == "wrong-range":
                body = body[:half]
            if fault in ("resets", "short", "stalls", "wrong-range") or (
                fault == "resets-once" and len(body) > 1 and next(resets) == 0
            ):
                self.wfile.write(body[:half])
                self.wfile.flush()
                if fault == "stalls":
                    stop.wait(30)
                if fault in ("short", "wrong-range"):
                    self.close_connection = True
                else:
                    time.sleep(0.05)
                    self._reset()
            else:
                self.wfile.write(body)

        def _reset(self) -> None:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()

        def handle(self) -> None:
            with contextlib.suppress(OSError, ValueError):
                super().handle()

        def log_message(self, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *args: object) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/a.txt"
        finally:
            stop.set()
            server.shutdown()
