"""What W&B and CSV hold of a training, read back from the files themselves."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from skiplight.cli import main
from tests.support.runs import (
    kill_when,
    metrics,
    newest_step,
    own_environment,
    skiplight,
    train_arguments,
)
from tests.support.texts import write_texts

SHORT = ["trainer.max_tokens=30000", "evaluation.every=10000", "evaluation.similarity=[wordsim353]", "data.heldout=0.2"]


def records(file: Path) -> Iterator:
    """The records of an offline W&B file: a LevelDB log of protobuf messages behind a header of seven bytes."""
    from wandb.proto import wandb_internal_pb2

    data, at, message = file.read_bytes(), 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # a block of 32 KiB ends in zeros where no header fits
            at += 32768 - at % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        if kind == 0:
            break
        message += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(message)
            message = b""
            yield record


def values(items: Iterable) -> dict:
    """Values by key; the parts of a nested key with a slash between them."""
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def runs(folder: Path) -> list[dict]:
    """Of each offline W&B run below a folder: id, group, config, history, summary, metrics that are defined, artifacts
    by type with the files and where they lie, charts by name, names of files, exit code."""
    found = []
    for file in sorted(folder.glob("**/offline-run-*/*.wandb")):
        run: dict = {"history": [], "summary": {}, "defined": {}, "artifacts": {}, "files": [], "exit": None}
        run["charts"] = {}
        for record in records(file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                run |= {"id": record.run.run_id, "group": record.run.run_group, "project": record.run.project}
                run |= {"name": record.run.display_name, "entity": record.run.entity, "tags": [*record.run.tags]}
                run["config"] = {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                run["history"].append(values(record.history.item))
            elif kind == "summary":
                run["summary"] |= values(record.summary.update)
            elif kind == "artifact":
                contents = {item.path: Path(item.local_path) for item in record.artifact.manifest.contents}
                run["artifacts"].setdefault(record.artifact.type, []).append((record.artifact.name, contents))
            elif kind == "files":
                run["files"] += [file.parent / "files" / item.path for item in record.files.files]
            elif kind == "config":
                charts = [item for item in record.config.update if item.nested_key[:2] == ["_wandb", "visualize"]]
                run["charts"] |= {item.nested_key[2]: json.loads(item.value_json) for item in charts}
            elif kind == "metric":
                run["defined"][record.metric.name or record.metric.glob_name] = record.metric.step_metric
            elif kind == "exit":
                run["exit"] = record.exit.exit_code
        found.append(run)
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loggers")
    write_texts(folder / "texts")
    return folder


def arguments(folder: Path, run: str, *options: str) -> list[str]:
    given = train_arguments(folder / "texts" / "*.txt", folder, folder / run, *SHORT, *options)
    return list({option.partition("=")[0]: option for option in given}.values())  # the last of each option


def test_the_trials_of_a_study_are_named_after_it_and_have_its_tags_and_their_state(folder: Path) -> None:
    options = [
        "logger=wandb", "logger.wandb.tags=[tried]", "logger.wandb.entity=a-team", "noise.exponent=0,1",
        "study.metric=heldout/perplexity", "study.pruner=asha", "study.rungs=1", "study.sampler=grid",
    ]  # fmt: skip
    given = ["sweep", *arguments(folder, "a-study", *options)[1:]]
    assert main(given) == 0
    found = {run["name"]: run for number in (0, 1) for run in runs(folder / "a-study" / str(number))}
    assert set(found) == {"a-study/0", "a-study/1"}
    assert sorted(run["summary"]["state"] for run in found.values()) == ["complete", "paused"]
    for name, run in found.items():
        assert (run["group"], run["entity"], run["tags"], run["exit"]) == ("a-study", "a-team", ["tried"], 0)
        assert run["config"]["noise"]["exponent"] == int(name[-1])


def test_two_trainings_of_a_process_are_two_runs_of_wandb(folder: Path) -> None:
    before = dict(os.environ)
    for name in ("one", "two"):
        options = ["logger=wandb", "logger.wandb.group=a-group", "evaluation.words=[abcde]"]
        assert main(arguments(folder, f"wandb/{name}", *options)) == 0
    assert os.environ.get("WANDB_MODE") == before.get("WANDB_MODE")
    one, two = runs(folder / "wandb")
    assert one["id"] != two["id"]
    for run, name in ((one, "one"), (two, "two")):
        assert run["id"] == json.loads((folder / "wandb" / name / "environment.json").read_text())["id"]
        assert (run["group"], run["project"], run["exit"]) == ("a-group", "skiplight", 0)
        assert run["config"]["model"]["dim"] == 16
        assert run["defined"]["*"] == "tokens"
        ours = [line for line in metrics(folder / "wandb" / name) if "train/loss" in line]
        theirs = [line for line in run["history"] if "train/loss" in line]
        assert [line["tokens"] for line in theirs] == [line["tokens"] for line in ours]
        assert [line["train/loss"] for line in theirs] == pytest.approx([line["train/loss"] for line in ours])
        assert sum("heldout/perplexity" in line for line in run["history"]) == 3


def test_scores_neighbors_and_the_model_are_in_the_offline_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skiplight.report.words.WORDS", 100)
    words = Counter((folder / "texts" / "0.txt").read_text().split()).most_common(6)
    (folder / "pairs.tsv").write_text("".join(f"{words[0][0]}\t{word}\t{n}\n" for word, n in words[1:]))
    options = [f"evaluation.similarity=[{folder / 'pairs.tsv'}]", f"evaluation.words=[{words[0][0]}]"]
    assert main(arguments(folder, "scored", "logger=wandb", "logger.wandb.artifact=true", *options)) == 0
    (run,) = runs(folder / "scored")

    summary = json.loads((folder / "scored" / "summary.json").read_text())
    del summary["format"]  # of the file
    summary |= {f"seconds/{part}": seconds for part, seconds in summary.pop("seconds").items()}
    assert set(summary["evaluation"]) == {"pairs", "heldout"}
    assert {name: run["summary"][name] for name in summary} == summary
    assert run["config"] == yaml.safe_load((folder / "scored" / "config.yaml").read_text()) | {
        "_wandb": run["config"]["_wandb"]
    }
    scored = [line for line in run["history"] if "evaluation/pairs" in line]
    ours = [line for line in metrics(folder / "scored") if "evaluation/pairs" in line]
    assert len(ours) == 3
    for name in ("tokens", "evaluation/pairs", "heldout/perplexity", "heldout/loss"):
        assert [line[name] for line in scored] == [line[name] for line in ours]

    tables = [json.loads(path.read_text()) for path in run["files"] if path.name.startswith("neighbors")]
    assert len(tables) == 3
    assert tables[-1]["columns"] == ["word", "rank", "neighbor", "cosine"]
    near = [(neighbor, cosine) for _, _, neighbor, cosine in tables[-1]["data"]]
    assert near == [tuple(found) for found in summary["neighbors"][words[0][0]]]
    assert [row[:2] for row in tables[-1]["data"]] == [[words[0][0], rank] for rank in range(1, 11)]

    (pairs,) = (json.loads(path.read_text()) for path in run["files"] if path.name.startswith("pairs_table"))
    assert pairs["columns"][:4] == ["first", "second", "people", "cosine"]
    assert len(pairs["data"]) == summary["evaluation"]["pairs"]["pairs"] == 5
    (placed,) = (json.loads(path.read_text()) for path in run["files"] if path.name.startswith("map_table"))
    assert placed["columns"] == ["word", "count", "group", "x", "y"]
    assert len(placed["data"]) == 100 < summary["vocabulary_size"]
    (page,) = (path for path in run["files"] if path.suffix == ".html")
    assert page.read_text() == (folder / "scored" / "report.html").read_text()
    charts = {chart["panel_config"]["panelDefId"] for chart in run["charts"].values()}
    assert charts == {"wandb/scatter/v0"}
    assert set(run["charts"]) == {"map", "similarity/pairs"}

    ((name, contents),) = run["artifacts"]["model"]
    assert name == f"vectors-{run['id']}"
    vectors = folder / "scored" / "vectors"
    assert contents == {path.name: path for path in vectors.iterdir()}
    assert set(contents) == {"vectors.safetensors", "vocabulary.tsv", "README.md"}


class Server(BaseHTTPRequestHandler):
    """Takes what `wandb sync` sends: GraphQL, the stream of a run's lines, and files."""

    lines: list[dict]
    files: dict[str, bytes]
    artifacts: list[dict]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer: dict = {}
        if self.path == "/graphql":
            answer = {"data": self.graphql(**json.loads(body))}
        elif self.path.endswith("/file_stream"):
            sent = json.loads(body).get("files", {}).get("wandb-history.jsonl", {})
            self.lines += map(json.loads, sent.get("content", []))
        elif self.path.startswith("/files/"):
            self.files[self.path.removeprefix("/files/")] = body
        data = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_PUT = do_POST

    def graphql(self, query: str, variables: dict | None = None, **_: object) -> dict:
        variables = variables or {}
        if "mutation UpsertBucket" in query:
            project = {"id": "1", "name": variables["project"], "entity": {"id": "1", "name": "me"}}
            return {"upsertBucket": {"bucket": {"id": "1", "name": variables["name"], "project": project}}}
        if "mutation CreateArtifact " in query:  # answered as one that is there, so that its files are not sent
            self.artifacts.append(variables["input"])
            sequence = {"latestArtifact": {"id": "1"}}
            return {"createArtifact": {"artifact": {"id": "1", "state": "COMMITTED", "artifactSequence": sequence}}}
        if "mutation CreateRunFiles" in query:
            host = f"http://{self.headers['Host']}/files"
            files = [{"name": name, "uploadUrl": f"{host}/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": "1", "uploadHeaders": [], "files": files}}
        return {"serverInfo": {"features": []}}

    def log_message(self, *arguments: object) -> None:
        pass


