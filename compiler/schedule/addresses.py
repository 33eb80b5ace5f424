"""The address of an element: movement ops are composed into one sum of digits of a linear index.

Every value is stored dense with its batch extent outermost, so strides never depend on the batch. An `IndexMap` is
`offset + sum(((e // divisor) % modulus) * stride)` for the linear index `e` of some domain, in storage order.
"""

from __future__ import annotations

import math
from operator import attrgetter

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.loops.ir import IndexTerm
from compiler.ops.movement import Broadcast, Reshape, Reverse, Slice, Transpose
from compiler.ops.window import Window
from compiler.schedule.numerics.internal_ops import After, Insert
from compiler.support.record import record
from compiler.types import BatchExtent, Extent, Shape, depends_on_batch


@record
class IndexMap:
    """An address or an index along an axis, as a sum of digits of one linear index."""

    offset: int = 0
    terms: tuple[IndexTerm, ...] = ()

    def scaled(self, factor: int) -> IndexMap:
        if factor == 1:
            return self
        if factor == 0:
            return IndexMap()
        return IndexMap(
            self.offset * factor, tuple(IndexTerm(t.divisor, t.modulus, t.stride * factor) for t in self.terms)
        )


_divisor = attrgetter("divisor")
ZERO = IndexMap()
VIEWS = (Transpose, Broadcast, Slice, Reshape, Reverse, Window)  # ops that read each element where it lies
IDENTITY = IndexMap(0, (IndexTerm(1, None, 1),))


def count(extent: Extent) -> int:
    """The extent for `batch = 1`."""
    return extent.multiple if type(extent) is BatchExtent else extent


def storage_order(shape: Shape) -> tuple[int, ...]:
    """The axes from outermost to innermost in memory: the batch first, then as written."""
    axes = tuple(range(len(shape)))
    for batch, extent in enumerate(shape):
        if batch and type(extent) is BatchExtent:
            return (batch, *axes[:batch], *axes[batch + 1 :])
    return axes


def storage_strides(shape: Shape) -> tuple[int, ...]:
    """Elements between neighbours, for each axis."""
    strides = [0] * len(shape)
    step, batch, axis = 1, -1, len(strides)
    for extent in shape[::-1]:
        axis -= 1
        if type(extent) is BatchExtent:
            batch = axis
        else:
            strides[axis] = step
            step *= extent
    if batch >= 0:
        strides[batch] = step
    return tuple(strides)


def axis_maps(shape: Shape) -> tuple[IndexMap, ...]:
    """Each axis's own index as a map of the linear index of a dense value."""
    has_outermost = depends_on_batch(shape)
    maps: list[IndexMap] = []
    for extent, stride in zip(shape, storage_strides(shape), strict=True):
        if type(extent) is BatchExtent:
            maps.append(IndexMap(0, (IndexTerm(stride, None, 1),)))
        elif extent == 1:
            maps.append(ZERO)
        else:
            maps.append(IndexMap(0, (IndexTerm(stride, extent if has_outermost else None, 1),)))
            has_outermost = True
    return tuple(maps)


def add(*maps: IndexMap) -> IndexMap:
    """The sum of index maps, with neighbouring digits joined."""
    given = [t for f in maps for t in f.terms if t.stride]
    return IndexMap(sum([f.offset for f in maps]), _joined(given))


def _joined(given: list[IndexTerm]) -> tuple[IndexTerm, ...]:
    """The digits of a sum, the highest first, with neighbours joined; the list is used up."""
    if len(given) < 2:
        return tuple(given)
    given.sort(key=_divisor, reverse=True)
    terms: list[IndexTerm] = []
    for term in given:
        if terms and (joined := _join(terms[-1], term)):
            terms[-1] = joined
        else:
            terms.append(term)
    return tuple(terms)


def _join(high: IndexTerm, low: IndexTerm) -> IndexTerm | None:
    if low.modulus is None or high.divisor != low.divisor * low.modulus or high.stride != low.stride * low.modulus:
        return None
    return IndexTerm(low.divisor, None if high.modulus is None else high.modulus * low.modulus, low.stride)


