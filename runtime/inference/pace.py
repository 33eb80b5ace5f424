"""How many steps one native call makes, so that a call is short enough for Ctrl-C and long enough to cost nothing."""

from __future__ import annotations

from compiler.support.record import mutable_record

CALL_SECONDS = 0.05


@mutable_record
class Pace:
    """Adapts by measured time. The number of steps a call never changes a result."""

    steps: int = 1

    def observe(self, steps: int, seconds: float) -> None:
        """A call of `steps` took `seconds`."""
        affordable = int(CALL_SECONDS * steps / max(seconds, 1e-9))
        # The first call may be slow for other reasons, and a single short one may mislead: grow step by step.
        self.steps = max(1, min(affordable, 4 * self.steps))