def test_wandb_sync_reads_the_folder_and_sends_it_all(folder: Path) -> None:
    run = folder / "synced"
    words = (folder / "texts" / "0.txt").read_text().split()
    options = [
        "logger=wandb",
        "logger.wandb.artifact=true",
        "logger.wandb.project=words",
        f"evaluation.words=[{words[0]}]",
    ]
    assert main(arguments(folder, "synced", *options)) == 0
    handler = type("OneServer", (Server,), {"lines": [], "files": {}, "artifacts": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        login = {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}", "WANDB_API_KEY": "k" * 40}
        done = subprocess.run(
            [sys.executable, "-m", "wandb", "sync", *map(str, run.glob("wandb/offline-run-*"))],
            env=own_environment() | login, cwd=run, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        server.shutdown()
    assert done.returncode == 0, done.stderr

    summary = json.loads((run / "summary.json").read_text())
    del summary["format"]  # of the file
    summary |= {f"seconds/{part}": seconds for part, seconds in summary.pop("seconds").items()}
    sent = json.loads(handler.files["wandb-summary.json"])
    assert {name: sent[name] for name in summary} == summary
    config = yaml.safe_load(handler.files["config.yaml"])
    assert config["model"]["value"] == yaml.safe_load((run / "config.yaml").read_text())["model"]
    ours = [(line["tokens"], line["train/loss"]) for line in metrics(run) if "train/loss" in line]
    assert [(line["tokens"], line["train/loss"]) for line in handler.lines if "train/loss" in line] == ours
    assert sum(name.startswith("media/table/evaluation/neighbors") for name in handler.files) == 3
    assert "model" in {artifact["artifactTypeName"] for artifact in handler.artifacts}


def test_a_resumed_run_keeps_its_id_and_its_steps_go_on(folder: Path) -> None:
    run = folder / "resumed"
    options = ["logger=wandb", "checkpoint.every=0.02", "trainer.max_epochs=20"]
    texts = folder / "texts" / "*.txt"
    kill_when(train_arguments(texts, folder, run, *options), lambda: newest_step(run) > 3)
    done = skiplight(["resume", str(run)])
    assert done.returncode == 0, done.stderr
    # What the killed one had not yet written is lost, but both files are of one run, as `wandb sync` names it.
    killed, resumed = sorted(run.glob("wandb/offline-run-*/*.wandb"))
    assert killed.name == resumed.name
    before, after = runs(run)
    assert after["id"] == json.loads((run / "environment.json").read_text())["id"]
    (first,) = re.findall(r"going on from \S+step-(\d+)", done.stderr)
    ours = {line["step"]: line["tokens"] for line in metrics(run)}
    steps = [line["_step"] for line in after["history"]]
    assert steps == sorted(set(steps))
    assert steps[0] == min(step for step in ours if step > int(first))
    assert steps[-1] == max(ours)
    rows = before["history"] + after["history"]
    assert all(ours[line["_step"]] == line["tokens"] for line in rows)
    assert all(line["_step"] == line["trainer/global_step"] for line in rows)


def test_csv_has_the_same_figures(folder: Path) -> None:
    assert main(arguments(folder, "csv", "logger=csv")) == 0
    with (folder / "csv" / "csv" / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["train/loss"]]
    ours = [line for line in metrics(folder / "csv") if "train/loss" in line]
    assert [float(row["train/loss"]) for row in rows] == pytest.approx([line["train/loss"] for line in ours])


def test_several_loggers_and_one_by_its_class_have_the_same_figures(folder: Path) -> None:
    own = "logger.mine={_target_: lightning.pytorch.loggers.CSVLogger, name: mine, version: ''}"
    assert main(arguments(folder, "several", "logger=[wandb,csv]", f"+{own}", "evaluation.words=[abcde]")) == 0
    ours = [line["train/loss"] for line in metrics(folder / "several") if "train/loss" in line]
    [run] = runs(folder / "several")
    assert [line["train/loss"] for line in run["history"] if "train/loss" in line] == pytest.approx(ours)
    for path in ("csv/metrics.csv", "mine/metrics.csv"):
        with (folder / "several" / path).open() as file:
            found = [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]
        assert found == pytest.approx(ours)
    saved = yaml.safe_load((folder / "several" / "config.yaml").read_text())["logger"]
    assert list(saved) == ["wandb", "csv", "mine"]


def test_tensorboard_has_the_same_figures(folder: Path) -> None:
    tensorboard = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    assert main(arguments(folder, "board", "logger=tensorboard")) == 0
    events = tensorboard.EventAccumulator(str(folder / "board" / "tensorboard"))
    events.Reload()
    ours = [line["train/loss"] for line in metrics(folder / "board") if "train/loss" in line]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(ours)


def test_mlflow_has_the_same_figures(folder: Path) -> None:
    mlflow = pytest.importorskip("mlflow")
    assert main(arguments(folder, "mlflow", "logger=mlflow", "logger.mlflow.experiment_name=words")) == 0
    client = mlflow.MlflowClient(f"sqlite:///{(folder / 'mlflow').resolve() / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("words").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_id == json.loads((folder / "mlflow" / "environment.json").read_text())["mlflow_run_id"]
    ours = [line["train/loss"] for line in metrics(folder / "mlflow") if "train/loss" in line]
    assert [found.value for found in client.get_metric_history(run.info.run_id, "train/loss")] == pytest.approx(ours)


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "tensorboard"), ("mlflow", "mlflow")])
def test_a_logger_whose_package_is_missing_is_refused_with_the_line_for_pip(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, module: str
) -> None:
    if importlib.util.find_spec(module) or (name == "tensorboard" and importlib.util.find_spec("tensorboardX")):
        pytest.skip(f"{module} is installed")
    given = [option for option in arguments(folder, "missing", f"logger={name}") if not option.startswith("data.path")]
    assert main([*given, "data.path=/no/such/text"]) == 2  # before the text is looked for
    assert f"`pip install {module}`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("logger", "message"),
    [
        ("{a: {_target_: os.system, command: 'touch harm'}}", "give a logger of lightning or skiplight"),
        ("{a: {_target_: lightning.pytorch.callbacks.Timer}}", "is no logger of Lightning"),
        ("{a: {_target_: lightning.pytorch.loggers.CSVLogger, dir: x}}", "unexpected keyword argument 'dir'"),
        ("{a: {_target_: lightning.pytorch.loggers.CSVLoger}}", "is not there"),
        ("{a: {_target_: lightning.pytorch.loggers.CSVLogger, name: {_target_: os.system}}}", "not its arguments"),
        ("{a: {name: b}}", "needs a `_target_`"),
    ],
)
def test_loggers_that_are_none_run_nothing(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    logger: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [option for option in arguments(folder, "none") if not option.startswith("logger=")]
    assert main([*given, f"logger={logger}"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "harm").exists()
    assert not (folder / "none").exists()


@pytest.mark.parametrize("kind", ["similarity", "analogy", "hit_rate"])
def test_files_of_evaluations_are_read_before_the_text(
    folder: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.txt"
    broken.write_bytes(b"\xff")
    for file, message in ((broken, "is not UTF-8 at byte 0"), (tmp_path / "absent.txt", "there is no evaluation set")):
        assert main(arguments(folder, "broken", f"evaluation.{kind}=[{file}]", "data.path=/no/such/text")) == 2
        said = capsys.readouterr().err
        assert f"`evaluation.{kind}=[{file}]`: " in said
        assert message in said
        assert not (folder / "broken").exists()


@pytest.mark.parametrize(
    "verb", [["sweep", "model.dim=4,8", "study.sampler=grid"], ["compare"], ["train", "-m", "model.dim=4,8"]]
)
def test_they_are_read_before_the_runs_of_an_experiment(
    folder: Path, tmp_path: Path, verb: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.txt").write_bytes(b"\xff")
    options = [f"evaluation.similarity=[{tmp_path / 'broken.txt'}]", "data.path=/no/such/text"]
    name, *more = verb
    given = [option for option in arguments(folder, "broken")[1:] if not option.startswith("model.dim")]
    assert main([name, *given, *more, *options]) == 2
    assert "is not UTF-8 at byte 0" in capsys.readouterr().err
    assert not (folder / "broken").exists()


def test_an_evaluation_that_cannot_be_made_does_not_end_training(folder: Path) -> None:
    broken = folder / "broken.txt"
    broken.write_text("one two 3\n")
    assert main(arguments(folder, "broken", f"evaluation.similarity=[wordsim353,{broken}]")) == 0
    found = json.loads((folder / "broken" / "summary.json").read_text())["evaluation"]
    assert "0 of its 1 pairs" in found["broken"]["error"]
    assert found["heldout"]["perplexity"] > 1
