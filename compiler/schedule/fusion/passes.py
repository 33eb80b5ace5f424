"""The passes over the fused graph, in order, with the reasons; lowering to kernels stands behind them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TypeAlias

from compiler.schedule.fusion.in_place import overwrite, store_in_place, update_in_place
from compiler.schedule.fusion.ir import FusedGraph, Group
from compiler.schedule.fusion.join_siblings import join_siblings
from compiler.schedule.fusion.order import order
from compiler.schedule.fusion.reads import read_inserted, read_unpadded
from compiler.schedule.fusion.rematerialise_cheap import rematerialise_cheap

FusedPass: TypeAlias = Callable[[FusedGraph], FusedGraph]

FUSED_PASSES: tuple[tuple[FusedPass, str | None], ...] = (
    (read_inserted, "shared"),  # first: an insertion that is read in place need not be stored, nor computed again
    (rematerialise_cheap, "rematerialise_cheap"),  # before siblings are joined, which would read more at once
    (join_siblings, "siblings"),  # when it is settled what each group reads
    (read_unpadded, "windows"),  # when all readers of an image that stay apart are known
    (store_in_place, None),  # from here on, groups and their reads stay as they are
    (update_in_place, None),  # before operands are overwritten, as a parameter in place saves a copy at each step
    (overwrite, "overwrite"),  # behind all other aliases: it takes only values of which the place is open
    (order, None),  # last: it keeps to the promises that those before it made
)
"""Each with the fusion without which it is left out."""


def optimise_fused(fused: FusedGraph, without: Collection[str] = (), verify: bool = False) -> FusedGraph:
    """All passes over the fused graph but those of the given fusions; with `verify`, it is checked after each."""
    passes = passes_without(without)
    if verify:
        return _verified(fused, passes)
    for fused_pass in passes:
        fused = everywhere(fused_pass, fused)
    return fused


def _verified(fused: FusedGraph, passes: Iterable[FusedPass]) -> FusedGraph:
    from compiler.schedule.fusion.verify import verify_fused  # few programs are verified

    verify_fused(fused, "fuse")
    for fused_pass in passes:
        fused = everywhere(fused_pass, fused)
        verify_fused(fused, fused_pass.__name__)
    return fused


def passes_without(without: Collection[str]) -> list[FusedPass]:
    """The passes but those of the given fusions."""
    return [fused_pass for fused_pass, fusion in FUSED_PASSES if fusion is None or fusion not in without]


def everywhere(fused_pass: FusedPass, fused: FusedGraph) -> FusedGraph:
    """A pass over the bodies of all scans, then over the fused graph itself."""
    if [member for group in fused.groups for member in group.members if member.body is not None]:
        fused = replace(fused, groups=tuple(_with_bodies(fused_pass, group) for group in fused.groups))
    return fused_pass(fused)


def _with_bodies(fused_pass: FusedPass, group: Group) -> Group:
    members = tuple(
        member if member.body is None else replace(member, body=everywhere(fused_pass, member.body))
        for member in group.members
    )
    return replace(group, members=members)
