"""Whether joining two groups pays: code stays of bounded size, and products read beside their columns."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.schedule.addresses import count, split_map, splits_evenly
from compiler.schedule.fusion.ir import CONTRACTIONS, Group, Member
from compiler.tuning import Tuning


def is_small_enough(first: Group, second: Group, tuning: Tuning) -> bool:
    return len(first.members) + len(second.members) <= tuning.largest_group


def reads_neighbours(members: Sequence[Member]) -> bool:
    """Whether the epilogue of a product reads neighbours along its columns; scattered ones would cost more."""
    (product,) = (member for member in members if isinstance(member.node.op, CONTRACTIONS))
    op = product.node.op
    assert isinstance(op, CONTRACTIONS)
    type_, width = product.node.results[0].type, 1
    offset = type_.rank - len(op.out)
    for label, extent in zip(op.out, type_.shape[offset:], strict=True):
        width *= 1 if label in op.lhs else count(extent)
    for member in members:
        for link in () if member is product else member.links:
            if not splits_evenly(link.address, width):
                return False
            low = split_map(link.address, width)[1]
            if len(low) > 1 or any((term.divisor, term.stride) != (1, 1) for term in low):
                return False
    return True
