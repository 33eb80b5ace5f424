"""The axes of tensors as the text knows them: their names, and the places that give them their extents."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import field
from typing import TypeAlias

from compiler.errors.diagnostics import Span
from compiler.graph import ir
from compiler.support.record import record

Label: TypeAlias = tuple[int, str]
"""A dimension name of one application of a declaration: the number of the application, and the name."""

NO_LABELS: frozenset[Label] = frozenset()


@record
class Axis:
    """What is known of one axis beside its extent: its names, and the place in the text that gave it its extent."""

    labels: frozenset[Label] = NO_LABELS
    origin: Span | None = field(default=None, compare=False)


def name_of_axis(axis: Axis, scopes: Container[int]) -> str:
    """The name that an axis has in one of these applications, the latest of them; none where they give it no name."""
    return max((label for label in axis.labels if label[0] in scopes), default=(0, ""))[1]


@record
class NamedAxes:
    """The axes of the values of a graph, by index; only names of the applications `scopes` are the user's.

    A setting that gives an axis its extent is no name on which two operands must agree, but it labels the axis.
    """

    axes: Mapping[int, tuple[Axis, ...]]
    scopes: Container[int]

    def names(self, value: ir.Value) -> tuple[str, ...]:
        """A name for each axis, where the text has one."""
        axes = self.axes.get(value.index, ())
        found = tuple(name_of_axis(axis, self.scopes) or _setting_of(axis) for axis in axes)
        return found if len(found) == value.type.rank else ("",) * value.type.rank


def _setting_of(axis: Axis) -> str:
    text = "" if axis.origin is None or axis.origin.source.is_library else axis.origin.text
    return text if text.isidentifier() else ""
