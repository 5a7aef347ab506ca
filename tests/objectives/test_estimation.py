"""The objectives estimate what they claim: by exact enumeration on tiny vocabularies, or statistically in the limit."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from skiplight.objectives.base import Objective, Tables
from skiplight.objectives.full_softmax import FullSoftmax
from skiplight.objectives.nce import NCE
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.objectives.sampled_softmax import SampledSoftmax
from skiplight.sampling.batches import TokenBlock, Windows
from skiplight.sampling.windows import WindowSampler
from tests.support.reference import log_prob_of

NOISE = np.array([0.4, 0.3, 0.2, 0.1])
TRUTH = torch.tensor([0.1, 0.5, 0.15, 0.25], dtype=torch.float64)
"""p(o|i) of the one input word that these tests have."""


def tables_of(scores: torch.Tensor) -> Tables:
    """Tables whose input word 0 has these scores."""
    tables = Tables(len(scores), 1, sparse=False).double()
    with torch.no_grad():
        tables.input.weight.fill_(1.0)
        tables.output.weight.copy_(scores[:, None])
    return tables


def pairs(targets: list[int], negatives: list[list[int]]) -> Windows:
    """Windows of one pair each, of input word 0."""
    rows = torch.tensor(negatives, dtype=torch.int32)
    return Windows(
        torch.zeros(len(targets), dtype=torch.int32), torch.arange(len(targets) + 1),
        torch.tensor(targets, dtype=torch.int32), rows, torch.ones_like(rows, dtype=torch.bool),
        TokenBlock.of([]),
    )  # fmt: skip


def expected_gradient(objective: Objective, scores: torch.Tensor, k: int) -> torch.Tensor:
    """The gradient by the scores, in expectation over target and k negatives: over every one of their values."""
    total = torch.zeros(len(scores), dtype=torch.float64)
    for target, *negatives in itertools.product(range(len(scores)), repeat=1 + k):
        tables = tables_of(scores)
        objective.loss(tables, pairs([target], [negatives])).sum.backward()
        assert tables.output.weight.grad is not None
        total += TRUTH[target] * float(np.prod(NOISE[negatives])) * tables.output.weight.grad[:, 0]
    return total


@pytest.mark.parametrize("k", [1, 2, 3])
def test_each_is_stationary_where_it_claims_whatever_k(k: int) -> None:
    log_p = TRUTH.log()
    log_noise = torch.from_numpy(np.log(NOISE))
    zero = torch.zeros(4, dtype=torch.float64)
    for objective, optimum in [
        (NegativeSampling(NOISE), log_p - log_noise - np.log(k)),
        (NCE(NOISE), log_p),
        (SampledSoftmax(NOISE), log_p + 0.7),  # up to a constant
    ]:
        gradient = expected_gradient(objective.double(), optimum, k)
        torch.testing.assert_close(gradient, zero, atol=1e-7, rtol=0)
        elsewhere = expected_gradient(objective.double(), optimum + torch.tensor([0.5, 0, 0, 0]), k)
        assert elsewhere.abs().max() > 1e-3
        # What log_prob says of the optimum is the truth.
        log_prob = log_prob_of(objective.double(), tables_of(optimum), torch.tensor([0]))
        torch.testing.assert_close(log_prob[0].exp(), TRUTH, atol=1e-6, rtol=0)


def test_without_the_correction_negative_sampling_looks_worse_than_the_unigram_model() -> None:
    # p(o|i) of 50 words near their frequencies, of Zipf's law, and the scores that negative sampling ends at.
    unigram = 1 / np.arange(1, 51)
    unigram /= unigram.sum()
    noise = unigram**0.75 / (unigram**0.75).sum()
    conditional = unigram * np.random.default_rng(0).gamma(4, 0.25, 50)
    conditional /= conditional.sum()
    scores = torch.from_numpy(np.log(conditional) - np.log(5 * noise))

    def loss(log_prob: np.ndarray) -> float:
        return -float((conditional * log_prob).sum())

    corrected = log_prob_of(NegativeSampling(noise).double(), tables_of(scores), torch.tensor([0]))[0]
    uncorrected = torch.log_softmax(scores, 0)
    assert loss(corrected.detach().numpy()) == pytest.approx(loss(np.log(conditional)), abs=1e-6)
    assert loss(corrected.detach().numpy()) < loss(np.log(unigram)) < loss(uncorrected.numpy())


def test_sampled_softmax_without_accidental_hits_tends_to_the_full_softmax() -> None:
    scores = torch.tensor([0.3, -0.4, 1.0, 0.1], dtype=torch.float64)
    objective, rng = SampledSoftmax(NOISE, accidental_hits=False).double(), np.random.default_rng(0)

    def full() -> torch.Tensor:
        tables = tables_of(scores)
        targets = [0, 1, 2, 3]
        FullSoftmax().loss(tables, pairs(targets, [[]] * 4)).sum.backward()
        return tables.output.weight.grad[:, 0] / 4  # type: ignore[index]

    errors = []
    for k, repeats in ((2, 20_000), (16, 20_000), (256, 2_000)):
        targets = np.tile(np.arange(4), repeats // 4)
        drawn = np.empty((repeats, k), np.int64)
        for target in range(4):
            q = NOISE.copy()
            q[target] = 0
            drawn[target::4] = rng.choice(4, (repeats // 4, k), p=q / q.sum())
        tables = tables_of(scores)
        objective.loss(tables, pairs(targets.tolist(), drawn.tolist())).sum.backward()
        errors.append(float((tables.output.weight.grad[:, 0] / repeats - full()).abs().max()))  # type: ignore[index]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.004


def test_without_the_correction_sampled_softmax_would_be_off() -> None:
    # The same at log p, but with candidates counted as if they were drawn uniformly.
    gradient = expected_gradient(SampledSoftmax(np.full(4, 0.25)).double(), TRUTH.log(), 2)
    assert gradient.abs().max() > 0.01


class TestNegativeSamplingOnAText:
    """Five words, trained on the windows of a real block until nothing moves."""

    text = np.random.default_rng(1).choice(5, 40_000, p=[0.35, 0.25, 0.2, 0.12, 0.08])
    counts = np.bincount(text)
    negatives = 40

    def trained(self, exclude: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Scores [5, 5] of the trained tables, and p(o|i) of the windows."""
        # Every word is drawn to what stands before it, so that there is something to learn.
        text = np.where(np.random.default_rng(2).random(len(self.text)) < 0.3, np.roll(self.text, 1), self.text)
        counts = np.bincount(text)
        self.noise = WindowSampler(counts).noise.probabilities
        sampler = WindowSampler(
            counts,
            window=2,
            subsample=0,
            negatives=self.negatives,
            shared="pair",
            exclude=exclude,  # type: ignore[arg-type]
        )
        windows = sampler(TokenBlock.of([text.tolist()]))
        # The same loss from 25 kinds of pairs and as many of negatives, weighted: an objective sums over both.
        targets = windows.target[windows.window_of_pair()].long()
        observed = torch.bincount(windows.inputs * 5 + targets, minlength=25).double().view(5, 5)
        drawn = torch.zeros(25, dtype=torch.float64)
        rows = (windows.inputs[:, None] * 5 + windows.negatives)[windows.mask].long()
        drawn.scatter_add_(0, rows, torch.ones_like(rows, dtype=torch.float64))
        objective, tables = NegativeSampling(self.noise).double(), Tables(5, 5, sparse=False).double()
        with torch.no_grad():
            tables.output.weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
        optimizer = torch.optim.LBFGS(tables.parameters(), max_iter=2000, history_size=50, tolerance_grad=1e-9)
        part = _sample_of(windows, 2000)
        exact, weighted = objective.loss(tables, part).sum, _weighted_loss(tables, *_tallies(part))
        assert float(weighted.detach()) == pytest.approx(float(exact.detach()), rel=1e-9)

        def closure() -> torch.Tensor:
            optimizer.zero_grad()
            loss = _weighted_loss(tables, observed, drawn.view(5, 5)) / observed.sum()
            loss.backward()
            return loss

        for _ in range(5):
            optimizer.step(closure)  # type: ignore[arg-type]
        scores = (tables.input.weight @ tables.output.weight.T).detach()
        return scores, observed / observed.sum(1, keepdim=True)

    def test_converges_to_shifted_pmi_where_the_noise_may_be_the_target(self) -> None:
        scores, p = self.trained("none")
        expected = p.log() - torch.from_numpy(np.log(self.negatives * self.noise))
        torch.testing.assert_close(scores, expected, atol=0.01, rtol=0)

    def test_converges_to_the_contracts_formula_where_it_may_not(self) -> None:
        scores, p = self.trained("target")
        noise = torch.from_numpy(self.noise)
        others = p / (1 - noise)
        effective = noise * (others.sum(1, keepdim=True) - others)
        torch.testing.assert_close(scores, p.log() - (self.negatives * effective).log(), atol=0.01, rtol=0)


def _weighted_loss(tables: Tables, observed: torch.Tensor, drawn: torch.Tensor) -> torch.Tensor:
    scores = tables.input.weight @ tables.output.weight.T
    logsigmoid = torch.nn.functional.logsigmoid
    return -(observed * logsigmoid(scores) + drawn * logsigmoid(-scores)).sum()


def _sample_of(windows: Windows, pairs: int) -> Windows:
    """The first windows, as many as have so many pairs."""
    n = int(torch.searchsorted(windows.offsets, pairs))
    end = int(windows.offsets[n])
    return Windows(
        windows.inputs[:end], windows.offsets[: n + 1], windows.target[:n], windows.negatives[:end], windows.mask[:end],
        windows.block,
    )  # fmt: skip


def _tallies(windows: Windows) -> tuple[torch.Tensor, torch.Tensor]:
    observed, drawn = torch.zeros(5, 5, dtype=torch.float64), torch.zeros(5, 5, dtype=torch.float64)
    targets = windows.target[windows.window_of_pair()]
    for i, o, row, mask in zip(windows.inputs, targets, windows.negatives, windows.mask, strict=True):
        observed[i, o] += 1
        for k in row[mask]:
            drawn[i, k] += 1
    return observed, drawn
