"""A graph becomes a schedule: groups are fused, lowered, ordered and separated by barriers, and memory is planned."""

from __future__ import annotations

from collections.abc import Collection

from compiler.graph.ir import Graph
from compiler.schedule.assemble import assemble
from compiler.schedule.fix_numerics import fix_numerics
from compiler.schedule.fuse import fuse
from compiler.schedule.ir import Schedule
from compiler.schedule.kernels import Builder
from compiler.schedule.recompute import recompute


def schedule(graph: Graph, without: Collection[str] = (), batch: int = 32) -> Schedule:
    """The schedule of an optimised graph, `without` some of the fusions.

    `batch` is the nominal size, for deciding what is worth two threads.
    """
    fixed = fix_numerics(graph)
    if "recompute" not in without:
        fixed = recompute(fixed, batch)
    groups, fuser = fuse(fixed, without)
    return assemble(Builder(fixed, groups, fuser, batch))
