"""Settings and fixtures that several test modules share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# Without a GPU, Triton's kernels run in its interpreter; it asks for this when it is first imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# No deadline: the first example of a test may compile a kernel.
settings.register_profile("skiplight", deadline=None, print_blob=True)
settings.load_profile("skiplight")


@pytest.fixture(autouse=True)
def _environment() -> Iterator[None]:
    """Restore what Lightning leaves behind: LOCAL_RANK, for which later trainings would wait, and determinism."""
    before = dict(os.environ)
    yield
    torch.use_deterministic_algorithms(False)
    for name in os.environ.keys() - before:
        del os.environ[name]
    os.environ.update(before)