def address(shape: Shape, maps: tuple[IndexMap, ...]) -> IndexMap:
    """The place of an element in the storage of a dense value, from the index maps of its axes."""
    offset = 0
    given: list[IndexTerm] = []  # without the maps between, which are most of what a schedule would make
    for index_map, stride in zip(maps, storage_strides(shape), strict=True):
        if stride:
            offset += index_map.offset * stride
            if stride == 1:
                given += [t for t in index_map.terms if t.stride]
            else:
                given += [IndexTerm(t.divisor, t.modulus, t.stride * stride) for t in index_map.terms if t.stride]
    return IndexMap(offset, _joined(given))


def through(node: Node, maps: tuple[IndexMap, ...]) -> tuple[IndexMap, ...] | None:
    """The index maps of the axes of a movement op's operand from those of its result; None where no map can say it."""
    operand = node.operands[0].type.shape
    match node.op:
        case Transpose(permutation=permutation):
            placed = dict(zip(permutation, maps, strict=True))
            return tuple(placed[axis] for axis in range(len(operand)))
        case Broadcast(axes=axes):
            return tuple(ZERO if operand[i] == 1 else maps[axis] for i, axis in enumerate(axes))
        case Slice(starts=starts, steps=steps):
            scaled = zip(maps, starts, steps, strict=True)
            return tuple(add(IndexMap(start), index_map.scaled(step)) for index_map, start, step in scaled)
        case Reverse(axes=axes):
            return tuple(
                add(IndexMap(count(operand[axis]) - 1), index_map.scaled(-1)) if axis in axes else index_map
                for axis, index_map in enumerate(maps)
            )
        case Window(axes=axes, strides=strides, dilations=dilations):
            moved = list(maps[: len(operand)])
            for axis, stride, dilation, tap in zip(axes, strides, dilations, maps[len(operand) :], strict=True):
                moved[axis] = add(maps[axis].scaled(stride), tap.scaled(dilation))
            return tuple(moved)
        case After():
            return maps
        case Reshape():
            return _through_reshape(node.results[0].type.shape, operand, maps)
        case _:
            return None


def _through_reshape(result: Shape, operand: Shape, maps: tuple[IndexMap, ...]) -> tuple[IndexMap, ...] | None:
    """Axes are matched in groups of equal size; in a group the index is joined, then split."""
    found: list[IndexMap] = []
    i = j = 0
    while i < len(result) or j < len(operand):
        first_i, first_j = i, j
        size_i = size_j = 1
        batch_i = batch_j = False
        while i == first_i or size_i != size_j or batch_i != batch_j:
            from_result = size_i < size_j or (size_i == size_j and not batch_i and (batch_j or i == first_i))
            if from_result and i < len(result):
                size_i, batch_i, i = size_i * count(result[i]), batch_i or isinstance(result[i], BatchExtent), i + 1
            elif j < len(operand):
                size_j, batch_j, j = size_j * count(operand[j]), batch_j or isinstance(operand[j], BatchExtent), j + 1
            else:
                break
        joined = _join_axes(result[first_i:i], maps[first_i:i])
        if joined is None:
            return None
        split = _split_axis(operand[first_j:j], joined)
        if split is None:
            return None
        found.extend(split)
    return tuple(found)


def _join_axes(shape: Shape, maps: tuple[IndexMap, ...]) -> IndexMap | None:
    if any(isinstance(extent, BatchExtent) for extent in shape[1:]) and count(shape[0]) != 1:
        return None  # the index would need a stride that depends on the batch
    suffix = [math.prod(count(e) for e in shape[k + 1 :]) for k in range(len(shape))]
    return add(*(index_map.scaled(size) for index_map, size in zip(maps, suffix, strict=True)))


