"""The figures of each line of the text, as `dlc plan` counts them by layer: parameters and operations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import field

from compiler.frontend.program import Program
from compiler.graph.ir import Direction, Graph, Origin, Role
from compiler.inspection.forms import Forms, work_of_nodes
from compiler.inspection.parts import own_origins
from compiler.support.record import mutable_record
from compiler.types import static_elements

Place = tuple[str, int]
"""The name of a file, and a line of it."""


@mutable_record
class LineFigures:
    """Of one line. The operations of a step are by direction; those of a node that several lines share are divided.

    `type` is that of the last value that the line computes in training.
    """

    type: str = ""
    parameters: int = 0
    flops_forward: float = 0.0
    flops: dict[Direction, float] = field(default_factory=lambda: dict.fromkeys(Direction, 0.0))


def ledger_of(forms: Forms) -> Mapping[Place, LineFigures]:
    """The figures of every line that has some; those of no line stand at `("", 0)`."""
    found: defaultdict[Place, LineFigures] = defaultdict(LineFigures)
    for place, count in _parameters(forms.program):
        found[place].parameters += count
    origins = ((node, origin) for node in forms.program.training_graph.nodes for origin in node.origins)
    last = {origin.user_line: node for node, origin in origins if origin.direction is Direction.FORWARD}
    for place, node in last.items():
        found[place].type = str(node.results[-1].type)
    for place, _, flops in _shares(forms.forward, forms.options.batch):
        found[place].flops_forward += flops
    for place, direction, flops in _shares(forms.step, forms.options.batch):
        found[place].flops[direction] += flops
    return found


def _parameters(program: Program) -> Iterable[tuple[Place, int]]:
    """Each parameter at the line of the user's text that makes it."""
    for spec in program.parameters:
        if spec.role is Role.PARAMETER:
            yield Origin(spec.span, spec.calls).user_line, static_elements(spec.type.shape)


def _shares(graph: Graph, batch: int) -> Iterable[tuple[Place, Direction, float]]:
    for node, flops in work_of_nodes(graph.nodes, batch):
        if flops:
            places = dict.fromkeys((o.user_line, o.direction) for o in own_origins(node.origins))
            for place, direction in places or {(("", 0), Direction.FORWARD): None}:
                yield place, direction, flops / max(1, len(places))
