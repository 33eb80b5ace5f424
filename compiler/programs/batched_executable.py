"""The executable of a step that takes several batches at once, each as inputs of its own (`times` in an `update`)."""

from __future__ import annotations

from dataclasses import replace

from compiler.frontend.program import Program
from compiler.graph.ir import Role
from compiler.interface import Executable, Results, Steps
from compiler.programs.batch_names import name_in_batch
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import depends_on_batch


def in_batches(program: Program, executable: Executable) -> Executable:
    """The compiled step of a program, to run on the rows of all batches of a step."""
    batches = 1 if program.plan is None else program.plan.batches
    return executable if batches == 1 else BatchedExecutable(executable, inputs_of_rows(program), batches)


def inputs_of_rows(program: Program) -> tuple[str, ...]:
    """The inputs of a training step that differ from batch to batch."""
    augmentation = program.augmentation
    given = frozenset[str]() if augmentation is None else {output.name for output in augmentation.outputs}
    entries = [entry for entry in program.training_graph.inputs if entry.name not in given]
    entries += () if augmentation is None else augmentation.inputs
    named = (e.name for e in entries if e.role is Role.DATA and depends_on_batch(e.value.type.shape))
    return tuple(dict.fromkeys(named))


@record
class BatchedExecutable:
    """Divides the rows of a step evenly: up to `batches` - 1 rows of the last step of an epoch, too few for one more in
    each, are left out. The rows of `inputs` are gathered before the call, so that one call makes all of its steps.
    """

    executable: Executable
    inputs: tuple[str, ...]
    batches: int

    def run(self, steps: Steps) -> Results:
        """As the protocol `Executable` says, with `batch` rows for all batches of a step together."""
        return self.executable.run(divided(steps, self.inputs, self.batches))


def divided(steps: Steps, inputs: tuple[str, ...], batches: int) -> Steps:
    """The steps of the program, whose `batch` is the size of one of the batches."""
    full = len(steps.rows) // steps.batch * steps.batch
    parts = [_divided(steps.rows[:full].reshape(-1, steps.batch), batches)]
    if full < len(steps.rows):
        parts.append(_divided(steps.rows[full:].reshape(1, -1), batches))
    data = dict(steps.data)
    for batch in range(batches):
        rows = np.concatenate([part[:, batch].reshape(-1) for part in parts])
        data |= {name_in_batch(name, batch, batches): steps.data[name][rows] for name in inputs}
    count = sum(part[:, 0].size for part in parts)
    size = (steps.batch if full else len(steps.rows)) // batches
    return replace(steps, data=data, rows=np.arange(count), batch=size, lasting=False)


def _divided(rows: Array, batches: int) -> Array:
    """The rows of steps, [steps, rows], as [steps, batches, rows of a batch]."""
    size = rows.shape[1] // batches
    return rows[:, : size * batches].reshape(-1, batches, size)
