"""The executable of a training whose updates take several batches: three programs that share their tensors."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.interface import Executable, Results, Tensors
from compiler.support.arrays import Array, np
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

    def run(
        self,
        tensors: Tensors,
        data: Mapping[str, Array],
        rows: Array,
        batch: int,
        first_step: int = 0,
        seed: int = 0,
        settings: Mapping[str, float] | None = None,
    ) -> Results:
        """As the protocol `Executable` says, with updates of `batch` rows. What metrics gather comes batch by batch."""
        no_rows = np.zeros(1, np.int64)
        made: list[Results] = []
        batches: list[Results] = []
        nonfinite: list[tuple[str, int]] = []
        for step, start in enumerate(range(0, len(rows), batch), first_step):
            chosen = rows[start : start + batch]
            for part in (self.counting, self.accumulating):
                if part is not None:
                    found = part.run(tensors, data, chosen, self.batch, step * self.batches, seed, settings)
                    nonfinite += [(name, step) for name, _ in found.nonfinite]
                    batches += [found] if part is self.accumulating else []
            made.append(self.updating.run(tensors, data, no_rows, 1, step, seed, settings))
            nonfinite += made[-1].nonfinite
        scalars = {name: np.concatenate([results.scalars[name] for results in made]) for name in made[0].scalars}
        scalars |= {name: np.concatenate([b.scalars[name] for b in batches]) for name in batches[0].scalars}
        arrays = {name: np.concatenate([b.arrays[name] for b in batches]) for name in batches[0].arrays}
        stacks = {name: np.concatenate([b.stacks[name] for b in batches]) for name in batches[0].stacks}
        return Results(scalars, arrays, tuple(nonfinite), stacks)
