"""A page is one file that asks for nothing, and whatever stands in its data stays data."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import skiplight.report
from skiplight.report.comparison import render_findings_html
from skiplight.report.html import SCRIPTS, Page, as_json, render_page, write_page

HOSTILE = "</script><script>alert(1)</script><!-- {{data}} {{scripts}} & \" ' ]]> \u2028"


class Elements(HTMLParser):
    """The elements of a page: tags with their attributes, and what stands in its scripts, data and title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.json: list[str] = []
        self.title = ""
        self.inside: str | None = None
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = "json" if dict(attrs).get("type") == "application/json" else tag
        if tag == "script":
            (self.json if self.inside == "json" else self.scripts).append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = None

    def handle_data(self, data: str) -> None:
        if self.inside in ("script", "json"):
            (self.json if self.inside == "json" else self.scripts)[-1] += data
        elif self.inside == "title":
            self.title += data


@pytest.mark.parametrize("kind", get_args(Page))
def test_a_page_fetches_nothing_and_runs_its_own_scripts_only(kind: Page) -> None:
    page = Elements(render_page(kind, "a run", {"words": []}))
    for tag, attributes in page.tags:
        assert tag not in ("iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("src", "href", "action"):
            assert re.match("#|data:|$", attributes.get(name) or ""), (tag, attributes)
    (policy,) = (a["content"] or "" for t, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    allowed = re.search("script-src ([^;]+)", policy)[1].split()  # type: ignore[index]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in page.scripts]
    assert allowed == [f"'sha256-{found}'" for found in hashes]


def test_all_scripts_of_the_package_are_used() -> None:
    folder = Path(skiplight.report.__file__).parent / "scripts"
    used = {"common.js", "start.js", *(name for names in SCRIPTS.values() for name in names)}
    assert {path.name for path in folder.iterdir()} == used


json_data = st.recursive(
    st.text() | st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(json_data)
def test_data_is_read_back_as_it_was_and_cannot_end_its_script(data: object) -> None:
    text = as_json([data, HOSTILE])
    assert "<" not in text
    assert json.loads(text) == [data, HOSTILE]


@pytest.mark.parametrize("kind", get_args(Page))
def test_hostile_names_stay_text(kind: Page) -> None:
    plain, hostile = Elements(render_page(kind, "a", {})), Elements(render_page(kind, HOSTILE, {HOSTILE: [HOSTILE]}))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert hostile.scripts == plain.scripts
    assert hostile.title == f"{HOSTILE} · skiplight"
    assert [json.loads(text) for text in hostile.json] == [{HOSTILE: [HOSTILE]}]


def test_markup_in_findings_stays_text() -> None:
    said = render_findings_html(
        "# title\n\n<script>alert(1)</script> [a](javascript:alert(1)) ![b](http://example.org/b.png)\n\n"
        "| a |\n|---|\n| `<b>` |\n"
    )
    assert not re.search("<(script|a|img|b)\\b", said)
    assert "<table>" in said
    assert "&lt;script&gt;" in said


def test_a_name_that_is_no_text_does_not_keep_a_page_from_being_written(tmp_path: Path) -> None:
    name = b"run-\xff".decode("utf-8", "surrogateescape")
    write_page(tmp_path / "report.html", render_page("run", name, {"name": name}))
    assert "run-\\udcff" in (tmp_path / "report.html").read_text(encoding="utf-8")
