"""The files that a path stands for, their format, and a fingerprint of their content.

A path is a file, a folder (searched with its subfolders), a glob pattern or a URL, or a list of these. Files are taken
in the order of their paths; each is a shard. The fingerprint depends on content only: moved files are the same text.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from skiplight.corpus.sources.credentials import refuse_secrets
from skiplight.corpus.sources.remote import TIMEOUT, probe_file, set_timeout
from skiplight.errors import DataError
from skiplight.files import OFFICE_SUFFIXES, digest, read_json, replacing

log = logging.getLogger(__name__)

KINDS = {".txt": "text", ".jsonl": "json", ".ndjson": "json", ".json": "json", ".parquet": "parquet"}
KINDS |= {".csv": "table", ".tsv": "table"}
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4")
_LIBRARIES = {".zst": "zstandard", ".lz4": "lz4"}  # Python reads the others
_ARCHIVES = (".zip", ".tar", ".tgz", ".7z", ".rar")
_HASHES = "file-hashes.json"


def find_files(path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the files (absolute paths or URLs) that a path, or a list of paths, stands for.

    Raises:
        DataError: a path does not exist, a folder has no text, or an address holds a password.
    """
    paths = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not paths:
        raise DataError("data.path is an empty list: name a file, folder, glob pattern or URL")
    for item in paths:
        if not isinstance(item, str | os.PathLike):
            raise DataError(f"data.path: {item!r} is no path: give files, folders, patterns or URLs")
    return [file for item in paths for file in _find(os.fspath(item))]


def is_url(path: str) -> bool:
    """Return whether a path is a URL that `datasets` opens by its protocol."""
    return "://" in path


def _find(path: str) -> list[str]:
    if is_url(path):
        refuse_secrets(path)
        return [path]
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        visible = [
            file
            for file in Path(path).resolve().rglob("*")
            if file.is_file() and not any(part.startswith(".") for part in file.relative_to(Path(path).resolve()).parts)
        ]
        files = sorted(str(file) for file in visible if _suffix(str(file)) in KINDS)
        if not files:
            raise DataError(
                f"data.path={path}: no {', '.join(KINDS)} file in this folder (it has"
                f" {_tally(map(str, visible))}); for text in files of another name give a pattern, such as"
                f" '{path}/*'"
            )
        if len(files) < len(visible):
            rest = [str(file) for file in visible if str(file) not in set(files)]
            log.info("data.path=%s: %s are read, %s are not", path, _tally(files), _tally(rest))
        return files
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise DataError(
                f"data.path={path} is no regular file: text is read several times, so write what a pipe or device gives"
                " to a file first"
            )
        return [os.path.abspath(path)]
    files = sorted(os.path.abspath(file) for file in glob.glob(path, recursive=True) if os.path.isfile(file))
    if not files:
        what = "no file matches this pattern" if glob.has_magic(path) else "there is no such file or folder"
        raise DataError(f"data.path={path}: {what} (seen from {os.getcwd()})")
    return files


def detect_format(files: Sequence[str]) -> str:
    """Return the format of all files: `text`, `json`, `parquet` or `table`; files of other suffixes, such as text8, are
    text.

    Raises:
        DataError: the formats differ, a file is an archive, or reading it needs a package that is not installed.
    """
    kinds = {KINDS.get(_suffix(file), "text") for file in files}
    if any(_suffix(file) in _ARCHIVES for file in files):
        raise DataError(f"data.path: archives ({_tally(files)}) are not read: unpack them")
    if office := [file for file in files if _suffix(file) in OFFICE_SUFFIXES]:
        raise DataError(
            f"data.path: {office[0]} is a document of an office program, which is not read: save its text as .txt, or"
            " its table as .csv in UTF-8"
        )
    for file in files:
        library = _LIBRARIES.get(PurePosixPath(path_of(file)).suffix.lower())
        if library and importlib.util.find_spec(library) is None:
            raise DataError(f"data.path: {file} cannot be read without the package {library}: pip install {library}")
    if len(kinds) > 1:
        raise DataError(
            f"data.path: the files are of different kinds ({_tally(files)}): choose one by a pattern, such as"
            f" '{os.path.dirname(files[0])}/*{_suffix(files[0])}'"
        )
    return kinds.pop()


def hash_files(files: Sequence[str], cache: Path, timeout: float = TIMEOUT) -> list[str]:
    """Return a hash of the content of each file.

    Hashes of local files are kept in the folder `cache` by path, size and time of change, so that files are read once.
    The hash of a URL is the version that its server gives: ETag, else time of change and size.

    Raises:
        DataError: a URL cannot be read, or its server gives no version.
    """
    path = cache / _HASHES
    known = {file: entry for file, entry in read_cache(path).items() if _is_entry(entry)}
    hashes, fresh = [], False
    for file in files:
        if is_url(file):
            hashes.append(_remote_version(file, timeout))
            continue
        status = os.stat(file)
        entry = known.get(file)
        if not entry or entry[:2] != [status.st_size, status.st_mtime_ns]:
            known[file] = entry = [status.st_size, status.st_mtime_ns, digest(Path(file))]
            fresh = True
        hashes.append(str(entry[2]))
    if fresh:
        write_cache(path, known)
    return hashes


def read_cache(path: Path) -> dict[str, Any]:
    """Return the entries of a JSON file that `write_cache` wrote; none where it is missing or damaged."""
    try:
        known = read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) else {}


def write_cache(path: Path, known: dict[str, Any]) -> None:
    """Write entries to a JSON file if that is possible: they only save time, or serve when a server is not reached."""
    with contextlib.suppress(OSError), replacing(path) as temporary:
        temporary.write_text(json.dumps(known))


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and len(entry) == 3 and isinstance(entry[2], str)


def _remote_version(url: str, timeout: float) -> str:
    set_timeout(timeout)
    found = probe_file(url)
    if found.version is None:
        raise DataError(f"data.path={url}: the server does not say which version this is; download it first")
    return f"{found.version} {found.size}"


def path_of(file: str) -> str:
    """Return the path of a file or of a URL."""
    return urlsplit(file).path if is_url(file) else file


def _suffix(file: str) -> str:
    path = PurePosixPath(path_of(file))
    if path.suffix.lower() in COMPRESSED:
        path = path.with_suffix("")
    return path.suffix.lower()


def _tally(files: Iterable[str]) -> str:
    counts = Counter(_suffix(file) or "no suffix" for file in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in counts.most_common(5)) or "none"
