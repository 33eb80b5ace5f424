"""The executable of a training whose updates take several batches: three programs that share their tensors."""

from __future__ import annotations

from dataclasses import replace

from compiler.interface import Executable, Results, Steps
from compiler.support.arrays import np
from compiler.support.record import record


@record
class AccumulatingExecutable:
    """An update is a step: its rows are those of all its batches, which have up to `batch` rows each.

    Draws of the batches differ: they are numbered as if each update took `batches` of them.
    """

    counting: Executable | None  # None where the loss is divided by nothing
    accumulating: Executable
    updating: Executable
    batch: int
    batches: int

    def run(self, steps: Steps) -> Results:
        """As the protocol `Executable` says, with updates of `batch` rows. The sums of metrics come batch by batch."""
        no_rows = np.zeros(1, np.int64)
        made: list[Results] = []
        batches: list[Results] = []
        nonfinite: list[tuple[str, int]] = []
        for update in steps.each():
            of_batches = replace(update, batch=self.batch, first_step=update.first_step * self.batches)
            for part in (self.counting, self.accumulating):
                if part is not None:
                    found = part.run(of_batches)
                    nonfinite += [(name, update.first_step) for name, _ in found.nonfinite]
                    batches += [found] if part is self.accumulating else []
            made.append(self.updating.run(replace(update, rows=no_rows, batch=1)))
            nonfinite += made[-1].nonfinite
        scalars = {name: np.concatenate([results.scalars[name] for results in made]) for name in made[0].scalars}
        scalars |= {name: np.concatenate([b.scalars[name] for b in batches]) for name in batches[0].scalars}
        arrays = {name: np.concatenate([b.arrays[name] for b in batches]) for name in batches[0].arrays}
        stacks = {name: np.concatenate([b.stacks[name] for b in batches]) for name in batches[0].stacks}
        return Results(scalars, arrays, tuple(nonfinite), stacks)
