"""Whether results depend on the elements found for integers outside of the range.

A model may leave such places out: by a mask, by a choice, by a product with 0. That is not read off its text. The
graph is evaluated twice, with one and with another content in these places; where the outputs are the same, nothing
was wrong. A value that depends neither on the places nor on the data alone is made up: it would need the trained model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import final

import numpy as np

from compiler.choices.find import IndexChoice
from compiler.evaluate import evaluate_node
from compiler.graph.ir import Graph, GraphInput, Node, Role, Value, depending
from compiler.graph.op import Category, FlatOp, Op, Types
from compiler.interface import Array
from compiler.ops.indexing import Gather
from compiler.ops.scan import Scan
from compiler.support.record import record
from compiler.types import TensorType, at_batch, numpy_dtype

_HEAVY = (Category.CONTRACTION, Category.CONTROL)
_ELEMENTS, _FEW, _MANY = 1 << 24, 16, 4096


class Disturbance:
    """A graph in which what some choices find for integers out of range can be changed."""

    def __init__(
        self, graph: Graph, choices: Sequence[IndexChoice], outputs: Sequence[str], settings: Mapping[str, float]
    ):
        chosen = {choice.key: choice for choice in choices}
        self._graph = replace(graph, outputs=tuple(o for o in graph.outputs if o.name in outputs))
        self._settings = settings
        self._both = tuple(_disturbed(graph.nodes, chosen, variant) for variant in (0, 1))
        touched = {n.results[0].index for n, other in zip(graph.nodes, self._both[0], strict=True) if n is not other}
        self._touched = _closed(graph.nodes, touched)
        unknown = {e.value.index for e in graph.inputs if e.role not in (Role.DATA, Role.SETTING)}
        self._unknown = _closed(graph.nodes, unknown)
        self._needed = self._needed_values()

    def matters(self, data: Mapping[str, Array], rows: int) -> bool:
        """Whether some output depends on the elements found for integers out of range in these rows of data."""
        drawn = np.random.default_rng(0)
        known: dict[int, Array] = {}
        for entry in self._graph.inputs:
            if entry.value.index in self._needed:
                known[entry.value.index] = self._input(entry, data, rows, drawn)
        first, second = (self._outputs(nodes, known, rows) for nodes in self._both)
        return any(not np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(first, second, strict=True))

    @property
    def most_rows(self) -> int:
        """How many rows can be looked at in a moment."""
        nodes = [n for n in self._graph.nodes if n.results[0].index in self._touched & self._needed]
        if any(node.op.category in _HEAVY for node in nodes):
            return _FEW
        sizes = [int(np.prod(at_batch(r.type.shape, 1), dtype=np.int64)) for node in nodes for r in node.results]
        return min(max(_ELEMENTS // max(sizes, default=1), 1), _MANY)

    def _is_made_up(self, value: Value) -> bool:
        index = value.index
        return index in self._unknown and index not in self._touched and value.type.dtype.is_float

    def _needed_values(self) -> set[int]:
        """The values on which the outputs depend, as far as they are not made up."""
        needed = {output.value.index for output in self._graph.outputs}
        for node in reversed(self._graph.nodes):
            if any(r.index in needed and not self._is_made_up(r) for r in node.results):
                needed.update(operand.index for operand in node.operands)
        return needed

    def _outputs(self, nodes: Sequence[Node], known: dict[int, Array], rows: int) -> list[Array]:
        """The outputs; `known` gets what no choice changes."""
        changed: dict[int, Array] = {}
        drawn = np.random.default_rng(1)
        for node in nodes:
            wanted = [result for result in node.results if result.index in self._needed]
            if not wanted or all(result.index in known for result in wanted):
                continue
            into = changed if node.results[0].index in self._touched else known
            if all(self._is_made_up(result) for result in wanted):
                into.update((r.index, _made_up(r, rows, drawn)) for r in wanted)
                continue
            operands = [changed[o.index] if o.index in changed else known[o.index] for o in node.operands]
            results = evaluate_node(node, operands, rows)
            into.update((value.index, array) for value, array in zip(node.results, results, strict=True))
        found = (output.value.index for output in self._graph.outputs)
        return [changed[index] if index in changed else known[index] for index in found]

    def _input(self, entry: GraphInput, data: Mapping[str, Array], rows: int, drawn: np.random.Generator) -> Array:
        dtype = numpy_dtype(entry.value.type.dtype)
        if entry.role is Role.DATA:
            return data[entry.name].astype(dtype, copy=False)
        if entry.role is Role.SETTING and entry.name in self._settings:
            return np.array(self._settings[entry.name], dtype)
        return _made_up(entry.value, rows, drawn)


def _closed(nodes: Sequence[Node], found: set[int]) -> set[int]:
    """The values that depend on some of `found`, and these."""
    return depending(nodes, found, lambda node: node.results[0].index in found)


def _made_up(value: Value, rows: int, drawn: np.random.Generator) -> Array:
    """Numbers of which a logarithm, a root and a quotient are finite."""
    shape, dtype = at_batch(value.type.shape, rows), numpy_dtype(value.type.dtype)
    if value.type.dtype.is_float:
        return drawn.uniform(0.1, 0.9, shape).astype(dtype)
    return np.zeros(shape, dtype)


def _disturbed(nodes: Sequence[Node], chosen: Mapping[int, IndexChoice], variant: int) -> tuple[Node, ...]:
    return tuple(_changed(node, chosen, variant) for node in nodes)


def _changed(node: Node, chosen: Mapping[int, IndexChoice], variant: int) -> Node:
    choice = chosen.get(node.results[0].index) if node.results else None
    if choice is not None:
        return replace(node, op=_Disturbed(node.op, choice.side, choice.count, variant))
    if isinstance(node.op, Scan):
        body = node.op.body
        inner = _disturbed(body.nodes, chosen, variant)
        if any(new is not old for new, old in zip(inner, body.nodes, strict=True)):
            return replace(node, op=replace(node.op, body=replace(body, nodes=inner)))
    return node


@final
@record
class _Disturbed(FlatOp):
    """As `op`, but what integers find that are not in 0..count depends on the variant. It never leaves this file."""

    op: Op
    side: int
    count: int
    variant: int
    name = "disturbed"
    category = Category.INDEXING

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        return tuple(self.op.result_types(operands))

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        (found,) = self.op.evaluate(operands, batch)
        indices = operands[self.side]
        outside = (indices < 0) | (indices >= self.count)
        if isinstance(self.op, Gather):
            behind = (1,) * (operands[0].ndim - self.op.axis - 1)
            own = outside.shape[self.op.by_row :]
            before = outside.shape[: self.op.by_row] + (1,) * (self.op.axis - self.op.by_row)
            outside = outside.reshape((*before, *own, *behind))
        return (np.where(outside, self._other(operands[0], found), found).astype(found.dtype),)

    def _other(self, table: Array, found: Array) -> Array:
        if found.dtype.kind == "b":
            return np.full(found.shape, bool(self.variant))
        shape: tuple[int, ...] = found.shape
        numbers = np.random.default_rng(self.variant).uniform(0.1, 0.9, shape)
        if found.dtype.kind == "f":
            return numbers
        return np.asarray(np.take(table, (numbers * table.size).astype(np.int64)))
