"""An application of a function or layer, as elaboration leaves it on record."""

from __future__ import annotations

from collections.abc import Mapping

from compiler.errors.diagnostics import Span
from compiler.graph import ir
from compiler.support.record import record
from compiler.syntax import tree


@record
class Application:
    """`declaration` applied at `call` to tensors, by the names of its parameters; all are values of one graph.

    `path` is that of the innermost layer. `values` are the indices of the values that the graph got meanwhile, those of
    applications inside of it included.
    """

    declaration: tree.Callable
    operands: Mapping[str, ir.Value]
    results: tuple[ir.Value, ...]
    call: Span
    calls: tuple[Span, ...]
    path: str
    values: range

    @property
    def is_library(self) -> bool:
        return self.declaration.span.source.is_library

    @property
    def user_call(self) -> Span:
        """The innermost place in the user's text that led here."""
        return next((p for p in reversed((*self.calls, self.call)) if not p.source.is_library), self.call)
