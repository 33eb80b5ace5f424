"""Two passes that let groups read parts of values elsewhere: where a part was inserted, or where it was taken from."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.graph.op import Category
from compiler.loops.ir import Edge, IndexTerm, Space
from compiler.ops.sources import Constant
from compiler.schedule.addresses import IDENTITY, IndexMap, add, address, split_map, splits_evenly
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import CONTRACTIONS, INLINE, FusedGraph, Group, GroupKind, Link, Member
from compiler.schedule.numerics.internal_ops import Copy, Insert, ProductSum
from compiler.schedule.split import RowSplit
from compiler.support.numerics import LANES
from compiler.tuning import Tuning

DENSE = ((), (IndexTerm(1, None, 1),))


def read_inserted(fused: FusedGraph) -> FusedGraph:
    """The fused graph whose links lead past parts of insertions, to what these were inserted into, as a padded image.

    A part that nothing else reads is stored there only.
    """
    index, outputs = GroupIndex.of(fused), {output.value.index for output in fused.outputs}
    for group in fused.groups:
        for member in group.members:
            op = member.node.op
            if isinstance(op, Insert) and op.axis is None and member.node.operands[1].index not in outputs:
                _read_from(index.members[member.key], op.starts, group.number, index)
    return index.rebuilt(fused)


def _read_from(insert: Member, starts: tuple[int, ...], home: int, index: GroupIndex) -> None:
    """Let other groups read the part of an insertion where it was put."""
    part, whole = insert.node.operands[1], insert.node.results[0]
    if insert.links[0].source != part or index.homes.get(part.index) != home:
        return
    for reader in index.readers_of(part):
        group = index.groups[index.homes[reader.key]]
        # Another insertion may put the same part into the same whole, which it must not read.
        if group.number == home or isinstance(reader.node.op, Insert):
            continue
        links = list(reader.links)
        for number, link in enumerate(reader.links):
            if link.source == part:
                axes = tuple(add(IndexMap(start), axis) for start, axis in zip(starts, link.axes, strict=True))
                moved = Link(whole, address(whole.type.shape, axes), axes)
                if _can_read(group, reader, number, moved.address):
                    links[number] = moved
        if tuple(links) != reader.links:
            index.change(reader.key, links)


def _can_read(group: Group, reader: Member, number: int, index_map: IndexMap) -> bool:
    """Whether the reader finds neighbours side by side in the other place too."""
    op = reader.node.op
    if isinstance(op, CONTRACTIONS):
        labels = (op.lhs, op.rhs)[number]
        columns = [label for label in op.out if label in labels and label not in op.lhs]
        return number == 0 or len(columns) == 1
    if group.kind is not GroupKind.ELEMENTS or op.category is Category.INDEXING:
        return False
    if group.split is None:
        return True
    return splits_evenly(index_map, group.split.columns) and split_map(index_map, group.split.columns)[1] in DENSE


def read_unpadded(fused: FusedGraph) -> FusedGraph:
    """The fused graph without the copies between zeros that all their readers can do without.

    Taps that slide over an image read it where it lies, and 0 outside of it.
    """
    index = GroupIndex.of(fused)
    kept = {output.value.index for output in fused.outputs}
    kept |= {m.node.operands[0].index for g in fused.groups for m in g.members if isinstance(m.node.op, Insert)}
    for group in fused.groups:
        insert, fill = index.groups[group.number].members[0], _fill_of(index.groups[group.number], index)
        if fill is None or insert.node.results[0].index in kept:
            continue
        readers = index.readers_of(insert.node.results[0])
        links = {reader.key: _links_of(reader, insert, index) for reader in readers}
        if _reads_enough(insert, readers, index, fused.machine.tuning) and None not in links.values():
            for key, found in links.items():
                index.change(key, found or ())
            index.remove(insert.key)
            index.remove(fill.key)
    return index.rebuilt(fused)


def _fill_of(group: Group, index: GroupIndex) -> Member | None:
    """The member that fills the base of a copy, if its group does nothing else, and it fills with 0."""
    insert = group.members[0]
    node = insert.node
    if len(group.members) > 1 or not isinstance(node.op, Insert) or node.op.axis is not None:
        return None
    (link,) = insert.links
    base, part = node.operands
    fill, source = index.group_of(base), index.makers.get(link.source.index)
    if link.address != IDENTITY or fill is None or (source is not None and isinstance(source.op, INLINE)):
        return None
    filling = fill.members[0]
    if len(fill.members) > 1 or not isinstance(filling.node.op, Copy) or not part.type.dtype.is_float:
        return None
    number = index.makers.get(filling.links[0].source.index)
    is_zero = number is not None and isinstance(number.op, Constant) and repr(float(number.op.value)) == "0.0"
    return filling if is_zero and part.type.shape[-1] == base.type.shape[-1] else None


def _reads_enough(insert: Member, readers: Sequence[Member], index: GroupIndex, tuning: Tuning) -> bool:
    addresses: dict[int, set[IndexMap]] = {}
    for reader in readers:
        for link in reader.links:
            if link.source == insert.node.results[0]:
                addresses.setdefault(index.homes[reader.key], set()).add(link.address)
    return bool(addresses) and all(len(found) >= tuning.window_reads for found in addresses.values())


def _links_of(reader: Member, insert: Member, index: GroupIndex) -> tuple[Link, ...] | None:
    """The links of a reader past the copy; None where some link has no such address."""
    group, op = index.groups[index.homes[reader.key]], reader.node.op
    is_plain = op.category is Category.ELEMENTWISE or isinstance(op, ProductSum)
    if group.kind is not GroupKind.ELEMENTS or not is_plain or isinstance(group.split, RowSplit):
        return None
    if reader.space is not Space.FULL:
        return None
    columns = LANES if group.split is None else group.split.columns
    found: list[Link] = []
    for link in reader.links:
        moved = _moved(link, insert, columns) if link.source == insert.node.results[0] else link
        if moved is None:
            return None
        found.append(moved)
    return tuple(found)


def _moved(link: Link, insert: Member, columns: object) -> Link | None:
    """A link to what was copied, with an edge for each axis along which it may lie outside."""
    op, (original,) = insert.node.op, insert.links
    assert isinstance(op, Insert)
    shape, axes, edges = insert.node.operands[1].type.shape, list[IndexMap](), list[Edge]()
    for extent, start, axis in zip(shape, op.starts, link.axes, strict=True):
        moved = add(IndexMap(-start), axis)
        axes.append(moved)
        if extent == insert.node.results[0].type.shape[len(axes) - 1]:
            continue
        if not isinstance(extent, int) or not isinstance(columns, int) or not axis.terms:
            return None
        last: int | None = moved.offset
        for term in axis.terms:
            if term.stride < 1 or term.divisor % columns or not isinstance(shape[-1], int) or term.divisor % shape[-1]:
                return None
            last = None if last is None or term.modulus is None else last + (term.modulus - 1) * term.stride
        if moved.offset < 0 or last is None or last >= extent:
            edges.append(Edge(moved.offset, axis.terms, extent))
    known = tuple(axes) if original.source.type.shape == shape else ()
    return Link(original.source, address(shape, tuple(axes)), known, tuple(edges))
