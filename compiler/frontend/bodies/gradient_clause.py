"""A function with a `gradient` clause: its body is opaque to differentiation, and the clause gives the cotangents."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.diagnostics import Note, hint
from compiler.frontend.bodies.statements import run_body
from compiler.frontend.machine import Machine
from compiler.frontend.tensors.operators import cast, scalar, spread
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.values import POISON, TensorValue, TupleValue, Value, describe
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.ops.control import CustomGradient, StopGradient
from compiler.syntax import tree
from compiler.types import DType


def with_own_gradient(
    machine: Machine, declaration: tree.Callable, clause: tree.GradientClause, names: Sequence[str]
) -> Value:
    """Evaluate the body of the current frame and attach the clause. `names` are the tensor parameters."""
    frame, call = machine.frame, machine.here
    given = {name: value for name in names if isinstance(value := frame.variables[name], TensorValue)}
    for name, tensor in given.items():
        frame.variables[name] = TensorValue(machine.emit(StopGradient(), tensor.value), tensor.axes)
    value = run_body(machine, declaration.body)
    machine.span = call
    if value is POISON:
        return POISON
    results = list(value.items) if isinstance(value, TupleValue) else [value]
    tensors = [_as_tensor(machine, result) for result in results]
    frame.variables.update(given)
    rule = _rule(machine, clause, names, given, tensors)
    machine.span = clause.span
    operands = [tensor.value for tensor in (*given.values(), *tensors)]
    nodes = machine.emit_all(CustomGradient(rule, len(given)), *operands)
    machine.span = call
    outputs = tuple(TensorValue(node, tensor.axes) for node, tensor in zip(nodes, tensors, strict=True))
    return TupleValue(outputs) if isinstance(value, TupleValue) else outputs[0]


def _as_tensor(machine: Machine, value: Value) -> TensorValue:
    return value if isinstance(value, TensorValue) else scalar(machine, value, DType.F32)


def _rule(
    machine: Machine,
    clause: tree.GradientClause,
    names: Sequence[str],
    given: dict[str, TensorValue],
    results: Sequence[TensorValue],
) -> Graph:
    """The clause as a graph of its own, from parameters, results and cotangents to the cotangents of parameters."""
    wanted = len(names) + 2 * len(results)
    if len(clause.parameters) != wanted:
        machine.fail(
            "E0506",
            f"this `gradient` takes {len(clause.parameters)} values, but `{machine.frame.name}` has {len(names)} "
            f"tensor parameters and {len(results)} results, which makes {wanted}",
            hint("it takes the parameters, the results, and one cotangent for each result: `gradient(x, y, dy)`"),
            span=clause.span,
        )
    builder = GraphBuilder(f"gradient of {machine.frame.name}")
    variables = dict(machine.frame.variables)
    parameters = iter(clause.parameters)
    for name in names:
        target = next(parameters).id
        variables[target] = _input(builder, target, given[name]) if name in given else variables[name]
    for result in (*results, *results):
        target = next(parameters).id
        variables[target] = _input(builder, target, result)
    value = _evaluate(machine, clause, builder, variables)
    if value is not POISON:
        _add_outputs(machine, clause, builder, names, given, value)
    return builder.build()


def _input(builder: GraphBuilder, name: str, tensor: TensorValue) -> TensorValue:
    return TensorValue(builder.input(name, Role.DATA, tensor.value.type), tensor.axes)


def _evaluate(
    machine: Machine, clause: tree.GradientClause, builder: GraphBuilder, variables: dict[str, Value]
) -> Value:
    frame = machine.frame
    outside = machine.builder, machine.inputs, machine.takes_settings, frame.variables
    frame.has_result, frame.result = False, None
    machine.builder, machine.inputs, machine.takes_settings, frame.variables = builder, {}, False, variables
    try:
        return run_body(machine, clause.body)
    finally:
        machine.builder, machine.inputs, machine.takes_settings, frame.variables = outside


def _add_outputs(
    machine: Machine,
    clause: tree.GradientClause,
    builder: GraphBuilder,
    names: Sequence[str],
    given: dict[str, TensorValue],
    value: Value,
) -> None:
    slopes = list(value.items) if isinstance(value, TupleValue) else [value]
    floats = [name for name in names if name in given and given[name].dtype.is_float]
    if len(slopes) != len(floats):
        machine.fail(
            "E0506",
            f"this `gradient` returns {len(slopes)} values, but {len(floats)} parameters of floats need one each",
            span=clause.span,
        )
    outside, machine.builder = machine.builder, builder
    try:
        for name, slope in zip(floats, slopes, strict=True):
            tensor = given[name]
            result = _of_shape(machine, clause, name, tensor, slope)
            builder.output(f"d{list(given).index(name)}", Role.OUTPUT, result.value)
    finally:
        machine.builder = outside


def _of_shape(
    machine: Machine, clause: tree.GradientClause, name: str, tensor: TensorValue, slope: Value
) -> TensorValue:
    if not isinstance(slope, TensorValue):
        if not isinstance(slope, int | float):
            machine.fail("E0506", f"the gradient of `{name}` must be a tensor, not {describe(slope)}", span=clause.span)
        slope = scalar(machine, slope, tensor.dtype)
        return TensorValue(spread(machine, slope, tensor.shape), tensor.axes)
    if slope.shape != tensor.shape:
        machine.fail(
            "E0506",
            f"the gradient of `{name}` has the type {shown(machine, slope)}, but `{name}` is {shown(machine, tensor)}",
            Note("each parameter's gradient has that parameter's shape"),
            hint("sum over the dimensions along which the parameter was repeated"),
            span=clause.span,
        )
    return cast(machine, slope, tensor.dtype)
