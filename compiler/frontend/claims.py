"""The claims of a `test` about the values of its graph."""

from __future__ import annotations

from typing import TypeAlias

from compiler.errors.diagnostics import Span
from compiler.frontend.program import ParameterSpec
from compiler.graph.ir import Graph, Value
from compiler.support.record import record


@record
class Side:
    """An operand of a comparison: its text, and the tensor or what configuration says that it is."""

    text: str
    value: Value | str


@record
class Holds:
    """`value`, a tensor of bool, is true in every element; `sides` are what it compares, where it is a comparison."""

    span: Span
    value: Value | bool
    sides: tuple[Side, ...] = ()


@record
class GradientsAgree:
    """The gradient of `of` in `by`, by our rules, is the one that differences give."""

    span: Span
    of: Value
    by: Value


@record
class IsCausal:
    """What stands in `of` at a place of the axis `axis_of` depends on nothing behind this place of `by`."""

    span: Span
    of: Value
    by: Value
    axis_of: int
    axis_by: int


Claim: TypeAlias = Holds | GradientsAgree | IsCausal


@record
class TestProgram:
    """One `test`. Each tensor of a claim is the output of `graph` called `value INDEX`."""

    __test__ = False  # pytest takes it for a test of its own

    name: str
    span: Span
    graph: Graph
    parameters: tuple[ParameterSpec, ...]
    claims: tuple[Claim, ...]
