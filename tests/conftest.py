"""Settings and fixtures that several test modules share."""

from __future__ import annotations

from hypothesis import settings

# No deadline: the first example of a test may compile a kernel.
settings.register_profile("skiplight", deadline=None, print_blob=True)
settings.load_profile("skiplight")
