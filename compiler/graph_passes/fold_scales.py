"""Folds scales and shifts of a product's columns, such as a normalisation with known statistics, into its weights.

(x @ w - m) * s + b becomes x @ (w * s) + (b - m * s) where w, m, s and b depend on nothing but tensors that the program
does not write. Their products are then computed once, not for each row.
"""

from __future__ import annotations

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Node, Role, Value
from compiler.graph.op import Category, Op
from compiler.graph_passes.rewrite import Rewriting
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Multiply, Subtract
from compiler.ops.movement import Broadcast
from compiler.ops.sources import Constant
from compiler.support.record import record

_STEADY_OPS = (Category.ELEMENTWISE, Category.MOVEMENT, Category.REDUCTION)


def fold_scales(graph: Graph) -> Graph:
    """Scales and shifts of the columns of a product that has no other use."""
    written = {output.updates for output in graph.outputs}
    given = {i.value.index for i in graph.inputs if i.role in (Role.PARAMETER, Role.STATE) and i.name not in written}
    if not given:
        return graph
    rewriting = Rewriting(graph)
    folding = _Folding(rewriting.builder, given, _single_uses(graph))
    return rewriting.each(folding.folded)


def _single_uses(graph: Graph) -> set[int]:
    """The values that one node reads, and nothing else."""
    once: set[int] = set()
    often = {output.value.index for output in graph.outputs}
    for operand in (operand for node in graph.nodes for operand in node.operands):
        (often if operand.index in once else once).add(operand.index)
    return once - often


@record
class _Product:
    """A product whose operand number `place` is steady, and the axis of it that is the result's `axis`."""

    node: Node
    place: int
    axis: int


class _Folding:
    """`steady` are the values that stay the same from step to step."""

    def __init__(self, builder: GraphBuilder, steady: set[int], single: set[int]) -> None:
        self._builder, self._steady, self._single = builder, steady, single

    def folded(self, node: Node) -> Value | None:
        value = None
        if isinstance(node.op, Multiply):
            value = self._scaled(*node.operands) or self._scaled(*reversed(node.operands))
        elif isinstance(node.op, Add):
            value = self._shifted(*node.operands) or self._shifted(*reversed(node.operands))
        known = node.op.category in _STEADY_OPS and all(o.index in self._steady for o in node.operands)
        if value is None and (known or isinstance(node.op, Constant)):
            self._steady.update(result.index for result in node.results)
        return value

    def _scaled(self, columns: Value, spread: Value) -> Value | None:
        """(x @ w - m) * s as x @ (w * s) - m * s; without m, as x @ (w * s)."""
        scale = self._column_numbers(spread)
        if scale is None or columns.index not in self._single:
            return None
        difference = self._builder.definition(columns)
        if difference is not None and isinstance(difference.op, Subtract):
            product, shift = difference.operands[0], self._column_numbers(difference.operands[1])
            if shift is None or self._axes(difference.operands[1]) != self._axes(spread):
                return None
        else:
            product, shift = columns, None
        found = self._product(product, self._axes(spread)[0])
        if found is None or product.index not in self._single:
            return None
        scaled = self._rescaled(found, scale)
        if shift is None:
            return scaled
        return self._emit(Subtract(), scaled, self._spread(self._emit(Multiply(), shift, scale), spread))

    def _shifted(self, columns: Value, spread: Value) -> Value | None:
        """(p - m) + b as p + (b - m)."""
        shift, difference = self._column_numbers(spread), self._builder.definition(columns)
        if shift is None or difference is None or not isinstance(difference.op, Subtract):
            return None
        product, other = difference.operands
        known = self._column_numbers(other)
        source = self._builder.definition(product)
        if known is None or self._axes(other) != self._axes(spread):
            return None
        if source is None or not isinstance(source.op, Contraction):
            return None
        return self._emit(Add(), product, self._spread(self._emit(Subtract(), shift, known), spread))

    def _column_numbers(self, value: Value) -> Value | None:
        """The steady vector that `value` repeats along one axis."""
        node = self._builder.definition(value)
        if node is None or not isinstance(node.op, Broadcast) or len(node.op.axes) != 1:
            return None
        (source,) = node.operands
        return source if source.index in self._steady and source.type.dtype.is_float else None

    def _axes(self, spread: Value) -> tuple[int, ...]:
        node = self._builder.definition(spread)
        assert node is not None
        assert isinstance(node.op, Broadcast)
        return node.op.axes

    def _product(self, value: Value, axis: int) -> _Product | None:
        """The product that gives `value`, if one operand is steady and alone has the result's `axis`."""
        node = self._builder.definition(value)
        if node is None or not isinstance(node.op, Contraction):
            return None
        sides = (node.op.lhs, node.op.rhs)
        for place, labels in enumerate(sides):
            label = node.op.out[axis]
            if node.operands[place].index in self._steady and label in labels and label not in sides[1 - place]:
                return _Product(node, place, labels.index(label))
        return None

    def _rescaled(self, found: _Product, scale: Value) -> Value:
        operands = list(found.node.operands)
        weights = operands[found.place]
        spread = self._emit(Broadcast(weights.type.shape, (found.axis,)), scale)
        operands[found.place] = self._emit(Multiply(), weights, spread)
        return self._emit(found.node.op, *operands, steady=False)

    def _spread(self, numbers: Value, like: Value) -> Value:
        return self._emit(Broadcast(like.type.shape, self._axes(like)), numbers, steady=False)

    def _emit(self, op: Op, *operands: Value, steady: bool = True) -> Value:
        value = self._builder.emit(op, *operands)
        if steady:
            self._steady.add(value.index)
        return value
