"""Remote files, read by ranges of bytes: HTTP(S), and whatever else fsspec opens, such as hf://, s3:// and gs://.

A request that fails in a way that may pass (no connection, no answer in time, too few bytes, a status of 5xx) is made
again, from the byte that is needed next, with growing pauses. Every answer is compared with the size and the version
that the file had when it was listed, since parts of two versions are no text. A range that a process reads again must
be the same, whatever the server says of versions.
"""

from __future__ import annotations

import functools
import hashlib
import io
import logging
import os
import time
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Protocol
from urllib.parse import urlsplit

from skiplight.errors import DataError

log = logging.getLogger(__name__)

PAUSES = (0.5, 1, 2, 4, 8, 16, 30, 30)
"""Seconds between attempts; an attempt that brings bytes begins the list anew."""

TIMEOUT = 60.0
"""Seconds to wait for a connection or for the next bytes, unless `set_timeout` has set others."""

STALLS = 3
"""Attempts after each of which a server has sent nothing for that long."""

_timeout = TIMEOUT

_digests: dict[tuple[str, RemoteVersion, int, int], bytes] = {}
"""Hashes of the ranges that this process has read."""

_PART = 4 << 20
_PASSING = (408, 425, 429)


@dataclass(frozen=True)
class RemoteVersion:
    """What is known of a remote file before it is read.

    Attributes:
        size: bytes, None where the server does not say.
        version: ETag or time of change.
        ranges: whether ranges of bytes can be asked for.
    """

    size: int | None
    version: str | None
    ranges: bool


class _Passing(Exception):
    """A failure that may pass."""


class _Stalled(_Passing):
    """A server that sends nothing."""

    def __init__(self) -> None:
        super().__init__(f"the server has sent nothing for {_timeout:g} seconds (data.timeout)")


def set_timeout(seconds: float) -> None:
    """Set for how long a server may send nothing, in all requests that this process makes from now on."""
    global _timeout
    _timeout = seconds


class _Body(Protocol):
    def read(self, size: int) -> bytes: ...

    def close(self) -> None: ...


def probe_file(url: str) -> RemoteVersion:
    """Return size and version of a remote file.

    Raises:
        DataError: it cannot be read.
    """
    return _retried(url, lambda: _client(url).probe())


