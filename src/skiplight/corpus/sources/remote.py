"""Reads files from web servers: with a deadline, one version only, and all of it.

`datasets` and fsspec read a URL by requests for its parts, and wait for minutes for a server that sends nothing. Here

- a server that sends nothing for `data.timeout` seconds is an error, after `ATTEMPTS` attempts that are logged;
- every answer must be of the version that the text's fingerprint was made of, and a web page is no text;
- plain text comes by one request, so that it is of one version even where the server does not tell versions apart. A
  connection that is lost is continued where it ended. A text that is read again in the same process must be the same.

This module imports fsspec's client, which takes a while: import it inside a function.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import logging
import time
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

import aiohttp
import fsspec
import yarl
from fsspec.implementations.http import HTTPFile, HTTPFileSystem, HTTPStreamFile

from skiplight.errors import DataError

log = logging.getLogger(__name__)

ATTEMPTS = 3
PAUSE = 1.0
"""Seconds between two attempts; the second pause is twice as long."""

_VERSIONS = ("ETag", "etag", "Content-MD5", "Digest", "sha256", "md5Hash")
_CHANGES = ("Last-Modified", "LastModified", "mtime")
_LOST = (aiohttp.ClientError, TimeoutError, OSError)


@dataclasses.dataclass
class _Expected:
    """What is known of a URL.

    Attributes:
        version: as `find_version` gives it; None if it is not known.
        is_text: whether it is read from the beginning to the end.
        size: in bytes, by the first answer that has one.
        digest: of the content, by the first complete pass.
    """

    version: str | None = None
    is_text: bool = False
    size: int | None = None
    digest: bytes | None = None


_expected: dict[str, _Expected] = {}


def limit_remote_reads(timeout: float, versions: Mapping[str, str] | None = None, *, is_text: bool = False) -> None:
    """Set the deadline of all reads from web servers that this process begins from now on, and what they must find.

    Args:
        timeout: seconds for which a server may send nothing.
        versions: of URLs, as `find_version` gives them.
        is_text: whether these URLs are read from the beginning to the end.
    """
    import datasets.config

    # `datasets` tries 20 times, 5 seconds apart, and logs nothing that is shown.
    datasets.config.STREAMING_OPEN_MAX_RETRIES = datasets.config.STREAMING_READ_MAX_RETRIES = ATTEMPTS
    datasets.config.STREAMING_OPEN_RETRY_INTERVAL = datasets.config.STREAMING_READ_RETRY_INTERVAL = 1
    for url, version in (versions or {}).items():
        if (known := _expected.get(_key(url))) is None or known.version != version:
            known = _expected[_key(url)] = _Expected(version)
        known.is_text = is_text

    class Limited(_CheckedFileSystem):
        seconds = timeout

    for protocol in ("http", "https"):
        fsspec.register_implementation(protocol, Limited, clobber=True)


def find_version(info: Mapping[str, Any]) -> str | None:
    """Return the version of a file by what its server says of it: ETag, else time of change and size; None without."""
    for name in _VERSIONS:
        if info.get(name):
            return f"{name} {info[name]}"
    changed = next((info[name] for name in _CHANGES if info.get(name)), None)
    return None if changed is None or info.get("size") is None else f"{changed} {info['size']}"


class _CheckedFileSystem(HTTPFileSystem):
    cachable = False  # a later call may set another deadline
    seconds = 60.0

    def __init__(self, *args: Any, client_kwargs: dict[str, Any] | None = None, **options: Any) -> None:
        trace = aiohttp.TraceConfig()
        trace.on_request_start.append(_note_address)
        trace.on_request_end.append(_check_answer)
        given = {
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=self.seconds, sock_read=self.seconds),
            "headers": {"Accept-Encoding": "identity"},  # a compressed answer is of another size and version
            "trace_configs": [trace],
        }
        super().__init__(*args, client_kwargs=given | (client_kwargs or {}), **options)

    async def _info(self, url: str, **kwargs: Any) -> dict[str, Any]:
        try:
            return await super()._info(url, **kwargs)
        except FileNotFoundError as error:
            cause = error.__cause__
            if isinstance(cause, DataError):
                raise cause from None
            if isinstance(cause, aiohttp.ClientResponseError) and cause.status == 404:
                raise
            raise DataError(f"data.path={url}: {describe_loss(cause or error, self.seconds)}") from error

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        known = _expected.get(_key(path))
        if known is None or not known.is_text:
            return super()._open(path, mode, **kwargs)
        return io.BufferedReader(_RemoteText(self, path, known), 1 << 20)

    def open_at(self, url: str, position: int, size: int | None) -> HTTPFile | HTTPStreamFile:
        """Return a file whose next byte is the one at `position`."""
        session = fsspec.asyn.sync(self.loop, self.set_session)
        if position == 0:
            return HTTPStreamFile(self, url, loop=self.loop, session=session, **self.kwargs)
        if size is None:
            raise DataError(f"data.path={url}: the connection was lost, and the server does not give parts of a file")
        file = HTTPFile(self, url, session=session, block_size=self.block_size, size=size, loop=self.loop)
        file.seek(position)
        return file


class _RemoteText(io.RawIOBase):
    """The bytes of a URL from the first to the last."""

    def __init__(self, system: _CheckedFileSystem, url: str, known: _Expected) -> None:
        super().__init__()
        self._system, self._url, self._known = system, url, known
        self._size = system.info(url).get("size")
        self._position, self._lost = 0, 0
        self._hash: Any = hashlib.blake2b(digest_size=16)
        self._file: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read into the buffer, and return the number of bytes.

        Raises:
            DataError: the server sends nothing, or too little, or something else than before.
        """
        data = self._read(len(buffer))
        self._position += len(data)
        self._hash.update(data)
        if not data:
            self._check_end()
        buffer[: len(data)] = data
        return len(data)

    def _read(self, size: int) -> bytes:
        while True:
            try:
                if self._file is None:
                    self._file = self._system.open_at(self._url, self._position, self._size)
                if self._size is not None and self._position < self._size and isinstance(self._file, HTTPFile):
                    size = min(size, self._size - self._position)
                data = bytes(self._file.read(size))
                if data or self._size is None or self._position >= self._size:
                    self._lost = 0 if data else self._lost
                    return data
                raise ConnectionError(f"it sent {self._position:,} of {self._size:,} bytes")
            except DataError:
                raise
            except (*_LOST, ValueError) as error:  # ValueError: the server does not give parts
                self._retry(error)

    def _retry(self, error: Exception) -> None:
        self._lost += 1
        reason = describe_loss(error, self._system.seconds)
        if self._lost >= ATTEMPTS or isinstance(error, FileNotFoundError | ValueError):
            raise DataError(f"data.path={self._url}: {reason}; download it first, or try again") from error
        log.warning("%s: %s; trying again from byte %d", self._url, reason, self._position)
        time.sleep(PAUSE * self._lost)
        self._close_file()

    def _check_end(self) -> None:
        digest = self._hash.digest()
        if self._known.digest not in (None, digest):
            raise _changed(self._url)
        self._known.digest = digest

    def _close_file(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def close(self) -> None:
        self._close_file()
        super().close()


async def _note_address(session: Any, context: Any, params: Any) -> None:
    context.address = str(params.url)  # before redirections


async def _check_answer(session: Any, context: Any, params: Any) -> None:
    """Raise a `DataError` if an answer is of another version than the one before it, or is a web page."""
    known, response = _expected.get(context.address), params.response
    if known is None or response.status not in (200, 206):
        return
    headers = response.headers
    if headers.get("Content-Type", "").startswith("text/html"):
        suffix = PurePosixPath(yarl.URL(context.address).path).suffix.lower()
        if suffix not in (".html", ".htm", ".xhtml"):
            raise DataError(
                f"data.path={context.address}: the server answers with a web page (text/html): give the address of the"
                " file itself"
            )
    total = headers.get("Content-Range", "").rpartition("/")[2] or headers.get("Content-Length", "")
    size = int(total) if total.isdecimal() and not headers.get("Content-Encoding") else None
    found = find_version({name: headers.get(name) for name in (*_VERSIONS, *_CHANGES)} | {"size": size})
    comparable = known.version is not None and found is not None and _kind(found) == _kind(known.version)
    if (comparable and found != known.version) or None is not size != known.size is not None:
        raise _changed(context.address)
    known.size = known.size if size is None else size


def _kind(version: str) -> str:
    name = version.partition(" ")[0]
    return name if name in _VERSIONS else ""


def _changed(url: str) -> DataError:
    return DataError(
        f"data.path={url}: it has changed on the server since it was read first: give a run its text from a file that"
        " stays as it is, for instance by downloading it"
    )


def describe_loss(error: BaseException, seconds: float) -> str:
    """Return what ended a connection, in words."""
    if isinstance(error, TimeoutError):
        return f"the server has sent nothing for {seconds:g} seconds (data.timeout)"
    return f"cannot be read ({str(error) or type(error).__name__})"


def _key(url: str) -> str:
    return str(yarl.URL(url))
