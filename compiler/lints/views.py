"""W0122: views of a column that are equal, in training or where epochs are compared by their loss."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, hint
from compiler.frontend.trace import Subject
from compiler.frontend.train.augmentation import columns_of
from compiler.graph.ir import Graph, Role
from compiler.lints.flow import Flow, inlined
from compiler.syntax import tree


def find_equal_views(subject: Subject) -> Iterator[Diagnostic]:
    """Two names for one tensor: nothing is drawn between the column and its views."""
    augmentation, train = subject.program.augmentation, subject.train
    if augmentation is None or train is None or train.augment is None:
        return
    numbers = Flow(inlined(augmentation)).numbers()
    views = columns_of(train)
    made = {o.name: numbers[o.value.index] for o in augmentation.outputs if o.name in views}
    for statement in train.augment.statements:
        if isinstance(statement, tree.View) and _are_equal([made.get(name.id) for name in statement.names]):
            names = " and ".join(f"`{name.id}`" for name in statement.names)
            advice = hint("let each draw: `view a, b = image |> random_flip |> random_crop(padding = 4)`")
            yield Diagnostic("W0122", f"{names} are equal: nothing is drawn", statement.span, (advice,), "warning")


def _are_equal(numbers: list[int | None]) -> bool:
    return len(numbers) > 1 and len(set(numbers)) == 1


def find_loss_of_equal_views(subject: Subject) -> Iterator[Diagnostic]:
    """A loss of nothing but views of one column: those are equal in an evaluation, which chooses the best epoch."""
    program, train = subject.program, subject.train
    plan = program.plan
    if plan is None or train is None or plan.validation is None or plan.best != "loss" or not plan.restores:
        return
    columns = columns_of(train)
    taken = _taken(program.training_graph)
    if len(taken) > 1 and taken <= columns.keys() and len({columns[name].id for name in taken}) == 1:
        names = " and ".join(f"`{name}`" for name in sorted(taken))
        message = f"the best epoch has the lowest `val_loss`, and in an evaluation {names} are equal"
        advice = hint("compare epochs by a metric, `best = …`, or take the last weights: `restore = false`")
        yield Diagnostic("W0122", message, train.place_of("validation"), (advice,), "warning")


def _taken(graph: Graph) -> set[str]:
    """The inputs and targets that the loss depends on."""
    reached = Flow(graph).reaching([graph.output("loss").value])
    return {entry.name for entry in graph.inputs if entry.role is Role.DATA and entry.value.index in reached}
