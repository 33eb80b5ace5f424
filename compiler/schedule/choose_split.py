"""Chooses the split of a group's domain into rows and columns: the longest that read everything evenly."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.graph.ir import Node
from compiler.loops.ir import PERIOD_COLUMNS, IndexTerm
from compiler.ops.sources import Iota, RandomUniform
from compiler.schedule.addresses import IndexMap, count, split_map, splits_evenly, storage_order
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import CONTRACTIONS, Group, GroupKind
from compiler.schedule.numerics.internal_ops import Insert
from compiler.schedule.split import FlatSplit, RowSplit, Split
from compiler.support.numerics import LANES
from compiler.tuning import Tuning
from compiler.types import BatchExtent, Extent, elements


def chosen_split(group: Group, index: GroupIndex, tuning: Tuning) -> Split | FlatSplit:
    if group.split is not None:
        return group.split
    if group.kind is GroupKind.PRODUCT:
        return _tile_split(next(m.node for m in group.members if isinstance(m.node.op, CONTRACTIONS)))
    maps = index.addresses_of(group.members)
    if all(f.terms == () or f.terms == (IndexTerm(1, None, 1),) for f in maps):
        if isinstance(group.domain, int) and group.domain <= tuning.flat_columns:
            return RowSplit(1, group.domain)
        return FlatSplit(group.domain, tuning.flat_columns)
    choices = _column_choices(group, maps)
    long = (c for c in reversed(choices) if c >= tuning.row_columns and _repeats(group, index, maps, c))
    columns = next(long, None)
    if columns is not None:
        return RowSplit(_divided(group.domain, columns), columns)
    for limit in (1, None):
        for columns in choices:
            if all(_reads_evenly(f, columns, limit) for f in maps):
                return RowSplit(_divided(group.domain, columns), columns)
    even = (c for c in reversed(choices) if all(splits_evenly(f, c) for f in maps))
    columns = next(even, 1)
    return RowSplit(_divided(group.domain, columns), columns)


def _repeats(group: Group, index: GroupIndex, maps: Sequence[IndexMap], columns: int) -> bool:
    """Whether all that a row of so many columns reads is dense, or repeats often: the channels of an image."""
    sources = (link.source for member in group.members for link in member.links)
    producers = (index.makers.get(source.index) for source in sources)
    if any(p is not None and isinstance(p.op, Iota | RandomUniform) for p in producers):
        return False
    period = LANES
    for index_map in maps:
        if not splits_evenly(index_map, columns):
            return False
        _, low = split_map(index_map, columns)
        for term in low:
            if len(low) > 1 or (term.divisor, term.stride) != (1, 1):
                return False
            period = math.lcm(period, term.modulus or 1)
    return period <= PERIOD_COLUMNS


def _column_choices(group: Group, maps: Sequence[IndexMap]) -> list[int]:
    """The products of the innermost axes, written or read, largest first; the batch never lies in a row."""
    found = {term.divisor for index_map in maps for term in index_map.terms if term.divisor > 1}
    for member in group.members:
        node, size = member.node, 1
        shape = node.operands[1].type.shape if isinstance(node.op, Insert) else node.results[0].type.shape
        for axis in reversed(storage_order(shape)):
            size *= count(shape[axis])
            found.add(size)
    limit = count(group.domain)
    return sorted((c for c in found if c and limit % c == 0), reverse=True) or [1]


def _tile_split(node: Node) -> RowSplit:
    op, result = node.op, node.results[0].type.shape
    assert isinstance(op, CONTRACTIONS)
    splits = result[: len(result) - len(op.out)]
    shape = dict(zip(op.out, result[len(splits) :], strict=True))
    columns = elements(tuple(shape[label] for label in op.out if label not in op.lhs))
    assert isinstance(columns, int)
    rows = elements((*splits, *(shape[label] for label in op.out if label in op.lhs)))
    return RowSplit(rows, columns)


def _divided(extent: Extent, divisor: int) -> Extent:
    return BatchExtent(extent.multiple // divisor) if isinstance(extent, BatchExtent) else extent // divisor


def _reads_evenly(index_map: IndexMap, columns: int, limit: int | None) -> bool:
    if not splits_evenly(index_map, columns):
        return False
    _, low = split_map(index_map, columns)
    return not low or (len(low) == 1 and low[0] == IndexTerm(1, None, low[0].stride if limit is None else limit))
