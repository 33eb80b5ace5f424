"""The name, of `interface.FUSIONS`, for joining two groups."""

from __future__ import annotations

from compiler.graph.ir import Direction
from compiler.schedule.addresses import IDENTITY, count
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import REDUCTIONS, Group, GroupKind, Link, Member
from compiler.schedule.numerics.internal_ops import Insert
from compiler.types import elements


def name_of_merge(producer: Group, consumer: Group, crossing: list[tuple[Member, Link]], index: GroupIndex) -> str:
    """The fusion, where `crossing` are the consumer's reads of the producer."""
    if _is_update(producer) != _is_update(consumer):
        return "update"
    if any(isinstance(member.node.op, Insert) for member, _ in crossing):
        return "insertions"
    if producer.kind is GroupKind.PRODUCT or consumer.kind is GroupKind.PRODUCT:
        return _name_of_epilogue(producer, consumer, index)
    if any(isinstance(index.makers[link.source.index].op, REDUCTIONS) for _, link in crossing):
        return "rows"
    if any(isinstance(member.node.op, REDUCTIONS) for member, _ in crossing):
        return "reductions"
    links = [*_outer_links(producer, consumer, index), *_outer_links(consumer, producer, index)]
    moved = [link.source for link in links if link.address.terms and link.address != IDENTITY]
    is_large = any(count(elements(source.type.shape)) >= count(producer.domain) for source in moved)
    return "windows" if is_large else "elementwise"


def _name_of_epilogue(producer: Group, consumer: Group, index: GroupIndex) -> str:
    """The same for a product and elementwise nodes behind it, by what else these read."""
    is_first = producer.kind is GroupKind.PRODUCT
    product, epilogue = (producer, consumer) if is_first else (consumer, producer)
    if any(origin.direction is Direction.BACKWARD for member in epilogue.members for origin in member.node.origins):
        return "slopes"
    addresses = [link.address for link in _outer_links(epilogue, product, index)]
    if IDENTITY in addresses:
        return "residual"
    return "bias" if any(address.terms for address in addresses) else "activation"


def _outer_links(group: Group, other: Group, index: GroupIndex) -> list[Link]:
    """The reads of a group that come from neither of the two."""
    links = [link for member in group.members for link in member.links]
    return [link for link in links if index.homes.get(link.source.index) not in (group.number, other.number)]


def _is_update(group: Group) -> bool:
    """Whether all that a group does is part of the update of parameters."""
    return all(origin.direction is Direction.UPDATE for member in group.members for origin in member.node.origins)
