"""Texts that become graphs of their own: initialisers of parameters, and the `gradient` clauses of functions.

The body of a function with a clause is opaque to differentiation; the clause gives the cotangents. An initialiser is
elaborated for one shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NoReturn

from compiler.errors.diagnostics import Note, Span, hint
from compiler.errors.suggestions import counted
from compiler.frontend.bodies.statements import run_body
from compiler.frontend.elaborator import Elaborator, Frame
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.tensors.operators import as_tensor, cast, computable, scalar, spread
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.values import POISON, FormValue, TensorValue, TupleValue, Value, describe
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.control import CustomGradient, StopGradient
from compiler.support.record import record
from compiler.syntax import tree
from compiler.types import DType, TensorType


def with_own_gradient(
    elaborator: Elaborator, declaration: tree.Callable, clause: tree.GradientClause, names: Sequence[str]
) -> Value:
    """Evaluate the body of the current frame and attach the clause. `names` are the tensor parameters."""
    frame, call = elaborator.frame, elaborator.here
    named = {name: value for name in names if isinstance(value := frame.variables[name], TensorValue)}
    given = {name: _in_floats_to_compute_with(elaborator, tensor) for name, tensor in named.items()}
    for name, tensor in given.items():
        frame.variables[name] = TensorValue(elaborator.emit(StopGradient(), tensor.value), tensor.axes)
    outside, elaborator.has_own_gradient = elaborator.has_own_gradient, True
    try:
        value = run_body(elaborator, declaration.body)
    finally:
        elaborator.has_own_gradient = outside
    elaborator.span = call
    if value is POISON:
        return POISON
    results = list(value.items) if isinstance(value, TupleValue) else [value]
    tensors = [_in_floats_to_compute_with(elaborator, as_tensor(elaborator, one)) for one in results]
    frame.variables.update(given)
    rule = _Rule(elaborator, clause, names, given).graph(tensors)
    elaborator.span = clause.span
    operands = [tensor.value for tensor in (*given.values(), *tensors)]
    nodes = elaborator.emit_all(CustomGradient(rule, len(given)), *operands)
    elaborator.span = call
    outputs = tuple(TensorValue(node, tensor.axes) for node, tensor in zip(nodes, tensors, strict=True))
    return TupleValue(outputs) if isinstance(value, TupleValue) else outputs[0]


def _in_floats_to_compute_with(elaborator: Elaborator, tensor: TensorValue) -> TensorValue:
    return computable(elaborator, tensor) if tensor.dtype.is_float else tensor


@record(eq=False)
class _Rule:
    """A clause that becomes a graph, from parameters, results and cotangents to the cotangents of parameters."""

    elaborator: Elaborator
    clause: tree.GradientClause
    names: Sequence[str]
    given: dict[str, TensorValue]

    def graph(self, results: Sequence[TensorValue]) -> Graph:
        wanted = len(self.names) + 2 * len(results)
        if len(self.clause.parameters) != wanted:
            self._fail(
                f"this `gradient` takes {counted(len(self.clause.parameters), 'value')}, "
                f"but `{self.elaborator.frame.name}` has {counted(len(self.names), 'tensor parameter')} "
                f"and {counted(len(results), 'result')}, which makes {wanted}",
                hint("it takes the parameters, the results, and one cotangent for each result: `gradient(x, y, dy)`"),
            )
        builder = GraphBuilder(f"gradient of {self.elaborator.frame.name}")
        variables = dict(self.elaborator.frame.variables)
        values = [*(self.given.get(name, variables[name]) for name in self.names), *results, *results]
        for parameter, value in zip(self.clause.parameters, values, strict=True):
            if isinstance(value, TensorValue):
                node = builder.input(parameter.id, Role.DATA, value.value.type)
                value = TensorValue(node, value.axes)
            variables[parameter.id] = value
        self._evaluate(builder, variables)
        return builder.build()

    def _evaluate(self, builder: GraphBuilder, variables: dict[str, Value]) -> None:
        elaborator, frame = self.elaborator, self.elaborator.frame
        outside = elaborator.builder, elaborator.inputs, elaborator.takes_settings, elaborator.applied
        variables_outside, frame.variables = frame.variables, variables
        frame.has_result, frame.result = False, None
        elaborator.builder, elaborator.inputs, elaborator.takes_settings, elaborator.applied = builder, {}, False, []
        try:
            value = run_body(elaborator, self.clause.body)
            if value is not POISON:
                self._add_outputs(list(value.items) if isinstance(value, TupleValue) else [value])
        finally:
            elaborator.builder, elaborator.inputs, elaborator.takes_settings, elaborator.applied = outside
            frame.variables = variables_outside

    def _add_outputs(self, slopes: list[Value]) -> None:
        floats = [name for name in self.names if name in self.given and self.given[name].dtype.is_float]
        if len(slopes) != len(floats):
            count = len(floats)
            self._fail(f"this `gradient` returns {len(slopes)} values, but {count} parameters of floats need one each")
        for name, slope in zip(floats, slopes, strict=True):
            result = self._of_shape(name, self.given[name], slope)
            self.elaborator.builder.output(f"d{list(self.given).index(name)}", Role.OUTPUT, result.value)

    def _of_shape(self, name: str, tensor: TensorValue, slope: Value) -> TensorValue:
        if not isinstance(slope, TensorValue):
            if not isinstance(slope, int | float):
                self._fail(f"the gradient of `{name}` must be a tensor, not {describe(slope)}")
            slope = scalar(self.elaborator, slope, tensor.dtype)
            return TensorValue(spread(self.elaborator, slope, tensor.shape), tensor.axes)
        if slope.shape != tensor.shape:
            found, wanted = shown(self.elaborator, slope), shown(self.elaborator, tensor)
            self._fail(
                f"the gradient of `{name}` has the type {found}, but `{name}` is {wanted}",
                Note("each parameter's gradient has that parameter's shape"),
                hint("sum over the dimensions along which the parameter was repeated"),
            )
        return cast(self.elaborator, slope, tensor.dtype)

    def _fail(self, message: str, *notes: Note) -> NoReturn:
        self.elaborator.fail("E0506", message, *notes, span=self.clause.span)


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """fan_in is the next-to-last axis, fan_out the last, each times all axes before them; a vector's are its length."""
    if len(shape) < 2:
        length = shape[0] if shape else 1
        return length, length
    before = math.prod(shape[:-2])
    return before * shape[-2], before * shape[-1]


