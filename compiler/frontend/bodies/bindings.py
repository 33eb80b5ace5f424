"""Records which tensors the names and steps of the user's text stand for."""

from __future__ import annotations

from compiler.errors.diagnostics import Span
from compiler.frontend.elaborator import Elaborator
from compiler.frontend.tensors.shapes import shown, shown_axis
from compiler.frontend.trace import Binding, Seen, Step
from compiler.frontend.values import TensorValue, TupleValue, Value
from compiler.syntax import tree


def record_binding(elaborator: Elaborator, name: str, span: Span, value: Value) -> None:
    """Add the binding to the trace, if the value is a tensor and the name is not the library's."""
    elaborator.see(span, value)
    if isinstance(value, TensorValue) and not span.source.is_library:
        axes = zip(value.shape, value.axes, strict=True)
        dimensions = tuple((shown_axis(elaborator, extent, axis), axis.origin) for extent, axis in axes)
        found = Binding(name, span, value.value, shown(elaborator, value), dimensions, elaborator.frame.place())
        elaborator.session.trace.bindings.setdefault(elaborator.builder.name, []).append(found)


def record_step(elaborator: Elaborator, expression: tree.Expression, value: TensorValue | TupleValue) -> None:
    """Add the tensors that an expression gives to the trace, if the text is the user's."""
    elaborator.see(expression.span, value)
    if not expression.span.source.is_library:
        last = expression.stage if isinstance(expression, tree.Pipe) else expression
        step = Step(Seen(expression.span, value, elaborator.user_scopes), last.span)
        elaborator.session.trace.steps.setdefault(elaborator.builder.name, []).append(step)
