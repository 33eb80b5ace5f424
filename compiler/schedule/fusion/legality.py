"""Whether two groups may become one: each value that crosses the border lies at its reader's own place.

That is the same element, its row, or its column. The order of groups is the concern of `fuse`.
"""

from __future__ import annotations

from collections.abc import Iterator

from compiler.graph.ir import Node
from compiler.loops.ir import IndexTerm, Space
from compiler.ops.indexing import Gather
from compiler.schedule.addresses import IDENTITY, IndexMap, count, splits_evenly
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import CONTRACTIONS, REDUCTIONS, Group, GroupKind, Link, Member
from compiler.schedule.numerics.internal_ops import Insert, Pick
from compiler.schedule.split import ColumnSplit, RowSplit, Split
from compiler.support.record import record
from compiler.types import BatchExtent, Extent, elements


@record
class Merge:
    """A group that two could become. The whole domain of the producer, or of the consumer, becomes the given space."""

    kind: GroupKind
    domain: Extent
    split: Split | None
    producer: Space = Space.FULL
    consumer: Space = Space.FULL


def legal_merge(
    producer: Group, consumer: Group, crossing: list[tuple[Member, Link]], index: GroupIndex
) -> Merge | None:
    """The first group that the two may become; `crossing` are the consumer's reads of the producer."""
    inserts = [member.node for member in consumer.members if type(member.node.op) is Insert]
    if any(_is_filled_by(producer, insert, index) for insert in inserts):
        return None
    for merge in _candidates(producer, consumer):
        if all(_fits(merge, member, link, index) for member, link in crossing) and (
            _keeps_divided(merge, producer, merge.producer, index)
            and _keeps_divided(merge, consumer, merge.consumer, index)
        ):
            return merge
    return None


def divides(split: Split | None, member: Member, index: GroupIndex, space: Space = Space.FULL) -> bool:
    """Whether every address of a member is one of the row and one of the column, as its `space` counts them."""
    is_whole = isinstance(split, ColumnSplit) and space is Space.COLUMN and split.outer == 1
    if split is None or space is Space.ROW or is_whole:
        return True
    return not [a for a in index.addresses_of((member,)) if not splits_evenly(a, split.columns)]


def result_space(node: Node, space: Space, split: Split | None) -> Space:
    """The space of a node's result, where its index lies in `space`."""
    if isinstance(node.op, REDUCTIONS):
        assert split is not None
        return Space.ROW if isinstance(split, RowSplit) else Space.COLUMN
    return space


def at_own_place(domain: Extent, split: Split | None, reader: Space, source: Space, address: IndexMap) -> bool:
    """Whether a reader's address in a value of its group is that of its own element, row or column."""
    if address.offset:
        return False
    if reader is source:
        return address == IDENTITY or (address.terms == () and size_of(domain, split, reader) == 1)
    if split is None or reader is not Space.FULL:
        return False
    if source is Space.ROW and isinstance(split, RowSplit):
        if isinstance(split.columns, BatchExtent) or split.rows == 1:
            return address.terms == ()
        return address.terms == (IndexTerm(split.columns, None, 1),)
    if source is Space.COLUMN and isinstance(split, ColumnSplit):
        columns = count(split.columns)
        if split.outer == 1:
            return address.terms == (IndexTerm(1, columns, 1),)
        if isinstance(split.rows, int):
            return address.terms == (IndexTerm(split.rows * columns, None, columns), IndexTerm(1, columns, 1))
    return False


def size_of(domain: Extent, split: Split | None, space: Space) -> Extent:
    """The elements of a space of a group."""
    if space is Space.FULL or split is None:
        return domain
    if space is Space.ROW:
        return split.rows
    return elements((split.outer if isinstance(split, ColumnSplit) else 1, count(split.columns)))


def reads_inside(member: Member, link: Link, source: Node) -> bool:
    """Whether a member may read a value that its own kernel computes."""
    if isinstance(member.node.op, CONTRACTIONS):
        return False  # a product needs its operands complete
    if isinstance(member.node.op, Gather | Pick) and link is member.links[0]:
        return False  # so does a gathered table
    return not isinstance(source.op, Insert)


def _candidates(producer: Group, consumer: Group) -> Iterator[Merge]:
    """The groups that the two could become, before their crossing values are looked at."""
    is_product = GroupKind.PRODUCT in (producer.kind, consumer.kind)
    kind = GroupKind.PRODUCT if is_product else GroupKind.ELEMENTS
    if producer.domain == consumer.domain and (
        producer.split is None or consumer.split is None or producer.split == consumer.split
    ):
        split = producer.split or consumer.split
        if split is None or not is_product:
            yield Merge(kind, producer.domain, split)
    if is_product:
        return
    for space in (Space.ROW, Space.COLUMN):
        if _takes_in(producer, consumer, space):
            yield Merge(kind, producer.domain, producer.split, consumer=space)
        if _takes_in(consumer, producer, space):
            yield Merge(kind, consumer.domain, consumer.split, producer=space)


def _takes_in(group: Group, other: Group, space: Space) -> bool:
    """Whether the domain of `other` is one value for each row, or each column, of `group`."""
    if group.split is None or other.split is not None or size_of(group.domain, group.split, space) != other.domain:
        return False
    return isinstance(group.split, RowSplit) == (space is Space.ROW)


def _moved(space: Space, whole: Space) -> Space:
    return whole if space is Space.FULL else space


def _fits(merge: Merge, member: Member, link: Link, index: GroupIndex) -> bool:
    maker = index.maker(link.source)
    source = result_space(maker.node, _moved(maker.space, merge.producer), merge.split)
    reader = _moved(member.space, merge.consumer)
    is_own = at_own_place(merge.domain, merge.split, reader, source, link.address)
    return is_own and reads_inside(member, link, maker.node)


def _keeps_divided(merge: Merge, group: Group, whole: Space, index: GroupIndex) -> bool:
    """Whether the split that a group gets from another divides what its members read."""
    if group.split is not None or merge.split is None:
        return True
    return all(divides(merge.split, m, index, _moved(m.space, whole)) for m in group.members)


def _is_filled_by(group: Group, node: Node, index: GroupIndex) -> bool:
    """Whether an insertion must wait for that group. Those into one tensor are apart and may come in any order."""
    is_inside = index.homes.get(node.operands[0].index) == group.number
    return is_inside and not isinstance(index.makers[node.operands[0].index].op, Insert)
