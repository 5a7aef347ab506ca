"""What users register themselves: chosen, checked and trained like what the package brings, and refused when wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from skiplight.cli import main
from skiplight.vectors.word_vectors import WordVectors
from tests.support.runs import metrics, skiplight, train_arguments
from tests.support.texts import write_texts

PLUGIN = """
import numpy as np
import torchmetrics
from skiplight import ScoreObjective, register_evaluation, register_noise, register_objective


@register_evaluation("lengths")
def lengths(vectors, *, top: int = 1000):
    norms = vectors.input[:top].norm(dim=1)
    return {"mean": norms.mean(), "largest": norms.max()}


@register_evaluation("norm")
class Norm(torchmetrics.MeanMetric):
    higher_is_better = False

    def update(self, vectors, *, rank=0, world=1):
        super().update(vectors.input[rank::world].norm(dim=1))


@register_evaluation("broken")
def broken(vectors):
    return float("nan")


@register_noise("root_log")
def root_log(counts, *, root: float = 2.0):
    return np.log1p(counts) ** (1 / root)


@register_noise("by_word")
def by_word(counts, *, words):
    return np.array([len(word) for word in words])


@register_objective("margin")
class Margin(ScoreObjective):
    def __init__(self, noise, *, margin: float = 1.0):
        super().__init__(noise)
        self.margin = margin

    def score_loss(self, scores, counted):
        return ((self.margin - scores[:, :1] + scores[:, 1:]).clamp(min=0) * counted[:, 1:]).sum()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugins")
    write_texts(folder / "texts", files=1, documents=20)
    (folder / "mine.py").write_text(PLUGIN)
    return folder


def arguments(folder: Path, run: str, *options: str, plugin: str = "mine.py") -> list[str]:
    """Training in a process of its own, since what is registered stays so."""
    texts, chosen = folder / "texts" / "*.txt", ["trainer.max_epochs=1", "data.heldout=0.2", *options]
    return train_arguments(texts, folder, folder / run, *chosen, f"plugins=[{folder / plugin}]")


@pytest.mark.parametrize(
    ("run", "options", "engine"),
    [
        ("noise", ["noise=root_log", "noise.root=3"], "fused"),
        ("words", ["noise.name=by_word"], "fused"),
        ("objective", ["objective=margin", "objective.margin=0.5", "noise=root_log"], "autograd"),
    ],
)
def test_a_run_trains_with_them_and_reading_it_needs_them_named_again(
    folder: Path, run: str, options: list[str], engine: str
) -> None:
    done = skiplight(arguments(folder, run, *options))
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / run / "summary.json").read_text())
    assert summary["engine"] == engine
    assert summary["evaluation"]["heldout"]["perplexity"] < summary["vocabulary_size"]
    saved = yaml.safe_load((folder / run / "config.yaml").read_text())
    assert saved["plugins"] == [str(folder / "mine.py")]
    refused = skiplight(["report", str(folder / run)])
    assert refused.returncode == 2
    assert f"it was made with the plug-ins {folder / 'mine.py'}; name them again" in refused.stderr
    again = skiplight(["report", str(folder / run), f"plugins=[{folder / 'mine.py'}]"])
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_trials_and_ranks_have_the_plugins_of_the_command(folder: Path) -> None:
    options = ["-m", "noise=root_log", "trainer.devices=2", "trainer.accelerator=cpu"]
    done = skiplight(arguments(folder, "many", *options))
    assert done.returncode == 0, done.stderr
    assert "1 of 1 trials are finished" in done.stdout
    swept = ["noise.name=root_log,power", "study.metric=evaluation/norm", "study.sampler=grid"]
    done = skiplight(["sweep", *arguments(folder, "study", *swept, "evaluation.metrics=[norm,lengths]")[1:]])
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((folder / "study" / "trials.csv").open()))
    assert "evaluation/lengths/largest" in rows[0]
    assert "Ranked by lowest evaluation/norm" in (folder / "study" / "report.md").read_text()
    best = yaml.safe_load((folder / "study" / "experiment" / "best.yaml").read_text())
    chosen = {group: name for entry in best["defaults"] for group, name in entry.items()}
    assert chosen["override /noise"] in ("root_log", "power")


