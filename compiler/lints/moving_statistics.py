"""W0111: a layer whose parameters are all frozen, while the statistics that it keeps still move."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.errors.diagnostics import Diagnostic, Note, hint
from compiler.frontend.program import ParameterSpec
from compiler.frontend.trace import Subject
from compiler.graph.ir import Role
from compiler.lints.flow import owner_place


def find_moving_statistics(subject: Subject) -> Iterator[Diagnostic]:
    """One finding for each such layer: inference after training is not that of the weights that were frozen."""
    if subject.train is None:
        return
    place = next((entry.value.span for entry in subject.train.entries if entry.key == "freeze"), subject.train.head)
    moved = {output.updates for output in subject.program.training_graph.outputs if output.role is Role.STATE}
    layers: dict[str, list[ParameterSpec]] = {}
    for spec in subject.program.parameters:
        layers.setdefault(spec.path.rpartition(".")[0], []).append(spec)
    for path, specs in layers.items():
        parameters = [spec for spec in specs if spec.role is Role.PARAMETER]
        moving = [spec.path for spec in specs if spec.role is Role.STATE and spec.path in moved]
        if path and moving and parameters and all(spec.frozen for spec in parameters):
            message = f"`{path}` is frozen, but {' and '.join(f'`{name}`' for name in moving)} still move"
            advice = hint(f'freeze the whole layer: `"{path}.*"`')
            note = Note("the layer stands here", owner_place(specs[0]))
            yield Diagnostic("W0111", message, place, (advice, note), "warning")
