"""The targets with which a program compares its outputs, and the threshold above which an output means yes."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.frontend.program import Program
from compiler.graph.ir import Graph, Node, Value, behind
from compiler.ops.elementwise import Cast, Less, LessEqual
from compiler.ops.mathematics import Sigmoid
from compiler.ops.sources import Constant
from compiler.ops.spreading import Broadcast, Reshape
from compiler.programs.load import complete

_SAME_ELEMENTS = (Broadcast, Cast, Reshape)


def thresholds(program: Program) -> Mapping[str, float]:
    """By output of the inference: the only number with which a metric or loss compares it, as `binary_accuracy` does.

    Without one it is 0.5 for the result of a sigmoid. An output of which neither holds is left out.
    """
    graph = complete(program).inference_graph
    makers = {result.index: node for node in graph.nodes for result in node.results}
    found: dict[str, float] = {}
    for name in program.outputs:
        value = behind(graph.output(name).value, makers, _SAME_ELEMENTS)
        compared = _compared(graph, value, makers)
        maker = makers.get(value.index)
        if len(compared) == 1:
            found[name] = compared.pop()
        elif not compared and maker is not None and isinstance(maker.op, Sigmoid):
            found[name] = 0.5
    return found


def judged_outputs(program: Program) -> Mapping[str, tuple[str, ...]]:
    """By target, the outputs with which the loss or a metric joins it first, before anything else of the two kinds.

    None of a target that only joins what has both kinds already: it weighs or chooses terms, as `weights` and `where`.
    """
    graph = complete(program).inference_graph
    own = {graph.output(name).value.index: name for name in program.outputs}
    targets = {spec.name for spec in program.inputs if spec.is_target and spec.mask_of is None}
    made_of = {entry.value.index: {entry.name} for entry in graph.inputs if entry.name in targets}
    made_of |= {index: {name} for index, name in own.items()}
    found: dict[str, dict[str, None]] = {}
    for node in graph.nodes:
        sides = [made_of.get(operand.index, set[str]()) for operand in node.operands]
        names = set[str]().union(*sides)
        joined = sorted(names, key=lambda name: name in targets)
        if len(joined) == 2 and joined[0] not in targets and joined[1] in targets:
            found.setdefault(joined[1], {})[joined[0]] = None
        for target in [name for side in sides if len(side) == 1 for name in side & targets]:
            if any(side - targets and side & targets - {target} for side in sides):
                found.setdefault(target, {})
        made_of |= {result.index: names for result in node.results if result.index not in own}
    return {target: tuple(outputs) for target, outputs in found.items()}


def _compared(graph: Graph, value: Value, makers: Mapping[int, Node]) -> set[float]:
    found: set[float] = set()
    for node in graph.nodes:
        if isinstance(node.op, Less | LessEqual):
            sides = [behind(operand, makers, _SAME_ELEMENTS) for operand in node.operands]
            for one, other in (sides, reversed(sides)):
                maker = makers.get(other.index)
                if one.index == value.index and maker is not None and isinstance(maker.op, Constant):
                    found.add(float(maker.op.value))
    return found
