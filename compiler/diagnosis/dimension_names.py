"""The names that the text has for the dimensions of values, found by the line and the shape of a value.

Values of a step that is derived from a program, backward ones among them, know the lines that they come from, and what
the text calls the dimensions of that line's own values.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from compiler.errors.diagnostics import Span
from compiler.frontend.axes import NamedAxes
from compiler.frontend.program import Program
from compiler.graph.ir import Node, Origin, Value
from compiler.ops.scan import Scan
from compiler.types import Shape

Names: TypeAlias = tuple[str, ...]
_Place: TypeAlias = tuple[Span, tuple[Span, ...]]


class DimensionNames:
    """Of a program that is complete; an axis without a name, or with one of several, is called ``."""

    def __init__(self, program: Program) -> None:
        self._named: dict[tuple[_Place, Shape], Names] = {}
        self._steps: dict[_Place, str] = {}
        self._inputs = {spec.name: tuple(name or "" for name in spec.dimension_names) for spec in program.inputs}
        axes = program.axes
        if axes is None:
            return
        made, read = _Table(axes), _Table(axes)
        for node in _every_node(program.training_graph.nodes):
            for origin in node.origins:
                place = _place(origin)
                made.add(place, node.results)
                read.add(place, node.operands)
                if isinstance(node.op, Scan) and node.op.scanned:
                    self._steps.setdefault(place, axes.names(node.operands[0])[0])
        # What a function reads has the names of its caller.
        self._named = {**read.named, **made.named}

    def of(self, origins: Sequence[Origin], value: Value) -> Names:
        """The names of the axes of a value that comes from these places."""
        found = [self._named[key] for o in origins if (key := (_place(o), value.type.shape)) in self._named]
        return found[0] if found else ("",) * value.type.rank

    def of_input(self, name: str, value: Value) -> Names:
        found = self._inputs.get(name, ())
        return found if len(found) == value.type.rank else ("",) * value.type.rank

    def of_steps(self, scan: Node) -> str:
        """The name of the axis over which a scan runs."""
        return next((self._steps[place] for o in scan.origins if (place := _place(o)) in self._steps), "")


class _Table:
    """The names of values by the lines that make them, or read them, and by their shapes."""

    def __init__(self, axes: NamedAxes) -> None:
        self._axes = axes
        self.named: dict[tuple[_Place, Shape], Names] = {}

    def add(self, place: _Place, values: Iterable[Value]) -> None:
        for value in values:
            names, key = self._axes.names(value), (place, value.type.shape)
            if any(names):
                self.named[key] = _agreed(self.named.get(key, names), names)


def _place(origin: Origin) -> _Place:
    return origin.span, origin.calls


def _every_node(nodes: Iterable[Node]) -> Iterator[Node]:
    """With those in the bodies of scans."""
    for node in nodes:
        yield node
        if isinstance(node.op, Scan):
            yield from _every_node(node.op.body.nodes)


def _agreed(one: Names, other: Names) -> Names:
    """What two values of a line and a shape are both called: a name that one of them lacks is that of the other."""
    return tuple(a if a == b or not b else b if not a else "" for a, b in zip(one, other, strict=True))
