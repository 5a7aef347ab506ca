"""All sets at once: as summary.json keeps them, an error in the place of a score that cannot be had."""

from __future__ import annotations

import json
import subprocess
import sys

from skiplight.evaluation.analogy import analogy
from skiplight.evaluation.similarity import similarity
from skiplight.evaluation.suite import evaluate


def test_every_set_is_reported_by_its_name(trained, tmp_path):
    (tmp_path / "mine.tsv").write_text("police\tman\t3\nthe\tyear\t1\nnew\tday\t2\n")
    results = evaluate(trained.ours, ["wordsim353", tmp_path / "mine.tsv"], ["google"], restrict_vocabulary=1_000)
    assert list(results) == ["wordsim353", "mine", "google"]
    assert results["wordsim353"]["score"] == similarity(trained.ours, "wordsim353").score
    assert results["google"]["oov"] == analogy(trained.ours, "google", 1_000).oov
    assert json.loads(json.dumps(results))["google"]["sections"]["family"][1] >= 0


def test_a_set_that_cannot_be_evaluated_says_why_and_the_others_are_scored(trained, tmp_path):
    results = evaluate(trained.ours, [tmp_path / "absent.tsv", "simlex999"], [])
    assert "no evaluation set" in results["absent"]["error"]
    assert results["simlex999"]["pairs"] > 10


def test_sets_of_one_name_are_told_apart_by_their_paths(trained, tmp_path):
    paths = [tmp_path / folder / "set.tsv" for folder in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text("police\tman\t3\nthe\tyear\t1\n")
    assert list(evaluate(trained.ours, paths, [])) == ["set", str(paths[1])]


def test_built_in_sets_are_read_without_importing_gensim():
    code = """if True:
        import sys
        import skiplight.evaluation.suite, skiplight.evaluation.neighbors, skiplight.vectors.export
        from skiplight.evaluation.analogy import read_questions
        from skiplight.evaluation.similarity import read_pairs
        assert len(read_questions("google")) == 19544
        assert len(read_pairs("wordsim353").words) == 353
        assert not {"gensim", "torchmetrics", "scipy"} & set(sys.modules), "a slow import"
    """
    subprocess.run([sys.executable, "-c", code], check=True)
