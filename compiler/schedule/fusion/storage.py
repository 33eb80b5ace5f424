"""Which values of a fused graph lie in memory, and in whose."""

from __future__ import annotations

from compiler.graph.ir import Value
from compiler.schedule.fusion.index import GroupIndex
from compiler.schedule.fusion.ir import Alias, FusedGraph, GroupKind
from compiler.schedule.numerics.internal_ops import Insert
from compiler.support.record import mutable_record


@mutable_record
class Storage:
    """The indices of `stored` values; by the index of each that lies where another one lies, that `targets`."""

    stored: set[int]
    targets: dict[int, Value]

    @classmethod
    def of_graph(cls, fused: FusedGraph, index: GroupIndex) -> Storage:
        """Outputs, values that groups read of each other, and results of nodes that fuse with nothing are stored."""
        stored = {output.value.index for output in fused.outputs}
        homes = index.homes
        for group in fused.groups:
            read = [link.source.index for member in group.members for link in member.links]
            for node in [member.node for member in group.members]:
                if type(node.op) is Insert:
                    read.append(node.operands[0].index)
                if type(node.op) is Insert or group.kind is GroupKind.ALONE:
                    stored.update([result.index for result in node.results])
            stored.update([value for value in read if value not in homes or homes[value] != group.number])
        return cls(stored, {alias.value.index: alias.target for alias in fused.aliases})

    def place(self, value: Value) -> Value:
        """The value in whose memory a value lies."""
        while value.index in self.targets:
            value = self.targets[value.index]
        return value

    def aliases(self, fused: FusedGraph) -> tuple[Alias, ...]:
        """Those of the fused graph, and the further ones in `targets`."""
        known = {alias.value.index for alias in fused.aliases}
        made = {r.index: r for g in fused.groups for m in g.members for r in m.node.results}
        return (*fused.aliases, *(Alias(made[i], target) for i, target in self.targets.items() if i not in known))
