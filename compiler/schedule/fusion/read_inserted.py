"""A value that is written into a part of another, such as a padded image, is read there and stored there only."""

from __future__ import annotations

from compiler.graph.op import Category
from compiler.loops.ir import IndexTerm
from compiler.schedule.addresses import IndexMap, add, address, split_map, splits_evenly
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import CONTRACTIONS, FusedGraph, Group, GroupKind, Link, Member
from compiler.schedule.numerics.internal_ops import Insert

DENSE = ((), (IndexTerm(1, None, 1),))


def read_inserted(fused: FusedGraph) -> FusedGraph:
    """The fused graph whose links lead past parts of insertions, to what these were inserted into."""
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
