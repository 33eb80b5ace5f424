"""The `update` blocks of a training in its step: each starts from the parameters that the one before left.

An update evaluates the whole model with its loss. What several of them compute from the same values, the passes join
to one computation. A step takes as many batches as the update with the most `times`, and one with fewer takes the last
of them: updates that see the same batch see the same rows, the same draws and the same states.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from compiler.frontend.update_rules import UpdateBlock
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Role, Value
from compiler.ops.build import spread
from compiler.ops.elementwise import Add, FloorDivide, Modulo, Symbolic, Where
from compiler.programs.batch_names import name_in_batch
from compiler.types import DType, TensorType, depends_on_batch

if TYPE_CHECKING:
    from compiler.programs.steps.training_step import StepBuilder

_NUMBER = TensorType(DType.I64)


def states_of(graph: Graph) -> Iterator[GraphOutput]:
    """The new states of the model among the outputs of a training graph."""
    return (output for output in graph.outputs if output.role is Role.STATE)


class BlocksOfStep:
    """Makes the updates of a step. `states` are those of the model after the batches that are evaluated so far."""

    def __init__(self, step: StepBuilder) -> None:
        self.step, self.plan = step, step.plan
        self.states: dict[str, Value] = {}  # by the names of the outputs
        self._seen: dict[int, dict[str, Value]] = {}  # the states, by their paths, that a batch met at first
        self._losses: dict[str, Value] = {}

    def make_all(self) -> None:
        """One after the other; each as often as it says, on batches that follow each other."""
        for block in self.plan.updates:
            for number in range(block.times):
                self._make(block, number)
        self.step.plan, self.step.made = self.plan, None
        self.step.keep_updates()

    def losses(self) -> dict[str, Value]:
        """The loss of each update where it was made last, before it, and the sum of all as `loss`."""
        values = list(self._losses.values())
        total = values[0]
        for value in values[1:]:
            total = self.step.builder.emit(Add(), total, value)
        return self._losses | {"loss": total}

    def _make(self, block: UpdateBlock, number: int) -> None:
        """Make an update for the time `number`, from 0."""
        step, plan = self.step, self.plan
        is_last = number == block.times - 1
        # an average moves once in a step, whatever the number of updates
        ema = plan.ema if is_last else None
        step.plan = replace(plan, rules=block.rules, schedule=block.schedule, clip=block.clip, ema=ema)
        step.made = self._updates_before(block, number)
        begin = len(step.builder.nodes)
        self._evaluate(plan.batches - block.times + number)
        self._losses[block.loss] = step.forward[block.loss]
        before = {name: value for name, (_, value) in step.changed.items()}
        step.make_update(step.forward[block.loss], begin)
        new = {name: kept for name, kept in step.changed.items() if before.get(name) is not kept[1]}
        if block.every > 1:
            new = {name: (role, self._chosen(block, name, value)) for name, (role, value) in new.items()}
            step.changed |= new
        step.inputs |= {name: value for name, (_, value) in new.items()}

    def _evaluate(self, batch: int) -> None:
        """Evaluate the model on a batch. The first evaluation of a batch moves the states, and all see what it saw."""
        step = self.step
        graph = step.program.training_graph
        is_first = batch not in self._seen
        if is_first:
            paths = {output.name: output.updates or output.name for output in states_of(graph)}
            self._seen[batch] = {paths[name]: value for name, value in self.states.items()}
        seen = self._seen[batch]
        step.evaluate(lambda entry: seen.get(entry.name) or self._in_batch(entry, batch))
        if is_first:
            self.states = {output.name: step.forward[output.name] for output in states_of(graph)}

    def _in_batch(self, entry: GraphInput, batch: int) -> Value | None:
        """An input that differs from batch to batch: rows, and the number that draws follow from."""
        step, batches = self.step, self.plan.batches
        if entry.role is Role.STEP and batches > 1:
            steps = Symbolic(step.builder, step.input(entry.name, entry.role, entry.value.type))
            return (steps * batches + batch).value
        if entry.role is Role.DATA and depends_on_batch(entry.value.type.shape):
            return step.input(name_in_batch(entry.name, batch, batches), entry.role, entry.value.type)
        return None

    def _updates_before(self, block: UpdateBlock, number: int) -> Value:
        """How often an update was made before the time `number` of this step."""
        count = Symbolic(self.step.builder, self.step.input("step", Role.STEP, _NUMBER))
        if block.every > 1:
            count = count.apply(FloorDivide(), block.every)
        if block.times > 1:
            count = count * block.times + number
        return count.value

    def _chosen(self, block: UpdateBlock, name: str, new: Value) -> Value:
        """The new content of a tensor in each step that an update is made in, and otherwise the content before."""
        builder = self.step.builder
        steps = Symbolic(builder, self.step.input("step", Role.STEP, _NUMBER))
        is_made = steps.apply(Modulo(), block.every).equals(block.every - 1).value
        return builder.emit(Where(), spread(builder, is_made, new.type.shape), new, self.step.inputs[name])
