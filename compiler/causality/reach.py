"""The reach of each element of a value into the fed sequence, and the node that makes it look ahead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import field
from typing import TypeAlias

from compiler.graph.ir import Node
from compiler.support.record import record

Zone: TypeAlias = tuple[int, int]
"""Two axes (row, key): the elements whose index along the key's axis is larger than that along the row's."""


@record
class Reach:
    """An element depends on no position after the largest of `index[axis] + offset`, for each axis in `offsets`.

    No offset is above 0. Without offsets, an element `depends` at most on the position 0, or on no position.
    `constants` are the numbers that all elements of a zone have in common.
    """

    offsets: Mapping[int, int] = field(default_factory=dict[int, int])
    depends: bool = False
    constants: Mapping[Zone, float] = field(default_factory=dict[Zone, float])


@record
class Breach:
    """Some element depends on a later position, or may do so; `node` is where that begins."""

    node: Node


INDEPENDENT = Reach()


def joined(reaches: Iterable[Reach]) -> Reach:
    """The reach of a value that depends on all of these; nothing is known of its zones."""
    offsets: dict[int, int] = {}
    depends = False
    for reach in reaches:
        depends = depends or reach.depends
        for axis, offset in reach.offsets.items():
            offsets[axis] = max(offset, offsets.get(axis, offset))
    return Reach(offsets, depends)


def moved(reach: Reach, place: Mapping[int, int]) -> Reach:
    """The same for axes that stand elsewhere; `place` has every axis of `offsets`."""
    zones = {
        (place[row], place[key]): number
        for (row, key), number in reach.constants.items()
        if row in place and key in place
    }
    return Reach({place[axis]: offset for axis, offset in reach.offsets.items()}, reach.depends, zones)


def confined(reach: Reach) -> Reach:
    """Without the axes that zones of constants confine: outside of (row, key), the key's index is at most the row's."""
    offsets = dict(reach.offsets)
    for row, key in reach.constants:
        if key in offsets and row != key:
            offset = offsets.pop(key)
            offsets[row] = max(offset, offsets.get(row, offset))
    return Reach(offsets, reach.depends, reach.constants)
