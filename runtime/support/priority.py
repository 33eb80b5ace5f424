"""The priority of a thread, where each has its own."""

from __future__ import annotations

import os
from contextlib import suppress

_STEP_BACK = 5  # in the order of priority


def step_back() -> None:
    """Let what this thread computes come behind the training, where the system can do that."""
    with suppress(OSError, AttributeError):
        os.nice(_STEP_BACK)
