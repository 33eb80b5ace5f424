"""The attention weights of a model: results of a softmax over whose axis a product sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.errors.diagnostics import UsageError
from compiler.frontend.program import Program
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, GraphOutput, Node, Role, Value, behind
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.ops.contraction import Contraction
from compiler.ops.control import resolve_custom_gradients
from compiler.ops.elementwise import Divide, Multiply, Where
from compiler.ops.mathematics import Exp
from compiler.ops.movement import Broadcast, Reshape, Slice, Transpose
from compiler.ops.reduction import Sum
from compiler.ops.scan import Scan, scan_body
from compiler.pipeline import everywhere
from compiler.types import BatchExtent

_VIEWS = (Broadcast, Reshape, Slice, Transpose)


def attention_graph(program: Program) -> Graph:
    """The inputs of the model to its attention weights, each under the path of its layer.

    Each has the batch as its first axis and the keys as its last; those of a scan's steps have the steps as their
    second. Raises UsageError where there are none.
    """
    targets = {spec.name for spec in program.inputs if spec.is_target}
    graph = everywhere(resolve_custom_gradients, program.inference_graph)
    nodes = list(graph.nodes)
    found: list[tuple[str, Value]] = []
    builder = GraphBuilder.continuing(graph)
    for place, node in enumerate(nodes):
        if isinstance(node.op, Scan):
            nodes[place], stacks = _with_stacks(builder, node)
            found += stacks
    found += [(_path(node), node.results[0]) for node in weights_in(graph.nodes)]
    if not found:
        fix = "they are results of a softmax by which a sum is weighted"
        raise UsageError(f"{program.model} has no attention weights", fix)
    inputs = tuple(i for i in graph.inputs if i.role is not Role.DATA or i.name not in targets)
    named = {name: _batch_first(builder, value) for name, value in _named(found).items()}
    outputs = tuple(GraphOutput(name, Role.OUTPUT, value) for name, value in named.items())
    return eliminate_dead(Graph("attention", inputs, (*nodes, *builder.nodes), outputs))


def weights_in(nodes: Sequence[Node]) -> list[Node]:
    """The nodes that give attention weights: quotients of exponentials and their sums that weight a product's sum."""
    producers = {result.index: node for node in nodes for result in node.results}
    weighting: set[int] = set()  # values that reach a product which sums over their last axis
    for node in nodes:
        if isinstance(node.op, Contraction):
            for operand, labels in zip(node.operands, (node.op.lhs, node.op.rhs), strict=True):
                if any(label not in node.op.out for label in labels):
                    weighting.add(behind(operand, producers, _VIEWS).index)
        elif isinstance(node.op, Sum):
            product = producers.get(node.operands[0].index)
            if product is not None and isinstance(product.op, Multiply):
                weighting.update(behind(operand, producers, _VIEWS).index for operand in product.operands)
    return [n for n in nodes if n.results[0].index in weighting and _is_softmax(n, producers)]


def _is_softmax(node: Node, producers: Mapping[int, Node]) -> bool:
    """Whether a node divides exponentials by their own sum."""
    if not isinstance(node.op, Divide):
        return False
    top = producers.get(behind(node.operands[0], producers, _VIEWS).index)
    below = producers.get(behind(node.operands[1], producers, _VIEWS).index)
    while below is not None and isinstance(below.op, Where):  # a sum of nothing counts as 1
        sides = (producers.get(behind(side, producers, _VIEWS).index) for side in below.operands[1:])
        below = next((side for side in sides if side is not None and isinstance(side.op, Sum)), None)
    if top is None or below is None or not isinstance(top.op, Exp) or not isinstance(below.op, Sum):
        return False
    return behind(below.operands[0], producers, _VIEWS) == top.results[0]


def _with_stacks(builder: GraphBuilder, node: Node) -> tuple[Node, list[tuple[str, Value]]]:
    """A scan that also emits the attention weights of its body."""
    op = node.op
    assert isinstance(op, Scan)
    weights = weights_in(op.body.nodes)
    if not weights:
        return node, []
    values = [weight.results[0] for weight in weights]
    outputs = (*(entry.value for entry in op.body.outputs), *values)
    body = scan_body([entry.value for entry in op.body.inputs], op.body.nodes, outputs)
    stacks = [builder.value(op.stacked(value.type)) for value in values]
    changed = Node(replace(op, body=body), node.operands, (*node.results, *stacks), node.origins)
    return changed, [(_path(weight), stack) for weight, stack in zip(weights, stacks, strict=True)]


def _batch_first(builder: GraphBuilder, value: Value) -> Value:
    shape = value.type.shape
    order = sorted(range(len(shape)), key=lambda axis: not isinstance(shape[axis], BatchExtent))
    return value if order == list(range(len(shape))) else builder.emit(Transpose(tuple(order)), value)


def _path(node: Node) -> str:
    return next((origin.path for origin in node.origins if origin.path), "attention")


def _named(found: Sequence[tuple[str, Value]]) -> dict[str, Value]:
    """Values by their paths, told apart where several have the same."""
    named: dict[str, Value] = {}
    for path, value in found:
        name, number = path, 2
        while name in named:
            name, number = f"{path}_{number}", number + 1
        named[name] = value
    return named
