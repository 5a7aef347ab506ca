"""No code comes in with data, and no secret goes out: in the sources, in addresses, in compressed files."""

from __future__ import annotations

import ast
import bz2
import gzip
import json
import lzma
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

import skiplight
from skiplight.cli import main
from skiplight.corpus import TokenStore, open_source, prepare
from skiplight.errors import DataError
from tests.support.runs import train_arguments

FORBIDDEN = {
    "eval",
    "exec",
    "compile",
    "os.system",
    "os.popen",
    "pickle.load",
    "pickle.loads",
    "torch.load",
    "yaml.load",
}


def test_nothing_in_the_sources_runs_what_it_reads() -> None:
    for file in Path(skiplight.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            keywords = {keyword.arg: getattr(keyword.value, "value", None) for keyword in node.keywords}
            allowed = ast.unparse(node.func) == "torch.load" and keywords.get("weights_only") is True
            assert ast.unparse(node.func) not in FORBIDDEN or allowed, f"{file}:{node.lineno}"
            assert not {"shell", "trust_remote_code"} & {name for name, value in keywords.items() if value}, (
                f"{file}:{node.lineno}"
            )


def test_no_script_of_a_page_makes_markup_of_data() -> None:
    scripts = list((Path(skiplight.__file__).parent / "report" / "scripts").glob("*.js"))
    assert len(scripts) > 5
    for file in scripts:
        found = re.findall(
            r"\b(?:innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|Function|srcdoc|DOMParser|fetch|XMLHttpRequest)\b",
            file.read_text(encoding="utf-8"),
        )
        assert not found, file


def test_a_run_page_holds_hostile_words_and_names_as_text(tmp_path: Path) -> None:
    words = ["</script><script>alert(1)</script>", "<!--", "<img/src=x/onerror=alert(1)>", "{{data}}", "&lt;"]
    (tmp_path / "a.txt").write_text(" ".join(words * 300))
    run = tmp_path / "<img src=x onerror=alert(1)>"
    options = ["data.normalise=none", "data.heldout=0", "noise.exclude=none", f"evaluation.words=['{words[2]}']"]
    assert (
        main([a.replace(str(run), f"'{run}'") for a in train_arguments(tmp_path / "a.txt", tmp_path, run, *options)])
        == 0
    )
    page = (run / "report.html").read_text(encoding="utf-8")
    for word in [*words[:3], run.name]:
        assert word not in page
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert set(data["map"]["words"]) == set(words)
    assert data["name"] == run.name


@pytest.mark.parametrize(
    ("address", "secret", "place"),
    [
        ("https://ann:s3cr3t@example.org/a.txt", "s3cr3t", "netrc"),
        ("https://example.org/a.txt?lang=en&token=s3cr3t", "s3cr3t", "netrc"),
        ("https://example.org/a.txt?sig=s3cr3t#x", "s3cr3t", "netrc"),
        ("s3://key:s3cr3t@bucket/a.txt", "s3cr3t", "AWS_ACCESS_KEY_ID"),
        ("zip://a.txt::https://example.org/a.zip?X-Amz-Signature=s3cr3t", "s3cr3t", "netrc"),
    ],
)
def test_a_secret_in_an_address_is_refused_and_not_repeated(
    tmp_path: Path, address: str, secret: str, place: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train_arguments(Path("x"), tmp_path, tmp_path / "run", f"data.path='{address}'")) == 2
    said = capsys.readouterr().err
    assert place in said
    assert secret not in said
    assert not (tmp_path / "run").exists()


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a text that only ann may read, whose password is 1234."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            allowed = self.headers.get("Authorization") == "Basic YW5uOjEyMzQ="
            data = b"to be or not to be\n" * 100 if allowed else b""
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", '"1"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("localhost", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://localhost:{http.server_port}/a.txt"
        http.shutdown()


def test_a_password_in_netrc_is_used(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("machine nowhere login ann password 1234\n")
    with pytest.raises(DataError, match="cannot be read"):
        open_source("files", path=server, cache=tmp_path)
    (tmp_path / "netrc").write_text("machine localhost login ann password 1234\n")
    source = open_source("files", path=server, cache=tmp_path)
    store = prepare(source, normalise="text8", min_count=1, heldout=0, stores=tmp_path / "stores")
    assert store.tokens == 600


@pytest.mark.parametrize(("suffix", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
@pytest.mark.parametrize("kind", ["txt", "jsonl"])
def test_a_file_unpacks_to_so_much_and_no_more(
    tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes], kind: str
) -> None:
    words = b"a b " * 500_000
    path = tmp_path / f"bomb.{kind}.{suffix}"
    path.write_bytes(pack(words if kind == "txt" else b'{"text": "' + words + b'"}\n'))
    for max_bytes in (100_000, None):
        source = open_source("files", path=path, cache=tmp_path, max_bytes=max_bytes)
        options = {"normalise": "text8", "min_count": 1, "heldout": 0, "stores": tmp_path / "stores", "threads": 1}
        if max_bytes is None:
            store = prepare(source, **options)
            assert isinstance(store, TokenStore)
            assert store.train.tokens == 1_000_000
        else:
            with pytest.raises(DataError, match=r"unpacks to more than 100,000 bytes; .*data\.max_bytes"):
                prepare(source, **options)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_json_that_is_nested_too_deep_is_refused_before_its_parser_ends_the_process(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / ("a.jsonl.gz" if pack is gzip.compress else "a.jsonl")
    path.write_bytes(pack(b'{"text": "a b"}\n{"text": ' + b"[" * 200_000 + b"]" * 200_000 + b"}\n"))
    source = open_source("files", path=path, cache=tmp_path)
    with pytest.raises(DataError, match=r"a\.jsonl.* has a line with more than 10,000 open brackets"):
        prepare(source, normalise="text8", min_count=1, heldout=0, stores=tmp_path / "stores", threads=1)
    many = b'{"text": "' + b"([{ a b c }]) " * 20_000 + b'"}\n'
    path.write_bytes(pack(many * 2))
    source = open_source("files", path=path, cache=tmp_path)
    store = prepare(source, normalise="text8", min_count=1, heldout=0, stores=tmp_path / "stores", threads=1)
    assert store.tokens == 120_000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("data.workers=9223372036854775808", "at most 64 bits"), ("data.workers=100000", "at most 1024"),
        ("data.path=" + "[" * 100 + "]" * 100, "is nested more than 16 deep"), ("data.path=[[a]]", "is no path"),
        ("study.space=" + "{a:" * 3000 + "1" + "}" * 3000, "is nested more than 16 deep"),
        ("data.path='\udcff'", "of Unicode characters"), ("data.path='a\0b'", "NUL"),
        ("data.path=" + "x" * 5000, "there is no such file"), ("data=1", "`data=1`: give one of files, hub, "),
        ("run_dir=" + "x" * 300, "File name too long"), ("plugins=\udcff", "must be a list"),
        ("evaluation.metrics=" + "[" * 3000 + "]" * 3000, "is nested more than 16 deep"),
    ],
)  # fmt: skip
def test_values_that_no_option_can_have_are_refused(
    tmp_path: Path, value: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 50)
    assert main([*train_arguments(tmp_path / "a.txt", tmp_path, tmp_path / "run"), value]) == 2
    assert message in capsys.readouterr().err
