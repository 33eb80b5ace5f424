"""Texts that become graphs of their own: initialisers of parameters, and the `gradient` clauses of functions.

The body of a function with a clause is opaque to differentiation; the clause gives the cotangents. An initialiser is
elaborated for one shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from compiler.errors.diagnostics import Note, Span, hint
from compiler.errors.suggestions import counted
from compiler.frontend.bodies.statements import run_body
from compiler.frontend.elaborator import Elaborator, Frame
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.tensors.operators import cast, scalar, spread
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.values import POISON, FormValue, TensorValue, TupleValue, Value, describe
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.control import CustomGradient, StopGradient
from compiler.syntax import tree
from compiler.types import DType, TensorType


def with_own_gradient(
    elaborator: Elaborator, declaration: tree.Callable, clause: tree.GradientClause, names: Sequence[str]
) -> Value:
    """Evaluate the body of the current frame and attach the clause. `names` are the tensor parameters."""
    frame, call = elaborator.frame, elaborator.here
    given = {name: value for name in names if isinstance(value := frame.variables[name], TensorValue)}
    for name, tensor in given.items():
        frame.variables[name] = TensorValue(elaborator.emit(StopGradient(), tensor.value), tensor.axes)
    value = run_body(elaborator, declaration.body)
    elaborator.span = call
    if value is POISON:
        return POISON
    results = list(value.items) if isinstance(value, TupleValue) else [value]
    tensors = [_as_tensor(elaborator, result) for result in results]
    frame.variables.update(given)
    rule = _rule(elaborator, clause, names, given, tensors)
    elaborator.span = clause.span
    operands = [tensor.value for tensor in (*given.values(), *tensors)]
    nodes = elaborator.emit_all(CustomGradient(rule, len(given)), *operands)
    elaborator.span = call
    outputs = tuple(TensorValue(node, tensor.axes) for node, tensor in zip(nodes, tensors, strict=True))
    return TupleValue(outputs) if isinstance(value, TupleValue) else outputs[0]


def _as_tensor(elaborator: Elaborator, value: Value) -> TensorValue:
    return value if isinstance(value, TensorValue) else scalar(elaborator, value, DType.F32)


def _rule(
    elaborator: Elaborator,
    clause: tree.GradientClause,
    names: Sequence[str],
    given: dict[str, TensorValue],
    results: Sequence[TensorValue],
) -> Graph:
    """The clause as a graph of its own, from parameters, results and cotangents to the cotangents of parameters."""
    wanted = len(names) + 2 * len(results)
    if len(clause.parameters) != wanted:
        elaborator.fail(
            "E0506",
            f"this `gradient` takes {counted(len(clause.parameters), 'value')}, but `{elaborator.frame.name}` has "
            f"{counted(len(names), 'tensor parameter')} and {counted(len(results), 'result')}, which makes {wanted}",
            hint("it takes the parameters, the results, and one cotangent for each result: `gradient(x, y, dy)`"),
            span=clause.span,
        )
    builder = GraphBuilder(f"gradient of {elaborator.frame.name}")
    variables = dict(elaborator.frame.variables)
    parameters = iter(clause.parameters)
    for name in names:
        target = next(parameters).id
        variables[target] = _input(builder, target, given[name]) if name in given else variables[name]
    for result in (*results, *results):
        target = next(parameters).id
        variables[target] = _input(builder, target, result)
    value = _evaluate(elaborator, clause, builder, variables)
    if value is not POISON:
        _add_outputs(elaborator, clause, builder, names, given, value)
    return builder.build()


def _input(builder: GraphBuilder, name: str, tensor: TensorValue) -> TensorValue:
    return TensorValue(builder.input(name, Role.DATA, tensor.value.type), tensor.axes)


def _evaluate(
    elaborator: Elaborator, clause: tree.GradientClause, builder: GraphBuilder, variables: dict[str, Value]
) -> Value:
    frame = elaborator.frame
    outside = elaborator.builder, elaborator.inputs, elaborator.takes_settings, frame.variables
    frame.has_result, frame.result = False, None
    elaborator.builder, elaborator.inputs, elaborator.takes_settings, frame.variables = builder, {}, False, variables
    try:
        return run_body(elaborator, clause.body)
    finally:
        elaborator.builder, elaborator.inputs, elaborator.takes_settings, frame.variables = outside


def _add_outputs(
    elaborator: Elaborator,
    clause: tree.GradientClause,
    builder: GraphBuilder,
    names: Sequence[str],
    given: dict[str, TensorValue],
    value: Value,
) -> None:
    slopes = list(value.items) if isinstance(value, TupleValue) else [value]
    floats = [name for name in names if name in given and given[name].dtype.is_float]
    if len(slopes) != len(floats):
        message = f"this `gradient` returns {len(slopes)} values, but {len(floats)} parameters of floats need one each"
        elaborator.fail("E0506", message, span=clause.span)
    outside, elaborator.builder = elaborator.builder, builder
    try:
        for name, slope in zip(floats, slopes, strict=True):
            tensor = given[name]
            result = _of_shape(elaborator, clause, name, tensor, slope)
            builder.output(f"d{list(given).index(name)}", Role.OUTPUT, result.value)
    finally:
        elaborator.builder = outside


def _of_shape(
    elaborator: Elaborator, clause: tree.GradientClause, name: str, tensor: TensorValue, slope: Value
) -> TensorValue:
    if not isinstance(slope, TensorValue):
        if not isinstance(slope, int | float):
            elaborator.fail(
                "E0506", f"the gradient of `{name}` must be a tensor, not {describe(slope)}", span=clause.span
            )
        slope = scalar(elaborator, slope, tensor.dtype)
        return TensorValue(spread(elaborator, slope, tensor.shape), tensor.axes)
    if slope.shape != tensor.shape:
        elaborator.fail(
            "E0506",
            f"the gradient of `{name}` has the type {shown(elaborator, slope)}, "
            f"but `{name}` is {shown(elaborator, tensor)}",
            Note("each parameter's gradient has that parameter's shape"),
            hint("sum over the dimensions along which the parameter was repeated"),
            span=clause.span,
        )
    return cast(elaborator, slope, tensor.dtype)


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
