"""The executable of a training some of whose `update` blocks rest in most steps (`every`): two programs that share
their tensors, one of a whole step and one of a step in which all of these rest."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from compiler.frontend.program import Program
from compiler.interface import Executable, Results, Steps
from compiler.support.arrays import np
from compiler.support.record import record

WORTH_A_CALL = 2**26
"""Operations of a gradient that take longer than a call of a program: about a tenth of a millisecond."""


def resting_blocks(program: Program) -> tuple[int, ...]:
    """The `every` of each block that rests in some steps; none where its gradients are sooner made than a call."""
    plan = program.plan
    if plan is None:
        return ()
    sizes = {spec.path: math.prod(e for e in spec.type.shape if isinstance(e, int)) for spec in program.parameters}
    blocks = [block for block in plan.updates if block.every > 1]
    elements = sum(sizes[path] * block.times for block in blocks for rule in block.rules for path in rule.paths)
    rows = plan.usual_rows // plan.batches
    operations = 4 * elements * rows  # a product and a sum for the gradient of a weight, and for that of what it reads
    return tuple(block.every for block in blocks) if operations >= WORTH_A_CALL else ()


@record
class RestingExecutable:
    """`resting` makes the steps in which none of the blocks is made, with the bits that `acting` would give."""

    acting: Executable
    resting: Executable
    every: tuple[int, ...]

    def run(self, steps: Steps) -> Results:
        """As the protocol `Executable` says, with a call for each stretch of steps that one program makes."""
        made = [(self.acting if acts else self.resting).run(part) for acts, part in self._stretches(steps)]
        return made[0] if len(made) == 1 else _one_after_the_other(made)

    def _stretches(self, steps: Steps) -> Iterator[tuple[bool, Steps]]:
        last = steps.first_step + max(1, -(-len(steps.rows) // steps.batch))
        for acts, stretch in groupby(range(steps.first_step, last), self._acts):
            numbers = list(stretch)
            begin, end = ((number - steps.first_step) * steps.batch for number in (numbers[0], numbers[-1] + 1))
            yield acts, replace(steps, rows=steps.rows[begin:end], first_step=numbers[0])

    def _acts(self, step: int) -> bool:
        return any((step + 1) % every == 0 for every in self.every)


def _one_after_the_other(made: Sequence[Results]) -> Results:
    """The results of calls as those of one."""
    first, last = made[0], made[-1]
    return Results(
        {name: np.concatenate([results.scalars[name] for results in made]) for name in first.scalars},
        {
            name: last.arrays[name] if name in first.stacks else np.concatenate([r.arrays[name] for r in made])
            for name in first.arrays
        },
        tuple(found for results in made for found in results.nonfinite),
        {name: np.concatenate([results.stacks[name] for results in made]) for name in first.stacks},
    )
