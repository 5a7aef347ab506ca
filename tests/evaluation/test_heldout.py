"""Held-out perplexity is what exact enumeration says, on the pairs that training would see."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from skiplight.data.heldout import HeldoutPairs, heldout_pairs
from skiplight.errors import EvaluationError
from skiplight.evaluation import heldout as module
from skiplight.evaluation.heldout import heldout, unigram
from skiplight.objectives import make_objective
from skiplight.objectives.base import Tables
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.registry import OBJECTIVES
from skiplight.sampling.batches import TokenBlock
from skiplight.sampling.windows import WindowSampler
from skiplight.training.callbacks.evaluation import Evaluation
from skiplight.training.callbacks.tracking import Tracking
from tests.support.own_script import make_trainer
from tests.support.program import Case, parts
from tests.support.reference import log_prob_of
from tests.support.texts import write_texts

COUNTS = np.array([40, 30, 20, 10])


def sampler(**options) -> WindowSampler:
    return WindowSampler(COUNTS, **{"window": 3, "subsample": 0, **options})  # type: ignore[arg-type]


def test_pairs_have_the_weight_with_which_training_sees_them() -> None:
    pairs = heldout_pairs([TokenBlock.of([[0, 1, 2, 3, 0]])], sampler(), 10**6)
    expected: Counter = Counter()
    text = [0, 1, 2, 3, 0]
    for c, centre in enumerate(text):
        for j, context in enumerate(text):
            if 0 < abs(c - j) <= 3:
                expected[context, centre] += (3 - abs(c - j) + 1) / 3
    got: Counter = Counter()
    for i, o, weight in zip(pairs.inputs.tolist(), pairs.outputs.tolist(), pairs.weights.tolist(), strict=True):
        got[i, o] += weight
    assert got == pytest.approx(expected)
    assert pairs.inputs.tolist() == sorted(pairs.inputs.tolist())


def test_training_sees_the_pairs_as_often_in_the_mean() -> None:
    text = np.random.default_rng(0).integers(0, 4, 400).tolist()
    pairs = heldout_pairs([TokenBlock.of([text])], sampler(), 10**6)
    seen = np.zeros((4, 4))
    for epoch in range(200):
        windows = sampler()(TokenBlock.of([text], epoch))
        np.add.at(seen, (windows.inputs.numpy(), windows.target[windows.window_of_pair()].numpy()), 1 / 200)
    weighted = np.zeros((4, 4))
    np.add.at(weighted, (pairs.inputs.numpy(), pairs.outputs.numpy()), pairs.weights.numpy())
    np.testing.assert_allclose(seen, weighted, rtol=0.03)


@pytest.mark.parametrize("chunk", [1, 8, 2**24])
def test_perplexity_is_exact(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    objective, tables = NegativeSampling(COUNTS / COUNTS.sum()), Tables(4, 3)
    torch.nn.init.normal_(tables.output.weight)
    torch.nn.init.normal_(tables.input.weight)
    u, v = tables.output.weight.detach(), tables.input.weight.detach()
    pairs = HeldoutPairs(
        torch.tensor([0, 0, 2, 3]),
        torch.tensor([1, 3, 2, 0]),
        torch.tensor([1.0, 0.5, 2.0, 1.0]).double(),
        torch.tensor([False, True, False, False]),
    )
    losses = []
    for i, o in zip(pairs.inputs.tolist(), pairs.outputs.tolist(), strict=True):
        scores = [math.exp(float(u[k] @ v[i])) * COUNTS[k] for k in range(4)]
        losses.append(-math.log(scores[o] / sum(scores)))
    result = heldout(objective, tables, pairs)
    expected = (losses[0] + 2 * losses[2] + losses[3]) / 4
    assert result.loss == pytest.approx(expected, rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(expected), rel=1e-5)
    assert result.pairs == 3
    assert result.validation is not None
    assert result.validation.loss == pytest.approx(losses[1], rel=1e-5)
    assert result.validation.pairs == 1


@pytest.mark.parametrize("scale", [1.0, 60.0])  # at 60 some exponentials of scores are infinite in float32
@pytest.mark.parametrize("name", OBJECTIVES)
def test_it_is_the_mean_of_log_prob_for_every_objective(name: str, scale: float) -> None:
    torch.manual_seed(0)
    objective = make_objective(name, COUNTS, sampler())
    tables = Tables(4, 6, objective.output_rows(4), bias=objective.unigram_bias(COUNTS))
    for table in (tables.input, tables.output):
        torch.nn.init.normal_(table.weight, std=math.sqrt(scale))
    pairs = heldout_pairs([TokenBlock.of([[0, 1, 2, 3, 0, 0, 1]])], sampler(), 10**6)
    log_prob = log_prob_of(objective, tables, pairs.inputs)[torch.arange(len(pairs.inputs)), pairs.outputs].double()
    expected = -(log_prob * pairs.weights).sum() / pairs.weights.sum()
    assert heldout(objective, tables, pairs).loss == pytest.approx(float(expected.detach()), rel=1e-5)


def test_untrained_tables_are_as_good_as_the_noise_distribution() -> None:
    # Outputs begin at zero, so the corrected likelihood is P_n itself; without the correction it would be 1/V.
    pairs = heldout_pairs([TokenBlock.of([[0, 1, 2, 3, 0, 0, 1]])], sampler(), 10**6)
    p = COUNTS / COUNTS.sum()
    expected = -(pairs.weights * torch.from_numpy(np.log(p))[pairs.outputs]).sum() / pairs.weights.sum()
    assert heldout(NegativeSampling(p), Tables(4, 3), pairs).loss == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(
    ("size", "said"), [(1.0, None), (30.0, r"\d nats per pair"), (float("nan"), "nan nats per pair")]
)
def test_a_loss_without_a_perplexity_is_an_error(size: float, said: str | None) -> None:
    pairs = heldout_pairs([TokenBlock.of([[0, 1, 2, 3, 0, 0, 1]])], sampler(), 10**6)
    tables = Tables(4, 3)
    for table, row in ((tables.input, 0), (tables.output, 3)):
        torch.nn.init.zeros_(table.weight)
        torch.nn.init.constant_(table.weight[row], size)
    objective = NegativeSampling(COUNTS / COUNTS.sum())
    if said is None:
        assert heldout(objective, tables, pairs).perplexity < 1000
        return
    with pytest.raises(
        EvaluationError, match=f"loss of held-out text is .*{said}, without a finite perplexity: the model"
    ):
        heldout(objective, tables, pairs)


def test_where_a_word_has_no_frequency_the_unigram_model_is_infinitely_bad() -> None:
    pairs = heldout_pairs([TokenBlock.of([[0, 1, 2, 3]])], sampler(), 10**6)
    with np.errstate(divide="ignore"):
        assert unigram(pairs, np.array([1.0, 1.0, 1.0, 0.0])).perplexity == math.inf


def test_a_model_that_has_diverged_is_recorded_as_an_error_and_training_goes_on(tmp_path: Path) -> None:
    write_texts(tmp_path / "texts", files=1, documents=20, words=100)
    module, data = parts(tmp_path, Case(lr=1e-9))
    data.validation_pairs = 500
    with torch.no_grad():
        module.tables.input.weight.fill_(30.0)
        module.tables.output.weight[:50] = 30.0
    evaluation = Evaluation(data, Tracking(tmp_path / "metrics.jsonl"), every=None, words=[])
    # As where a run is trained: the callback evaluates.
    make_trainer([evaluation], max_epochs=-1, limit_val_batches=0).fit(module, data)
    assert list(evaluation.results["heldout"]) == ["error"]
    assert "without a finite perplexity: the model has diverged" in evaluation.results["heldout"]["error"]


def test_a_limit_takes_a_draw_that_does_not_depend_on_the_seed() -> None:
    block = TokenBlock.of([np.random.default_rng(1).integers(0, 4, 300).tolist()])
    few, again = (heldout_pairs([block], sampler(seed=seed, subsample=0.1), 50) for seed in (1, 2))
    assert len(few.inputs) == 50
    assert torch.equal(few.inputs, again.inputs)
    assert torch.equal(few.outputs, again.outputs)


def test_a_share_of_the_passages_only_chooses_between_runs() -> None:
    blocks = [TokenBlock.of([[0, 1, 2, 3] * 100] * 125)]
    whole, divided = (heldout_pairs(blocks, sampler(), 10**6, share) for share in (0.0, 0.3))
    assert not whole.validation.any()
    assert torch.equal(whole.inputs, divided.inputs)
    assert torch.equal(whole.outputs, divided.outputs)
    share = float((divided.weights * divided.validation).sum() / divided.weights.sum())
    assert share == pytest.approx(0.3, abs=0.07)
    with pytest.raises(EvaluationError, match=r"too short to be divided by `evaluation.validation=0.3`"):
        heldout_pairs([TokenBlock.of([[0, 1, 2, 3]])], sampler(), 10**6, 0.3)


def test_no_held_out_text_is_an_error_that_names_the_option() -> None:
    for blocks in ([], [TokenBlock.of([[1]])]):
        with pytest.raises(EvaluationError, match=r"data\.heldout"):
            heldout_pairs(blocks, sampler(), 100)
