"""Records which tensor a name of the user's text stands for, with its type as messages print it."""

from __future__ import annotations

from compiler.errors.diagnostics import Span
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.shapes import shown, shown_axis
from compiler.frontend.trace import Binding
from compiler.frontend.values import TensorValue, Value


def record_binding(elaborator: Elaborator, name: str, span: Span, value: Value) -> None:
    """Add the binding to the trace, if the value is a tensor and the name is not the library's."""
    elaborator.see(span, value)
    if isinstance(value, TensorValue) and not span.source.is_library:
        axes = zip(value.shape, value.axes, strict=True)
        dimensions = tuple((shown_axis(elaborator, extent, axis), axis.origin) for extent, axis in axes)
        found = Binding(name, span, value.value, shown(elaborator, value), dimensions, elaborator.frame.place())
        elaborator.session.trace.bindings.setdefault(elaborator.builder.name, []).append(found)
