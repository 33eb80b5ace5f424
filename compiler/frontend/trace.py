"""The trace of an elaboration, for lints: the functions and layers that were applied, with their tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from compiler.errors.diagnostics import Span
from compiler.frontend.program import Program
from compiler.frontend.values import FormValue, TensorValue, TupleValue, Value
from compiler.graph import ir
from compiler.support.record import mutable_record, record
from compiler.syntax import tree


@record
class Application:
    """`declaration` applied at `call` to tensors, by the names of its parameters; all are values of one graph.

    `path` is that of a layer.
    """

    declaration: tree.Callable
    operands: Mapping[str, ir.Value]
    results: tuple[ir.Value, ...]
    call: Span
    calls: tuple[Span, ...]
    path: str

    @property
    def is_library(self) -> bool:
        return self.declaration.span.source.is_library

    @property
    def user_call(self) -> Span:
        """The innermost place in the user's text that led here."""
        return next((p for p in reversed((*self.calls, self.call)) if not p.source.is_library), self.call)


@mutable_record
class Trace:
    """Filled while a program is elaborated: applications by the name of their graph, initialisers by path."""

    applications: dict[str, list[Application]] = field(default_factory=dict[str, list[Application]])
    initializers: dict[str, FormValue] = field(default_factory=dict[str, FormValue])

    def applied(
        self,
        graph: str,
        declaration: tree.Callable,
        operands: Sequence[tuple[tree.Parameter, Value]],
        result: Value,
        call: Span,
        calls: tuple[Span, ...],
        path: str,
    ) -> None:
        tensors = {parameter.name: v.value for parameter, v in operands if isinstance(v, TensorValue)}
        items = result.items if isinstance(result, TupleValue) else (result,)
        results = tuple(item.value for item in items if isinstance(item, TensorValue))
        self.applications.setdefault(graph, []).append(Application(declaration, tensors, results, call, calls, path))


@record
class Subject:
    """What is linted: an experiment, or a model without one, that has no mistakes."""

    program: Program
    model: tree.Model
    train: tree.Train | None
    trace: Trace
