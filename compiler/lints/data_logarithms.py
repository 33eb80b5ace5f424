"""Logarithms of data as it is: whether they are right is known where the data is."""

from __future__ import annotations

import math

from compiler.diagnostics import Span
from compiler.frontend.program import Program
from compiler.graph.ir import Role
from compiler.lints.laid_open import laid_open
from compiler.lints.ranges import Ranges
from compiler.ops.elementwise import Log, Rsqrt
from compiler.record import record


@record
class DataLogarithm:
    """At `place`, the function `function` has a pole where the input or target `name` is 0."""

    name: str
    function: str
    place: Span


def logarithms_of_data(program: Program) -> tuple[DataLogarithm, ...]:
    """Those in the user's own lines, of inputs and targets for which no range is declared."""
    graph = laid_open(program.inference)
    if not any(isinstance(node.op, Log | Rsqrt) for node in graph.nodes):
        return ()
    ranges = Ranges(program, graph)
    names = {entry.value.index: entry.name for entry in graph.inputs if entry.role is Role.DATA}
    given = {spec.name for spec in program.inputs}
    found: list[DataLogarithm] = []
    for node in graph.nodes:
        if not isinstance(node.op, Log | Rsqrt) or not node.origins or node.origins[0].span.source.is_library:
            continue
        name = names.get(ranges.flow.source(node.operands[0]).index, "")
        if name in given and ranges[node.operands[0]].low == -math.inf:
            found.append(DataLogarithm(name, node.op.name, node.origins[0].span))
    return tuple(dict.fromkeys(found))
