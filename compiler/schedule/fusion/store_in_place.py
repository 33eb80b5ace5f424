"""An insertion lies inside its base, and the carry of a scan lies where it started."""

from __future__ import annotations

from dataclasses import replace

from compiler.ops.scan import Scan
from compiler.schedule.fusion.ir import Alias, FusedGraph
from compiler.schedule.numerics.internal_ops import Insert


def store_in_place(fused: FusedGraph) -> FusedGraph:
    """The fused graph with these aliases."""
    found = list(fused.aliases)
    for node in [member.node for group in fused.groups for member in group.members]:
        match node.op:
            case Insert():
                found.append(Alias(node.results[0], node.operands[0]))
            case Scan(scanned=scanned, carries=carries):
                starts = node.operands[scanned : scanned + carries]
                found += [Alias(result, start) for result, start in zip(node.results, starts, strict=False)]
            case _:
                pass
    return replace(fused, aliases=tuple(found))
