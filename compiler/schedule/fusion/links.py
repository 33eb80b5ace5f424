"""The reads of nodes: operands resolved through views, to values that lie in memory or are computed in place."""

from __future__ import annotations

from dataclasses import field

from compiler.errors.diagnostics import CompilerBug
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category
from compiler.ops.indexing import Gather
from compiler.ops.movement import Broadcast, Reshape, Reverse, Slice, Transpose
from compiler.ops.window import Window
from compiler.schedule.addresses import IndexMap, address, axis_maps, through
from compiler.schedule.fusion.ir import REDUCTIONS, VIEWS, Link, domain_shape
from compiler.schedule.numerics.internal_ops import After, Insert, Pick
from compiler.support.record import mutable_record


def is_elementwise(node: Node) -> bool:
    """Whether a node is computed element by element of its domain."""
    return (
        node.op.category is Category.ELEMENTWISE
        or isinstance(node.op, (*REDUCTIONS, Gather, Pick, Insert, *VIEWS))
        or node.op.name == "random_uniform"
    )


@mutable_record
class Resolver:
    """Resolves operands through views; remembers the `opaque` ones, through which no index map leads."""

    makers: dict[int, Node]
    opaque: set[int] = field(default_factory=set[int])

    def links_of(self, node: Node) -> tuple[tuple[Link, ...], tuple[Value, ...]]:
        """The links of a node, and the values that it comes after."""
        gates: list[Value] = []
        links = self._elementwise(node, gates) if is_elementwise(node) else self._whole(node, gates)
        return links, tuple(gates)

    def _whole(self, node: Node, gates: list[Value]) -> tuple[Link, ...]:
        return tuple(self._resolved(operand, axis_maps(operand.type.shape), gates) for operand in node.operands)

    def _elementwise(self, node: Node, gates: list[Value]) -> tuple[Link, ...]:
        axes, operands = axis_maps(domain_shape(node)), node.operands
        match node.op:
            case Insert():
                index = tuple(self._resolved(operand, (), gates) for operand in operands[2:])
                return (self._resolved(operands[1], axes, gates), *index)
            case Pick():
                return self._resolved(operands[0], (IndexMap(),), gates), self._resolved(operands[1], axes, gates)
            case Gather(axis=axis, by_row=by_row):
                end = axis + operands[1].type.rank - by_row
                index = self._resolved(operands[1], (*axes[:by_row], *axes[axis:end]), gates)
                return self._resolved(operands[0], (*axes[:axis], IndexMap(), *axes[end:]), gates), index
            case Transpose() | Broadcast() | Slice() | Reshape() | Reverse() | Window():
                moved = through(node, axes)
                if moved is None:
                    types = f"{operands[0].type} to {node.results[0].type}"
                    raise CompilerBug("fuse", f"no address for {node.op.name} of {types}")
                return (self._resolved(operands[0], moved, gates),)
            case _:
                return tuple(self._resolved(o, axes if o.type.shape else (), gates) for o in operands)

    def _resolved(self, operand: Value, axes: tuple[IndexMap, ...], gates: list[Value]) -> Link:
        while (view := self.makers.get(operand.index)) is not None and isinstance(view.op, VIEWS):
            if operand.index in self.opaque:
                break
            moved = through(view, axes)
            if moved is None:
                self.opaque.add(operand.index)
                break
            if isinstance(view.op, After):
                gates.append(view.operands[1])
            axes, operand = moved, view.operands[0]
        return Link(operand, address(operand.type.shape, axes), axes)