class RemoteFile(io.RawIOBase):
    """A remote file, which can be read from any position on.

    Args:
        url: its address.
        known: what it was when it was listed; default: what it is now.
        stop: bytes up to this position will probably be read, so they are asked for together; default: the end.
    """

    def __init__(self, url: str, known: RemoteVersion | None = None, stop: int | None = None) -> None:
        super().__init__()
        self.url, self.known = url, known or probe_file(url)
        self._client, self._stop = _client(url), stop
        self._position = 0
        self._end: int | None = None
        self._body: _Body | None = None
        self._begin, self._hash = 0, hashlib.blake2b(digest_size=16)  # of what was read without a jump

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.known.size or 0}[whence]
        if base + offset != self._position:
            self._drop()
            self._position = base + offset
            self._begin, self._hash = self._position, hashlib.blake2b(digest_size=16)
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read at least one byte, unless the file ends.

        Raises:
            DataError: the server does not answer, or another version of the file is there now.
        """
        size = self.known.size
        if not len(buffer) or (size is not None and self._position >= size):
            return 0
        data = _retried(self.url, lambda: self._read(len(buffer)))
        buffer[: len(data)] = data
        self._position += len(data)
        self._hash.update(data)
        if self._position == self._end:
            digest = self._hash.digest()
            if _digests.setdefault((self.url, self.known, self._begin, self._end), digest) != digest:
                raise _changed(self.url)
        return len(data)

    def close(self) -> None:
        self._drop()
        super().close()

    def _read(self, wanted: int) -> bytes:
        size = self.known.size
        try:
            if self._body is None:
                stop = max(self._stop or 0, self._position + wanted) if self._stop is not None else size
                stop = stop if size is None or stop is None else min(stop, size)
                self._end, self._body = stop, self._client.open(self._position, stop, self.known)
            left = wanted if self._end is None else min(wanted, self._end - self._position)
            data = self._body.read(left)
        except BaseException:
            self._drop()
            raise
        if not data and self._end is not None:
            self._drop()
            raise _Passing(f"the answer ends at byte {self._position:,} of {self._end:,}")
        if self._end is not None and self._position + len(data) >= self._end:
            self._drop()
        return data

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
            self._body = None


def _retried(url: str, request: Any) -> Any:
    stalls = 0
    for attempt, pause in enumerate((*PAUSES, None), start=1):
        try:
            return request()
        except _Passing as error:
            stalls += isinstance(error, _Stalled)
            if pause is None or stalls == STALLS:
                raise DataError(
                    f"data.path={url}: cannot be read, after {attempt} attempts ({error}); resume when the server"
                    " answers again, or download the file and give its path"
                ) from error
            log.warning("%s: %s; trying again in %g s", url, error, pause)
            time.sleep(pause)


def _changed(url: str) -> DataError:
    return DataError(
        f"data.path={url}: its content has changed since the text was prepared, so parts of two versions would be"
        " read: start a new run for the new version, or give a file that does not change"
    )


def _client(url: str) -> Any:
    return _Http(url) if url.startswith(("http://", "https://")) and "::" not in url else _Fsspec(url)


class _Http:
    """A file by HTTP(S)."""

    def __init__(self, url: str) -> None:
        self.url = url

    def probe(self) -> RemoteVersion:
        with self._get({"Range": "bytes=0-0"}) as answer:
            if answer.status_code == 206:
                return RemoteVersion(_total(answer), _http_version(answer), True)
            if answer.status_code == 416:  # no byte at all
                return RemoteVersion(0, _http_version(answer), False)
            length = answer.headers.get("Content-Length")
            return RemoteVersion(int(length) if length else None, _http_version(answer), False)

    def open(self, begin: int, stop: int | None, known: RemoteVersion) -> _Body:
        headers = {"Range": f"bytes={begin}-{'' if stop is None else stop - 1}"} if known.ranges else {}
        answer = self._get(headers)
        try:
            total = answer.headers.get("Content-Length")
            size = _total(answer) if answer.status_code == 206 else int(total) if total else None
            if (known.version, known.size) != (_http_version(answer), size):
                raise _changed(self.url)
            if known.ranges and answer.status_code != 206:
                raise _Passing("the server no longer answers with ranges")
            if not known.ranges:
                body = _HttpBody(answer)
                while begin:
                    skipped = len(body.read(min(begin, _PART)))
                    if not skipped:
                        raise _Passing("the answer is too short")
                    begin -= skipped
                return body
        except BaseException:
            answer.close()
            raise
        return _HttpBody(answer)

    def _get(self, headers: dict[str, str]) -> Any:
        import requests

        try:
            answer = _session(os.getpid()).get(
                self.url, headers={"Accept-Encoding": "identity", **headers}, stream=True, timeout=_timeout
            )
        except requests.Timeout as error:
            raise _Stalled from error
        except requests.ConnectionError as error:
            raise _Passing(_reason(error)) from error
        except (requests.RequestException, ValueError) as error:
            raise DataError(f"data.path={self.url}: cannot be read ({error})") from error
        status = answer.status_code
        if status >= 500 or status in _PASSING:
            answer.close()
            raise _Passing(f"the server answers {status} {answer.reason}")
        if status >= 400 and status != 416:
            answer.close()
            raise DataError(f"data.path={self.url}: cannot be read (the server answers {status} {answer.reason})")
        if answer.headers.get("Content-Type", "").startswith("text/html") and not _is_page(self.url):
            answer.close()
            raise DataError(
                f"data.path={self.url}: the server answers with a web page (text/html): give the address of the file"
                " itself"
            )
        return answer


class _HttpBody:
    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def read(self, size: int) -> bytes:
        from urllib3.exceptions import HTTPError, ReadTimeoutError

        try:
            return self._answer.raw.read(size)
        except (ReadTimeoutError, TimeoutError) as error:
            raise _Stalled from error
        except (HTTPError, OSError) as error:
            raise _Passing(_reason(error)) from error

    def close(self) -> None:
        self._answer.close()


class _Fsspec:
    """A file by any other protocol that fsspec knows; credentials are those of the protocol's own client."""

    def __init__(self, url: str) -> None:
        self.url = url

    def probe(self) -> RemoteVersion:
        filesystem, path = self._open()
        info = self._asked(filesystem.info, path)
        names = ("ETag", "etag", "sha256", "md5Hash", "blob_id", "LastModified", "mtime")
        version = next((str(info[name]) for name in names if info.get(name)), None)
        return RemoteVersion(info.get("size"), version, info.get("size") is not None)

    def open(self, begin: int, stop: int | None, known: RemoteVersion) -> _Body:
        filesystem, path = self._open()
        filesystem.invalidate_cache()
        if self.probe() != known:
            raise _changed(self.url)
        read = functools.partial(self._asked, filesystem.cat_file, path)
        return _FsspecBody(read, begin, stop) if known.ranges else io.BytesIO(read()[begin:])

    def _open(self) -> tuple[Any, str]:
        import fsspec

        try:
            return fsspec.core.url_to_fs(self.url)
        except ImportError as error:
            raise DataError(f"data.path={self.url}: {error}") from None
        except Exception as error:
            raise DataError(f"data.path={self.url}: cannot be read ({error or type(error).__name__})") from error

    def _asked(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except (FileNotFoundError, PermissionError, NotImplementedError, ValueError) as error:
            raise DataError(f"data.path={self.url}: cannot be read ({error or type(error).__name__})") from error
        except Exception as error:  # each protocol has its own
            raise _Passing(_reason(error)) from error


class _FsspecBody:
    def __init__(self, read: Any, begin: int, stop: int | None) -> None:
        self._read, self._begin, self._stop, self._data = read, begin, stop, b""

    def read(self, size: int) -> bytes:
        if not self._data:
            stop = min(self._stop or self._begin + _PART, self._begin + _PART)
            self._data = self._read(start=self._begin, end=stop) if stop > self._begin else b""
            self._begin += len(self._data)
        data, self._data = self._data[:size], self._data[size:]
        return data

    def close(self) -> None:
        self._data = b""


@functools.lru_cache(1)
def _session(process: int) -> Any:
    """Return the connections of a process, which reads ~/.netrc and the proxies of the environment."""
    import requests

    return requests.Session()


def _is_page(url: str) -> bool:
    return PurePosixPath(urlsplit(url).path).suffix.lower() in (".html", ".htm", ".xhtml")


def _http_version(answer: Any) -> str | None:
    return answer.headers.get("ETag") or answer.headers.get("Last-Modified")


def _total(answer: Any) -> int | None:
    total = answer.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
