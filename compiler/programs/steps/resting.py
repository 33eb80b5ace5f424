"""A step in which all `update` blocks with `every` rest: the optimised graph of a step without what only they need.

It is cut behind all passes that decide bits, so that a loss and the updates of other blocks have those of the whole.
"""

from __future__ import annotations

from dataclasses import replace

from compiler.graph.ir import Graph, Node, Role, Value
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.ops.elementwise import Equal, Modulo, Where
from compiler.ops.spreading import Broadcast


def resting_step(graph: Graph) -> Graph:
    """The optimised `graph` of a training step, for steps whose numbers no `every` divides."""
    steps = {entry.value.index for entry in graph.inputs if entry.role is Role.STEP}
    numbers, acts = set[int](), set[int]()  # the values of step % every, and those that are true where a block is made
    before: dict[int, Value] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        node = replace(node, operands=tuple(before.get(o.index, o) for o in node.operands))
        first, result = (node.operands[0].index if node.operands else -1), node.results[0]
        if isinstance(node.op, Modulo) and first in steps:
            numbers.add(result.index)
        elif (isinstance(node.op, Equal) and first in numbers) or (isinstance(node.op, Broadcast) and first in acts):
            acts.add(result.index)
        elif isinstance(node.op, Where) and first in acts:
            before[result.index] = node.operands[2]
            continue
        nodes.append(node)
    outputs = tuple(replace(output, value=before.get(output.value.index, output.value)) for output in graph.outputs)
    return eliminate_dead(replace(graph, nodes=tuple(nodes), outputs=outputs))