def test_evaluations_of_plugins_follow_a_run_of_two_ranks(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = ["evaluation.metrics=[lengths,norm,broken]", "evaluation.metrics.lengths.top=5", "evaluation.every=4000"]
    done = skiplight(arguments(folder, "evaluated", *options, "trainer.devices=2", "trainer.accelerator=cpu"))
    assert done.returncode == 0, done.stderr
    run, plugin = folder / "evaluated", f"plugins=[{folder / 'mine.py'}]"
    norms = WordVectors.load(run).input.norm(dim=1)
    expected = {"mean": float(norms[:5].mean()), "largest": float(norms[:5].max())}
    reason = "the evaluation broken of mine: its result is nan, which is not a finite number; correct it, or leave it"
    found = json.loads((run / "summary.json").read_text())["evaluation"]
    assert found["lengths"]["scores"] == pytest.approx(expected)
    assert found["norm"]["score"] == pytest.approx(float(norms.mean()))
    assert found["broken"]["error"].startswith(reason)
    assert done.stderr.count(reason) == 1, "once for all ranks"
    lines = [line for line in metrics(run) if "evaluation/norm" in line]
    assert len(lines) > 1
    assert lines[-1]["evaluation/lengths/mean"] == found["lengths"]["scores"]["mean"]
    assert "norm:" in done.stdout
    scored = skiplight(["evaluate", str(run), plugin, "--json", "--similarity", "--analogy"])
    again = json.loads(scored.stdout)
    assert list(again) == ["lengths", "norm", "broken"]
    assert again["lengths"]["scores"] == pytest.approx(expected)
    assert again["norm"] == pytest.approx(found["norm"])
    scored = skiplight(["evaluate", str(run), plugin, "--metrics", "{lengths: {top: 1}}", "--similarity", "--analogy"])
    assert f"{float(norms[0]):.3f}" in scored.stdout
    assert main(["evaluate", str(run), "--similarity", "--analogy"]) == 0
    assert "the run's own evaluations are left out" in caplog.text


CALLBACK = """
import lightning
import skiplight

@skiplight.register_callback("best")
class Best(lightning.Callback):
    def __init__(self, *, path: str = "best"):
        self.path, self.best = path, float("inf")

    def on_train_batch_end(self, trainer, *args):
        self.best = min(self.best, float(trainer.callback_metrics.get("heldout/perplexity", self.best)))

    def on_train_end(self, trainer, *args):
        if trainer.global_rank == trainer.world_size - 1:
            open(self.path, "w").write(str(self.best))
"""


@pytest.mark.parametrize("ranks", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_callbacks_of_lightning_and_of_plugins_follow_a_run(folder: Path, tmp_path: Path, ranks: int) -> None:
    (folder / "best.py").write_text(CALLBACK)
    stop = "stop: {_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: train/loss, min_delta: 9, patience: 1}"
    chosen = ["callbacks=best", f"callbacks.best.path={tmp_path / 'best'}", f"+callbacks.{stop.replace(': ', '=', 1)}"]
    options = [*chosen, "evaluation.every=1000", "trainer.max_epochs=9"]
    options += ["trainer.accelerator=cpu", f"trainer.devices={ranks}"]
    run = f"callbacks-{ranks}"
    given = [option for option in arguments(folder, run, plugin="best.py") if option != "trainer.max_epochs=1"]
    done = skiplight([*given, *options])
    assert done.returncode == 0, done.stderr
    summary = json.loads((folder / run / "summary.json").read_text())
    assert summary["epochs"] == pytest.approx(2, abs=0.1)  # of nine
    lines = [json.loads(line) for line in (folder / run / "metrics.jsonl").read_text().splitlines()]
    found = [line["heldout/perplexity"] for line in lines if "heldout/perplexity" in line]
    assert float((tmp_path / "best").read_text()) == pytest.approx(min(found[:-1]), rel=1e-5)
    assert found[-1] == summary["evaluation"]["heldout"]["perplexity"]  # evaluated where it was stopped


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        ("{a: {_target_: os.system, command: 'touch harm'}}", "give a callback of lightning or skiplight"),
        ("{a: {_target_: lightning.fabric.utilities.seed.os.system}}", "is not there"),
        ("{a: {_target_: lightning.pytorch.Trainer}}", "is no callback of Lightning"),
        ("{a: {_target_: lightning.pytorch.callbacks.EarlyStoping}}", "is not there"),
        ("{a: {_target_: lightning.pytorch.callbacks.EarlyStopping}}", "cannot be made: TypeError"),
        ("{a: {_target_: lightning.pytorch.callbacks.Timer, duration: {_target_: os.system}}}", "not its arguments"),
        ("{a: {monitor: loss}}", "needs `_target_`"),
        ("[a]", "`callbacks=a` is none of early_stopping,"),
        ("a", "`callbacks=a` is none of early_stopping,"),
    ],
)
def test_callbacks_that_are_none_run_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, callbacks: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = skiplight([*arguments(folder, "refused"), f"callbacks={callbacks}"])
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert not (tmp_path / "harm").exists()
    assert not (folder / "refused").exists()


