"""A self-contained HTML page of data and scripts, which needs no network.

Names of words, runs and options come from texts and folders and must not become markup: data is embedded as JSON
without `<`, scripts insert it as text only, and the page's Content-Security-Policy allows only the scripts written
here, by their hashes, and no connection.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.resources
import json
import math
import re
from pathlib import Path
from typing import Any, Literal

from skiplight.files import replacing, writing

Page = Literal["run", "runs", "comparison", "study"]

LIBRARIES = ("vendor/d3.min.js", "vendor/plot.min.js")
SCRIPTS: dict[Page, tuple[str, ...]] = {
    "run": ("nearest.js", "map.js", "progress.js", "noise.js", "similarity.js", "settings.js", "run.js"),
    "comparison": ("comparison.js",),
    "study": ("curves.js", "study.js"),
    "runs": ("curves.js", "runs.js"),
}
"""The files of scripts/ between common.js and start.js, by page."""


def render_page(page: Page, title: str, data: dict[str, Any], prose: str = "") -> str:
    """Return the HTML of a page.

    Args:
        page: the type of page.
        title: the title, any text.
        data: mappings, lists, strings and numbers for the scripts; numbers that are not finite become null.
        prose: trusted HTML, inserted unchanged.
    """
    ours = "\n".join(_read(f"scripts/{name}") for name in ("common.js", *SCRIPTS[page], "start.js"))
    scripts = [*map(_read, LIBRARIES), f'"use strict";\n(() => {{\n{ours}\n}})();']
    slots = {
        "kind": page,
        "title": html.escape(title),
        "policy": f"script-src {' '.join(map(_hash, scripts))}",
        "style": _read("page.css"),
        "prose": prose,
        "data": as_json(data),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    # In one pass, so that text within a slot is never taken for a slot.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: slots[found[1]], _read("page.html"))


def write_page(path: Path, page: str) -> None:
    """Write a page; bytes of names that are not UTF-8 are escaped.

    Raises:
        UnwritableError: the folder cannot be written to.
    """
    with writing(path), replacing(path, parents=False) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def as_json(data: Any) -> str:
    """Return JSON for a <script> element, which only `<` could end or turn into a comment.

    >>> as_json({"word": "</script>", "loss": float("nan")})
    '{"word":"\\\\u003c/script>","loss":null}'
    """
    text = json.dumps(_finite(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(name): _finite(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
