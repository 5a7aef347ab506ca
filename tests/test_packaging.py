"""The wheel carries its configs, and trains in an empty folder far from any checkout."""

from __future__ import annotations

import ast
import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from skiplight import __version__
from skiplight.config import conf_dir
from tests.support.texts import write_texts

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_a_checkout_reads_its_own_conf() -> None:
    assert conf_dir() == ROOT / "conf"


def test_the_wheel_has_all_of_conf(installed: Path) -> None:
    ours = {path.relative_to(ROOT / "conf") for path in (ROOT / "conf").rglob("*.yaml")}
    packaged = installed / "skiplight" / "conf"
    assert {path.relative_to(packaged) for path in packaged.rglob("*.yaml")} == ours


def test_the_wheel_has_the_source_of_the_cuda_kernel(installed: Path) -> None:
    name = "engines/fused_gpu_warps.cu"
    assert (installed / "skiplight" / name).read_bytes() == (ROOT / "src" / "skiplight" / name).read_bytes()


def test_the_wheel_says_that_it_is_typed(installed: Path) -> None:
    assert (installed / "skiplight" / "py.typed").exists()


def test_every_import_is_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needs = project["dependencies"] + project["optional-dependencies"]["auto"]
    declared = {re.split(r"[<>=!~;\[ ]", need)[0].lower().replace("_", "-") for need in needs}
    imported = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            imported |= {name.partition(".")[0] for name in names}
    # Triton and NVIDIA's bindings (cuda) come with builds of torch for GPUs, IPython with the notebook.
    others = imported - set(sys.stdlib_module_names) - {"skiplight", "triton", "cuda", "IPython"}
    found = importlib.metadata.packages_distributions()
    missing = {name for name in others if not declared & {d.lower().replace("_", "-") for d in found.get(name, [name])}}
    assert not missing


def pinned(name: str) -> dict[str, set[str]]:
    """Return the versions that a file of requirements pins each project to, several where markers choose."""
    versions: dict[str, set[str]] = {}
    for line in (ROOT / name).read_text().splitlines():
        if found := re.match(r"([\w.-]+)==([^ ;\\]+)", line):
            versions.setdefault(found[1].lower().replace("_", "-"), set()).add(found[2])
    return versions


def test_the_lock_and_the_constraints_name_the_same_versions() -> None:
    constraints, locked = pinned("constraints.txt"), pinned("requirements.lock")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in ("notebook", "auto"):  # not every package of theirs has a file for all platforms on the index
        del project["optional-dependencies"][extra]
    needs = itertools.chain(project["dependencies"], *project["optional-dependencies"].values())
    direct = {re.split(r"[<>=!~;\[ ]", need)[0].lower().replace("_", "-") for need in needs}
    assert direct <= locked.keys()
    assert direct - {"triton"} <= constraints.keys()
    shared = constraints.keys() & locked.keys()
    assert {name: locked[name] for name in shared} == {name: constraints[name] for name in shared}


def test_every_locked_file_has_a_hash() -> None:
    requirements = re.findall(r"^[\w.-]+==.*(?:\n    .*)*", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert len(requirements) >= len(pinned("requirements.lock"))
    assert all("--hash=sha256:" in requirement for requirement in requirements)
    assert "://" not in (ROOT / "requirements.lock").read_text().partition("\n\n")[2]  # names no index


def test_the_citation_names_the_version() -> None:
    assert re.findall(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE) == [__version__]


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, skiplight, skiplight.cli; print([name for name in ('torch', 'numpy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_wheel_trains_in_an_empty_folder(installed: Path, tmp_path: Path) -> None:
    texts = write_texts(tmp_path / "texts", files=1, documents=20)
    empty = tmp_path / "empty"
    empty.mkdir()
    options = ["vocabulary.min_count=1", "trainer.max_epochs=1", "model.dim=8", f"data.store={tmp_path / 'stores'}"]
    done = subprocess.run(
        [sys.executable, "-m", "skiplight.cli", "train", "data=files", f"data.path='{texts}'", *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=empty,
        env=os.environ | {"PYTHONPATH": str(installed)},
    )
    assert done.returncode == 0, done.stderr
    (run,) = (empty / "runs").iterdir()
    assert (run / "vectors" / "vectors.safetensors").exists()
    assert (run / "report.html").exists()
