"""Makes one HTML file of data and scripts: everything is in it, and it asks for nothing from anywhere.

Names of words, runs and options come from texts and folders, so nothing of them may become markup: data travels as
JSON in which no `<` is left, scripts put it into the page as text only, and the page's Content-Security-Policy allows
no script but the ones that were written here, by their hashes, and no connection.
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

Kind = Literal["run", "comparison", "study"]

LIBRARIES = ("vendor/d3.min.js", "vendor/plot.min.js")
SCRIPTS: dict[Kind, tuple[str, ...]] = {
    "run": ("vectors.js", "map.js", "progress.js", "noise.js", "similarity.js", "settings.js", "run.js"),
    "comparison": ("comparison.js",),
    "study": ("study.js",),
}
"""By kind of page, the files of scripts/ between common.js and start.js."""


def render_page(kind: Kind, title: str, data: dict[str, Any], prose: str = "") -> str:
    """The text of a page.

    Args:
        kind: what the page shows.
        title: its title, any text.
        data: what its scripts show: mappings, lists, strings and numbers; numbers that are not finite become null.
        prose: HTML to be shown as it is; the caller answers for it.
    """
    ours = "\n".join(_read(f"scripts/{name}") for name in ("common.js", *SCRIPTS[kind], "start.js"))
    scripts = [*map(_read, LIBRARIES), f'"use strict";\n(() => {{\n{ours}\n}})();']
    slots = {
        "kind": kind,
        "title": html.escape(title),
        "policy": f"script-src {' '.join(map(_hash, scripts))}",
        "style": _read("page.css"),
        "prose": prose,
        "data": as_json(data),
        "scripts": "\n".join(f"<script>{script}</script>" for script in scripts),
    }
    # In one pass, so that what looks like a slot within a slot stays what it is.
    return re.sub(r"\{\{(\w+)\}\}", lambda found: slots[found[1]], _read("page.html"))


def write_page(path: Path, page: str) -> None:
    """Writes a page; a name that is not UTF-8 is shown with its bytes escaped.

    Raises:
        UnwritableError: the folder cannot be written to.
    """
    with writing(path), replacing(path, parents=False) as temporary:
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")


def as_json(data: Any) -> str:
    """JSON for the inside of a <script>, where only a `<` could end it or open a comment.

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
