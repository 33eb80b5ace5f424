"""Records of elaboration beside graphs: the applications of functions, for lints, and the claims of a `test`."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import field
from typing import TypeAlias

from compiler.errors.diagnostics import Span
from compiler.frontend.applications import Application
from compiler.frontend.program import ParameterSpec, Program
from compiler.frontend.values import FormValue, TensorValue, TupleValue, Value
from compiler.graph import ir
from compiler.support.record import mutable_record, record
from compiler.syntax import tree


@record
class Side:
    """An operand of a comparison: its text, and the tensor or what configuration says that it is."""

    text: str
    value: ir.Value | str


@record
class Holds:
    """`value`, a tensor of bool, is true in every element; `sides` are the operands, where it is a comparison."""

    span: Span
    value: ir.Value | bool
    sides: tuple[Side, ...] = ()


@record
class GradientsAgree:
    """The gradient of `of` in `by`, by our rules, is the one that differences give."""

    span: Span
    of: ir.Value
    by: ir.Value


@record
class IsCausal:
    """An element of `of` at a place of the axis `axis_of` depends on nothing behind this place of `by`."""

    span: Span
    of: ir.Value
    by: ir.Value
    axis_of: int
    axis_by: int


Claim: TypeAlias = Holds | GradientsAgree | IsCausal


@record
class TestProgram:
    """One `test`. Each tensor of a claim is the output of `graph` called `value INDEX`."""

    __test__ = False  # pytest takes it for a test of its own

    name: str
    span: Span
    graph: ir.Graph
    parameters: tuple[ParameterSpec, ...]
    claims: tuple[Claim, ...]


@record
class Binding:
    """A name that the user's text gives to a tensor, at `span`. `shown` is its type as messages print it.

    `dimensions` has each axis as messages print it, and the place in the text that gave it its extent. `path` is that
    of the layers and parameters which the statement makes.
    """

    name: str
    span: Span
    value: ir.Value
    shown: str
    dimensions: tuple[tuple[str, Span | None], ...]
    path: str


@record
class Seen:
    """The value of a name or expression at a `place` of the user's text; names of the applications `scopes` are the
    user's."""

    place: Span
    value: Value
    scopes: Container[int]


@record
class Step:
    """What an expression gives: one tensor, or several. `last` is the stage of a pipe, else the whole expression."""

    seen: Seen
    last: Span


@mutable_record
class Trace:
    """Filled while a program is elaborated: applications, bindings and steps by their graph, initialisers by path.

    `steps` are the expressions of the user's text that give tensors, in the order in which they are computed.
    `seen` has the value of each name and each tensor in the user's text, where somebody asks for them.
    """

    bindings: dict[str, list[Binding]] = field(default_factory=dict[str, "list[Binding]"])
    steps: dict[str, list[Step]] = field(default_factory=dict[str, "list[Step]"])
    applications: dict[str, list[Application]] = field(default_factory=dict[str, list[Application]])
    initializers: dict[str, FormValue] = field(default_factory=dict[str, FormValue])
    seen: list[Seen] | None = None

    def applied(
        self,
        graph: str,
        declaration: tree.Callable,
        operands: Sequence[tuple[tree.Parameter, Value]],
        result: Value,
        call: Span,
        calls: tuple[Span, ...],
        path: str,
        values: range,
    ) -> Application:
        """Record an application, during which the values of the graph with these indices were made."""
        tensors = {parameter.name: v.value for parameter, v in operands if isinstance(v, TensorValue)}
        items = result.items if isinstance(result, TupleValue) else (result,)
        results = tuple(item.value for item in items if isinstance(item, TensorValue))
        application = Application(declaration, tensors, results, call, calls, path, values)
        self.applications.setdefault(graph, []).append(application)
        return application


@record
class Subject:
    """The subject of the lints: an experiment, or a model without one, that has no mistakes."""

    program: Program
    model: tree.Model
    train: tree.Train | None
    trace: Trace
