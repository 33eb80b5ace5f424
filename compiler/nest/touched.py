"""Records of a walk over a nest: the contents of its values, and the bytes that each of its accesses touches."""

from __future__ import annotations

from typing import TypeAlias

import islpy as isl
from islpy import PwAff

from compiler.nest import ir
from compiler.nest.call import Access
from compiler.nest.ir import Operand
from compiler.nest.terms import DIM, Content, Digits, Loaded, Product
from compiler.support.record import mutable_record, record


@record(eq=False)
class Place:
    """`more` bytes behind a number of bytes behind an address."""

    of: ir.Given | ir.Scratch
    base: PwAff
    more: int = 0


@record(eq=False)
class Flag:
    """1 where a condition of which nothing is known holds, and 0 where it does not."""

    condition: Operand


Known: TypeAlias = Content | isl.Set | tuple[Place, ...] | Flag


def depends_on(content: Known, k: int) -> bool:
    """Whether a dimension of the space is in a content."""
    match content:
        case PwAff():
            return content.involves_dims(DIM.in_, k, 1)
        case isl.Set():
            return content.involves_dims(DIM.set, k, 1)
        case Product(left=left, right=right):
            return left.involves_dims(DIM.in_, k, 1) or right.involves_dims(DIM.in_, k, 1)
        case tuple():
            return any(place.base.involves_dims(DIM.in_, k, 1) for place in content)
        case Digits() | Loaded() | Flag():
            return False


@record(eq=False)
class Body:
    """One pass through the walk of a loop's body: the rounds `within`, where `added` holds since the body around it."""

    added: isl.Set
    within: isl.Set


@mutable_record
class Touched:
    """Accesses of one kind that stand together: bytes `offsets` behind `base`, `bytes` each, in rounds of the `loops`.

    Each address is said to be a multiple of one of `aligns`.
    `path` says where in the nest they stand. One that is not `sure` may be left out in a round of the set `within`.
    """

    access: Access
    of: ir.Given | ir.Scratch
    path: tuple[int, ...]
    loops: tuple[ir.Loop, ...]
    within: isl.Set
    base: PwAff
    bytes: int
    used: int  # of them, the bytes of lanes that something uses
    is_sure: bool
    seen: frozenset[int]  # dimensions of shares that are known there
    facts: isl.Set  # about them
    bodies: tuple[Body, ...]  # of the loops
    added: isl.Set  # what holds since the last of them
    offsets: list[int]
    aligns: list[int]

    @property
    def is_by_lane(self) -> bool:
        """Whether the bytes are those of one lane, which `base` counts."""
        type_ = self.access.result.type if isinstance(self.access, ir.Load) else ir.type_of(self.access.value)  # type: ignore[union-attr]
        return type_.dtype is not None and self.bytes < type_.dtype.size * type_.lanes

    @property
    def is_store(self) -> bool:
        return isinstance(self.access, ir.Store | ir.Scatter)