OWN = """
from dataclasses import dataclass
from skiplight.registry import option

@dataclass
class Options:
    top: int = option(9, "words", low=1)

@register_evaluation('g', options=Options)
def g(vectors, top): return top
"""


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("import nowhere_at_all", [], "cannot be imported: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("1 +", [], "cannot be imported: SyntaxError"),
        ("@register_noise('power')\ndef f(counts): return counts", [], "`noise=power` is registered by skiplight."),
        ("@register_noise('a b')\ndef f(counts): return counts", [], "give a name of letters, digits and _"),
        ("@register_noise('f')\ndef f(counts, *, a): return counts", [], "the option `a` needs a type and a default"),
        (
            "@register_evaluation('hit_rate')\ndef f(vectors): return 1",
            [],
            "`evaluation.metrics=hit_rate` is registered by",
        ),
        (OWN, ["evaluation.metrics={g: {tpo: 3}}"], "`evaluation.metrics.g.tpo`"),
        (OWN, ["evaluation.metrics.g.top=a"], "`evaluation.metrics.g.top`: Value 'a'"),
        (OWN, ["evaluation.metrics.g.top=0"], "`evaluation.metrics.g.top=0` is out of range: it must be at least 1"),
        ("@register_noise('f')\ndef f(counts): return -counts", ["noise=f"], "word 0 is negative"),
        ("@register_noise('f')\ndef f(counts): return counts * 0", ["noise=f"], "all weights are 0"),
        ("@register_noise('f')\ndef f(counts): return counts[1:]", ["noise=f"], "its weights are of shape"),
        ("@register_noise('f')\ndef f(counts): return counts * 1j", ["noise=f"], "its weights are complex"),
        ("@register_noise('f')\ndef f(counts): return counts / 0", ["noise=f"], "is not finite"),
        ("@register_noise('f')\ndef f(counts): return counts.nothing", ["noise=f"], "AttributeError"),
        (
            "@register_noise('f')\ndef f(counts): return counts - counts.min()",
            ["noise=f", "objective=nce"],
            "has words of weight 0, and `objective=nce`",
        ),
        ("@register_objective('o')\nclass O(ScoreObjective): pass", ["objective=o"], "abstract method"),
        (
            "@register_objective('o')\nclass O(ScoreObjective):\n  def score_loss(self, s, c): return s.sum(1)",
            ["objective=o"],
            "its loss must be one number",
        ),
        (
            "@register_objective('o')\nclass O(ScoreObjective):\n  def score_loss(self, s, c): return s.detach().sum()",
            ["objective=o"],
            "its loss has no gradient",
        ),
        (
            "@register_objective('o')\nclass O(ScoreObjective):\n  def score_loss(self, s, c): return (s / 0).sum()",
            ["objective=o"],
            "its loss of a few windows is",
        ),
    ],
)
def test_what_is_wrong_with_a_plugin_is_said_before_training(
    folder: Path, tmp_path: Path, text: str, options: list[str], message: str
) -> None:
    imports = "from skiplight import ScoreObjective, register_evaluation, register_noise, register_objective\n"
    (tmp_path / "wrong.py").write_text(imports + text)
    done = skiplight(arguments(folder, f"wrong-{tmp_path.name}", *options, plugin=str(tmp_path / "wrong.py")))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / f"wrong-{tmp_path.name}").exists()


def test_weights_of_a_file_are_drawn(folder: Path, tmp_path: Path) -> None:
    from skiplight.sampling.noise import NoiseDistribution, file_weights

    (tmp_path / "weights.tsv").write_text("new york\t2\nb 1e-1\n\n")
    words = ["new york", "b", "other"]
    weights = file_weights(np.ones(3), path=str(tmp_path / "weights.tsv"), words=words)
    assert weights.tolist() == [2, 0.1, 0]
    assert NoiseDistribution(weights).probabilities == pytest.approx([2 / 2.1, 0.1 / 2.1, 0])
    with pytest.raises(ValueError, match="has none of the 2 words of the vocabulary"):
        file_weights(np.ones(2), path=str(tmp_path / "weights.tsv"), words=["c", "d"])
    (tmp_path / "weights.tsv").write_text("b one\n")
    with pytest.raises(ValueError, match="line 1: 'b one' has no weight"):
        file_weights(np.ones(3), path=str(tmp_path / "weights.tsv"), words=words)
    done = skiplight([o for o in arguments(folder, "file", "noise=from_file") if not o.startswith("plugins=")])
    assert done.returncode == 2
    assert "`noise.path` is missing: give the file of weights" in done.stderr
