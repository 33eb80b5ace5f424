"""The losses of a training: a program with each of them alone, and the names that functions of its derivative have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from compiler.frontend.program import Program, TrainingPlan
from compiler.frontend.update_rules import UpdateBlock
from compiler.inspection.gradient.derivative import LOSS
from compiler.support.record import record

if TYPE_CHECKING:
    from compiler.inspection.gradient.text import Printed


@record
class LossNames:
    """The names of functions of the derivative of a loss: that of an `update`, if there are several.

    `taken` are those of other derivatives in the same text.
    """

    update: str = ""
    taken: frozenset[str] = frozenset()

    @property
    def prefix(self) -> str:
        return f"{self.update}_" if self.update else ""

    @property
    def forward(self) -> str:
        """The function of the loss and of all that its gradient needs."""
        return f"{self.prefix}forward"

    @property
    def backward(self) -> str:
        """The function of the gradient in all parameters."""
        return f"{self.prefix}backward"


ONLY_LOSS = LossNames()


def losses_of(program: Program) -> dict[str, Program]:
    """For each loss of a training, the program with this loss alone: by the names of `update` blocks, else by none."""
    plan = program.plan
    if plan is None or not plan.updates:
        return {"": program}
    return {block.name: _with_loss_of(program, plan, block) for block in plan.updates}


def each_loss(program: Program, write: Callable[[Program, LossNames], Printed]) -> list[Printed]:
    """The texts of the derivatives of all losses, which have no function of the same name: one text joins them."""
    losses = losses_of(program)
    found: list[Printed] = []
    own = map(LossNames, losses)
    taken = frozenset(name for names in own for name in (names.forward, names.backward))
    for update, alone in losses.items():
        found.append(write(alone, LossNames(update, taken)))
        taken |= {function.name for function in found[-1].functions}
    return found


def _with_loss_of(program: Program, plan: TrainingPlan, block: UpdateBlock) -> Program:
    graph = program.training_graph
    loss = replace(graph.output(block.loss), name=LOSS)
    others = (output for output in graph.outputs if output.name not in (LOSS, block.loss))
    alone = replace(plan, updates=(), rules=block.rules, schedule=block.schedule, clip=block.clip)
    return replace(program, training_graph=replace(graph, outputs=(loss, *others)), plan=alone)