def initializer_graph(
    elaborator: Elaborator,
    child: Callable[[str, Frame], Elaborator],
    path: str,
    type_: TensorType,
    value: FormValue,
    span: Span,
) -> Graph:
    """The graph from `seed` to `value`. Draws depend on the seed and the parameter's path alone."""
    if value.declaration.keyword != "init":
        raise failure("E0505", f"an initialiser stands here, not {describe(value)}", span)
    frame = elaborator.session.frame_of(value, "init", (*elaborator.frame.calls, span), path, "init")
    shape = tuple(extent for extent in type_.shape if isinstance(extent, int))
    fan_in, fan_out = fans(shape)
    signature = elaborator.session.signature(value.declaration, value.module)
    if len(signature.tensors) != 3:
        raise Poisoned
    frame.variables.update(zip(signature.tensor_names, (fan_in, fan_out, shape), strict=True))
    inner = child(path, frame)
    inner.span = span
    inner.draws_by_seed_alone = True
    inner.takes_settings = False
    inner.input("seed", Role.SEED, TensorType(DType.I64))
    result = run_body(inner, value.declaration.body)
    if result is POISON:
        raise Poisoned
    inner.span = span
    inner.builder.output("value", Role.OUTPUT, _of_type(inner, result, type_, span).value)
    return inner.builder.build()


def _of_type(elaborator: Elaborator, result: Value, type_: TensorType, span: Span) -> TensorValue:
    if isinstance(result, int | float) and not isinstance(result, bool):
        result = scalar(elaborator, result, type_.dtype)
    if not isinstance(result, TensorValue):
        raise failure("E0505", f"an initialiser gives a tensor or a number, not {describe(result)}", span)
    if result.rank and result.shape != type_.shape:
        message = f"the initialiser gives {result.value.type} for a parameter of {type_}"
        raise failure("E0505", message, span, hint("`shape` is the list of its dimensions: `random(shape)`"))
    filled = TensorValue(spread(elaborator, result, type_.shape), result.axes)
    return cast(elaborator, filled, type_.dtype)