def _split_axis(shape: Shape, index_map: IndexMap) -> list[IndexMap] | None:
    significant = [k for k, extent in enumerate(shape) if extent != 1]
    if len(significant) <= 1:
        return [index_map if k in significant else ZERO for k in range(len(shape))]
    if any(isinstance(shape[k], BatchExtent) for k in significant[1:]):
        return None
    split: list[IndexMap] = [ZERO] * len(shape)
    if not index_map.terms:  # always the same element
        left = index_map.offset
        for k in reversed(significant):
            split[k] = IndexMap(left if k == significant[0] else left % count(shape[k]))
            left //= count(shape[k])
        return split
    if index_map.offset or len(index_map.terms) != 1 or index_map.terms[0].stride != 1:
        return None
    term = index_map.terms[0]
    size, left = 1, term.modulus  # of the index, `left` values remain for the axes that are not split off yet
    for k in reversed(significant):
        extent = count(shape[k])
        modulus = left if k == significant[0] or (left is not None and left < extent) else extent
        if left is not None and modulus is not None and left % modulus:
            return None  # the index wraps within this axis
        split[k] = IndexMap(0, (IndexTerm(term.divisor * size, modulus, 1),)) if modulus != 1 else ZERO
        size *= extent
        left = None if left is None or modulus is None else left // modulus
    return split


def split_map(index_map: IndexMap, columns: Extent) -> tuple[tuple[IndexTerm, ...], tuple[IndexTerm, ...]]:
    """Row terms and column terms of the map of `e = row * columns + column`."""
    if isinstance(columns, BatchExtent):
        return (), index_map.terms  # a single row
    rows: list[IndexTerm] = []
    low: list[IndexTerm] = []
    for term in index_map.terms:
        span = None if term.modulus is None else term.divisor * term.modulus
        if term.divisor % columns == 0:
            rows.append(IndexTerm(term.divisor // columns, term.modulus, term.stride))
        elif span is not None and span <= columns:
            low.append(IndexTerm(term.divisor, None if span == columns else term.modulus, term.stride))
        else:  # the digit straddles the border: columns % divisor == 0 by construction of the domain
            inner = columns // term.divisor
            low.append(IndexTerm(term.divisor, None, term.stride))
            outer = None if term.modulus is None else term.modulus // inner
            rows.append(IndexTerm(1, outer, term.stride * inner))
    return tuple(rows), tuple(low)


def splits_evenly(index_map: IndexMap, columns: Extent) -> bool:
    """Whether `split_map` can divide the map between rows of `columns` elements."""
    if isinstance(columns, BatchExtent):
        return True
    for term in index_map.terms:
        span = None if term.modulus is None else term.divisor * term.modulus
        if term.divisor % columns == 0 or (span is not None and span <= columns and columns % span == 0):
            continue
        if columns % term.divisor or (span is not None and span % columns):
            return False
    return True


def linear_strides(shape: Shape, index_map: IndexMap) -> tuple[int, ...] | None:
    """The stride of each axis, where `index_map`, of the linear index of `shape`, is linear in every axis."""
    own = storage_strides(shape)
    if 0 in shape:  # no element, and so no place of one
        return own

    def at(index: int) -> int:
        return sum([term.at(index) for term in index_map.terms])

    strides: list[int] = []
    for axis, extent in enumerate(shape):
        size = 1 << 20 if isinstance(extent, BatchExtent) else extent
        stride = at(own[axis]) if size > 1 else 0
        probes = {1, 2, size // 2, size - 1, *(t.divisor // own[axis] for t in index_map.terms)}
        if any(at(own[axis] * p) != stride * p for p in probes if 0 < p < size):
            return None
        strides.append(stride)
    return tuple(strides)


def insert_map(node: Node) -> IndexMap:
    """Where an `Insert` puts the elements of its part."""
    op = node.op
    assert isinstance(op, Insert)
    part, whole = node.operands[1].type.shape, node.results[0].type.shape
    maps = tuple(add(IndexMap(s), f) for s, f in zip(op.starts, axis_maps(part), strict=True))
    return address(whole, maps)


def view_strides(builder: GraphBuilder, value: Value) -> tuple[Value, tuple[int, ...], int] | None:
    """The stored value behind a chain of movements, with a stride for each axis and an offset; None if not linear."""
    shape = value.type.shape
    maps = axis_maps(shape)
    while True:
        node = builder.definition(value)
        if node is None or not isinstance(node.op, VIEWS):
            break
        moved = through(node, maps)
        if moved is None:
            return None
        maps, value = moved, node.operands[0]
    index_map = address(value.type.shape, maps)
    strides = linear_strides(shape, index_map)
    return None if strides is None else (value, strides, index_map.offset)
