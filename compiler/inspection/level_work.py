"""The work of a step that belongs to each level of a model: operations by direction, nodes of the backward pass."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.graph.ir import Direction, Graph, Node
from compiler.inspection.forms import work_of_nodes
from compiler.inspection.levels import Level, Places
from compiler.support.record import record


@record(eq=False)
class LevelWork:
    """`flops` has an entry for each direction; `backward` are nodes of the backward pass, in order."""

    flops: dict[Direction, int]
    backward: list[Node]


def work_by_level(root: Level, step: Graph, batch: int) -> Mapping[str, LevelWork]:
    """By the key of each level that has some. Rounds but the first count with the first."""
    places, found = Places(root), dict[str, LevelWork]()
    for node, flops in work_of_nodes(step.nodes, batch):
        direction = node.origins[0].direction if node.origins else Direction.FORWARD
        for level in places.of(node.origins):
            key = _of_first_round(level.key)
            work = found.setdefault(key, LevelWork(dict.fromkeys(Direction, 0), []))
            work.flops[direction] += flops
            if direction is Direction.BACKWARD:
                work.backward.append(node)
    return found


def _of_first_round(key: str) -> str:
    """`2.3/1.0`, a part of the fourth round of the third part, is shown as `2.1.0`."""
    return ".".join(part.rpartition("/")[2] for part in key.split("."))
