"""The lines of a loop of the execution plan as one kernel goes through them: step by step, level by level.

What stands in one level touches no byte that another of the level writes; a level waits for all of the one before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from compiler.support.record import record
from compiler.targets.gpu.dependences import dependences
from compiler.targets.manifest import LOOP, Manifest, Touched

Item: TypeAlias = "int | Steps"  # a line, or a loop inside


@record
class Steps:
    """A loop: how many steps, and the levels of one. Lines stand before loops in each."""

    count: int
    levels: tuple[tuple[Item, ...], ...]

    @property
    def lines(self) -> Iterator[int]:
        """All lines of calls, those of loops inside too."""
        for item in (item for level in self.levels for item in level):
            if isinstance(item, Steps):
                yield from item.lines
            else:
                yield item

    @property
    def calls_beside(self) -> Iterator[tuple[int, ...]]:
        """The lines of calls in each level, of loops inside too."""
        for level in self.levels:
            yield tuple(item for item in level if not isinstance(item, Steps))
            for item in level:
                if isinstance(item, Steps):
                    yield from item.calls_beside


def outermost_loops(manifest: Manifest) -> Iterator[tuple[int, Steps]]:
    """The loops around which there is none, by the lines at which they begin; those without a call are left out."""
    line = 0
    while line < len(manifest.entries):
        entry = manifest.entries[line]
        if entry.function == LOOP:
            steps = _steps(manifest, line)
            if steps is not None:
                yield line, steps
            line = entry.first_argument
        line += 1


def _steps(manifest: Manifest, begin: int) -> Steps | None:
    """The loop that begins at a line; None where it has nothing to do."""
    count, line, end = manifest.entries[begin].extent, begin + 1, manifest.entries[begin].first_argument
    assert isinstance(count, int)
    items: list[Item] = []
    while line < end:
        entry = manifest.entries[line]
        if entry.function == LOOP:
            inner = _steps(manifest, line)
            items += [] if inner is None else [inner]
            line = entry.first_argument
        else:
            items.append(line)
        line += 1
    return Steps(count, _levels(manifest, items)) if items and count else None


def _levels(manifest: Manifest, items: list[Item]) -> tuple[tuple[Item, ...], ...]:
    depth: list[int] = []
    for waits in dependences([touched_by(manifest, item) for item in items]):
        depth.append(max((depth[number] + 1 for number in waits), default=0))
    levels: list[list[Item]] = [[] for _ in range(max(depth) + 1)]
    for item, place in zip(items, depth, strict=True):
        levels[place].append(item)
    return tuple(tuple(sorted(level, key=lambda item: isinstance(item, Steps))) for level in levels)


def touched_by(manifest: Manifest, item: Item) -> tuple[Touched, ...]:
    """What a line touches, or all lines of a loop."""
    lines = item.lines if isinstance(item, Steps) else (item,)
    return tuple(dict.fromkeys(touched for line in lines for touched in manifest.touched[line]))
