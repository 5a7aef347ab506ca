"""The fastest engine that can do what is asked is chosen, and what cannot be done is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import logging

import pytest
import torch

from skiplight.engines import choose
from skiplight.engines.autograd import AutogradEngine
from skiplight.engines.base import Request
from skiplight.engines.fused_cpu import FusedCpuEngine
from skiplight.engines.fused_gpu import FusedGpuEngine
from skiplight.errors import ConfigError
from skiplight.objectives.full_softmax import FullSoftmax
from skiplight.objectives.hierarchical_softmax import HierarchicalSoftmax
from skiplight.objectives.nce import NCE
from skiplight.objectives.negative_sampling import NegativeSampling
from skiplight.objectives.sampled_softmax import SampledSoftmax


class Own(NegativeSampling):
    """An objective of one's own may score otherwise than the one it derives from."""


PLAIN = Request(NegativeSampling)
ANY_OBJECTIVE = [
    {"optimizer": torch.optim.Adagrad},
    {"bias": True},
    {"input": "centre"},
    {"objective": NCE},
    {"objective": SampledSoftmax},
    {"objective": HierarchicalSoftmax},
    {"objective": NCE, "optimizer": torch.optim.Adagrad, "bias": True, "input": "centre"},
]
"""What only the fused engine of the CPU can do."""
BEYOND_FUSED = [
    {"optimizer": torch.optim.AdamW},
    {"precision": "64-true"},
    {"precision": "16-mixed"},
    {"strategy": "gradient_exchange"},
    {"clipping": True, "optimizer": torch.optim.AdamW},
    {"objective": FullSoftmax},
    {"objective": Own},
    {"accumulate": 2},
]


def test_plain_negative_sampling_on_the_cpu_is_fused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert choose("auto", PLAIN) is FusedCpuEngine
    assert "engine=fused: the fastest" in caplog.text
    assert choose("fused", dataclasses.replace(PLAIN, precision="bf16-mixed")) is FusedCpuEngine
    assert choose("autograd", PLAIN) is AutogradEngine


@pytest.mark.parametrize("change", ANY_OBJECTIVE, ids=str)
def test_the_fused_cpu_engine_takes_every_objective_with_a_scoring(change: dict) -> None:
    assert choose("auto", dataclasses.replace(PLAIN, **change)) is FusedCpuEngine


def test_what_ranks_and_machines_cannot_do_has_a_reason() -> None:
    assert choose("auto", dataclasses.replace(PLAIN, ranks=2, objective=NCE, bias=True)) is FusedCpuEngine
    assert choose("auto", dataclasses.replace(PLAIN, ranks=2, machines=2)) is FusedCpuEngine
    for change, reason in (
        ({"optimizer": torch.optim.Adagrad}, "do not share its sums of squares"),
        ({"objective": NCE, "machines": 2}, "on several machines"),
        ({"bias": True, "machines": 2}, "on several machines"),
    ):
        request = dataclasses.replace(PLAIN, ranks=2, **change)
        assert choose("auto", request) is AutogradEngine
        with pytest.raises(ConfigError, match=reason):
            choose("fused", request)


@pytest.mark.parametrize("change", BEYOND_FUSED, ids=str)
def test_what_the_fused_engine_cannot_do(change: dict, caplog: pytest.LogCaptureFixture) -> None:
    request = dataclasses.replace(PLAIN, **change)
    with caplog.at_level(logging.INFO):
        assert choose("auto", request) is AutogradEngine
    assert "fused cannot do" in caplog.text
    with pytest.raises(ConfigError, match=r"`engine=fused` cannot do .*: choose `engine=autograd`"):
        choose("fused", request)


def test_a_device_without_a_fused_engine_gets_the_reference() -> None:
    request = dataclasses.replace(PLAIN, device="mps")
    assert choose("auto", request) is AutogradEngine
    with pytest.raises(ConfigError, match="`engine=fused` cannot do the device mps: choose `engine=autograd`"):
        choose("fused", request)


@pytest.mark.parametrize(
    "change", [{"dim": 1025}, {"negatives": 257}, {"window": 21}, *ANY_OBJECTIVE, *BEYOND_FUSED], ids=str
)
def test_a_gpu_has_a_fused_engine_of_its_own(change: dict) -> None:
    request = dataclasses.replace(PLAIN, device="cuda")
    assert choose("auto", request) is FusedGpuEngine
    assert choose("auto", dataclasses.replace(request, dim=1024, negatives=256, window=20)) is FusedGpuEngine
    assert choose("auto", dataclasses.replace(request, **change)) is AutogradEngine


def test_a_gpu_without_triton_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="package `triton`: install"):
        choose("fused", dataclasses.replace(PLAIN, device="cuda"))


def test_what_no_engine_can_do_says_why() -> None:
    with pytest.raises(
        ConfigError, match=r"fused cannot do the strategy DDPStrategy.*; autograd cannot do the strategy"
    ):
        choose("auto", dataclasses.replace(PLAIN, strategy="DDPStrategy"))
    with pytest.raises(ConfigError, match=r"dense: another `optim\.name` can"):
        choose("auto", Request(FullSoftmax, torch.optim.SparseAdam))
    with pytest.raises(ConfigError, match=r"`engine=autograd` cannot do gradient clipping .*: no engine can") as error:
        choose("autograd", dataclasses.replace(PLAIN, clipping=True))
    assert "`engine=autograd`, which can" not in str(error.value)
    with pytest.raises(ConfigError, match="gradient clipping with SGD"):
        choose("auto", dataclasses.replace(PLAIN, clipping=True))
