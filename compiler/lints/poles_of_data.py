"""Logarithms and roots of data as it is: whether they are right is known where the data is."""

from __future__ import annotations

import math
from collections.abc import Mapping

from compiler.errors.diagnostics import Span
from compiler.frontend.program import Program
from compiler.graph.ir import Role
from compiler.graph.op import Op
from compiler.lints.flow import inlined
from compiler.lints.ranges import Ranges
from compiler.ops.mathematics import Log, Log1p, Rsqrt, Sqrt
from compiler.support.record import record

_POLES: Mapping[type[Op], float] = {Log: 0.0, Rsqrt: 0.0, Log1p: -1.0, Sqrt: 0.0}


@record
class DataPole:
    """At `place`, the function `function` takes nothing below `pole` of the input or target `name`.

    With `holds_pole`, as of a root, its value at the pole is finite.
    """

    name: str
    function: str
    pole: float
    holds_pole: bool
    place: Span


def poles_of_data(program: Program) -> tuple[DataPole, ...]:
    """Those in the user's own lines, of inputs and targets for which no range is declared."""
    graph = inlined(program.inference_graph)
    if not any(type(node.op) in _POLES for node in graph.nodes):
        return ()
    ranges = Ranges(program, graph)
    names = {entry.value.index: entry.name for entry in graph.inputs if entry.role is Role.DATA}
    given = {spec.name for spec in program.inputs}
    found: list[DataPole] = []
    for node in graph.nodes:
        pole = _POLES.get(type(node.op))
        if pole is None or not node.origins or node.origins[0].span.source.is_library:
            continue
        name = names.get(ranges.flow.source(node.operands[0]).index, "")
        if name in given and ranges[node.operands[0]].low == -math.inf:
            found.append(DataPole(name, node.op.name, pole, isinstance(node.op, Sqrt), node.origins[0].span))
    return tuple(dict.fromkeys(found))
