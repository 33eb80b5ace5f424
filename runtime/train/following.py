"""The states of a schedule that follows the loss of epochs: numbers among the run-time settings of the step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from compiler import driver
from compiler.driver import Executable, GraphKind, Options, Program, Purpose, Steps, Tensors
from compiler.support.record import record


@record
class Following:
    """`metric` is the setting that holds the last loss."""

    executable: Executable
    tensors: Tensors
    metric: str

    def after(self, loss: float, step: int, settings: Mapping[str, float]) -> dict[str, float]:
        """The settings that change after an epoch of this loss, or what else is made small, and of update `step`."""
        measured = {**settings, self.metric: loss}
        results = self.executable.run(Steps(self.tensors, {}, np.zeros(1, np.int64), 1, step, 0, measured))
        return {self.metric: loss, **{name: float(values[0]) for name, values in results.scalars.items()}}


def following_of(program: Program, tensors: Tensors, options: Options) -> Following | None:
    """That of a program whose schedule follows the loss."""
    follower = None if program.plan is None else program.plan.follower
    if follower is None:
        return None
    return Following(driver.compile_program(program, GraphKind(Purpose.FOLLOWING), options), tensors, follower.metric)
