"""The gradient of every op against difference quotients in f64, at samples and at the places where rules go wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from differentiation import assert_gradients, gradient_graph, gradients
from op_samples import BATCH, SAMPLES, Sample, arrays_of, float_inputs, graph_of, name_of

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph.op import Op
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.ops import OPS
from compiler.ops.control import CustomGradient, StopGradient
from compiler.ops.elementwise import Abs, Divide, Maximum, Minimum, Multiply, Symbolic, Where
from compiler.ops.mathematics import Exp, Log, Power, Sigmoid, Sqrt
from compiler.ops.reduction import Max, Min, Sum
from compiler.ops.sources import Constant
from compiler.types import DType, TensorType, at_batch

# These do not have the gradient of their values.
STEERING = (StopGradient, CustomGradient)
DIFFERENTIABLE = [
    sample
    for sample in SAMPLES
    if any(t.dtype.is_float for t in sample.operands)
    and all(t.dtype.is_float for t in sample.op.result_types(sample.operands))
    and not isinstance(sample.op, STEERING)
    and not {DType.BF16, DType.F16} & {t.dtype for t in (*sample.operands, *sample.op.result_types(sample.operands))}
]


def wide_arrays(sample: Sample) -> dict[str, np.ndarray]:
    arrays = arrays_of(sample, seed=4)
    return {f"x{i}": array.astype("f8") if array.dtype.kind == "f" else array for i, array in enumerate(arrays)}


def test_ops_without_a_tested_gradient_are_these() -> None:
    untested = {op.name for op in OPS} - {sample.op.name for sample in DIFFERENTIABLE}
    sources = {"constant", "iota", "batch_size", "random_uniform"}
    discrete = {"not", "and", "or", "eq", "ne", "lt", "le", "argmax", "threefry"}
    assert untested == sources | discrete | {"stop_gradient", "custom_gradient"}


@pytest.mark.parametrize("sample", DIFFERENTIABLE, ids=name_of)
def test_gradient(sample: Sample) -> None:
    graph = to_dtype(graph_of(sample), DType.F64)
    for output in graph.outputs:
        assert_gradients(graph, output.name, float_inputs(graph), wide_arrays(sample), BATCH)


SMOOTH = [sample for sample in DIFFERENTIABLE if sample.op.name not in ("floor", "floordiv")]


@pytest.mark.parametrize("sample", SMOOTH, ids=name_of)
def test_gradient_of_the_gradient(sample: Sample) -> None:
    graph, arrays = to_dtype(graph_of(sample), DType.F64), wide_arrays(sample)
    names = float_inputs(graph)
    for output in graph.outputs:
        first = _with_own_names(gradient_graph(graph, output.name, names))
        shape = at_batch(output.value.type.shape, BATCH)
        given = {**arrays, "dy": np.random.default_rng(2).normal(size=shape)}
        for slope in first.outputs[1:]:
            assert_gradients(first, slope.name, [*names, "dy"], given, BATCH)


def _with_own_names(graph: Graph) -> Graph:
    """The gradient graph under names that its own gradient does not take: `dy`, and `slope of x`."""
    renamed = {"cotangent": "dy"}
    inputs = tuple(replace(entry, name=renamed.get(entry.name, entry.name)) for entry in graph.inputs)
    outputs = tuple(replace(output, name=output.name.replace("d ", "slope of ")) for output in graph.outputs)
    return replace(graph, inputs=inputs, outputs=outputs)


def slopes(op: Op, *operands: float | list[float], constants: tuple[int, ...] = ()) -> list[np.ndarray]:
    """The gradient of the sum of op(operands) for each operand; those in `constants` are constants of the graph."""
    builder = GraphBuilder("slope")
    values: list[Value] = []
    for i, operand in enumerate(operands):
        if i in constants:
            assert isinstance(operand, float)
            values.append(builder.emit(Constant(operand, DType.F64)))
        else:
            values.append(builder.input(f"x{i}", Role.DATA, TensorType(DType.F64, np.shape(operand))))
    builder.output("y", Role.OUTPUT, builder.emit(op, *values))
    graph = builder.build()
    names = float_inputs(graph)
    arrays = {name: np.asarray(operands[int(name[1:])], "f8") for name in names}
    cotangent = np.ones([int(str(e)) for e in graph.output("y").value.type.shape])
    return gradients(graph, "y", names, arrays, cotangent)


@pytest.mark.parametrize(
    ("op", "operands", "expected"),
    [
        (Abs(), [[-2.0, 0.0, 3.0]], [[-1.0, 0.0, 1.0]]),
        (Maximum(), [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]], [[0.0, 0.5, 1.0], [1.0, 0.5, 0.0]]),
        (Minimum(), [[1.0, 2.0, 3.0], [2.0, 2.0, 2.0]], [[1.0, 0.5, 0.0], [0.0, 0.5, 1.0]]),
        (Max((0,)), [[1.0, 3.0, 3.0]], [[0.0, 0.5, 0.5]]),
        (Min((0,)), [[1.0, 1.0, 3.0, 1.0]], [[1 / 3, 1 / 3, 0.0, 1 / 3]]),
        (Sigmoid(), [[-800.0, 0.0, 800.0]], [[0.0, 0.25, 0.0]]),
        (Power(), [0.0, 2.0], [0.0, 0.0]),
        (Power(), [0.0, 1.0], [1.0, 0.0]),
        (Power(), [0.0, 0.0], [0.0, 0.0]),
        (Power(), [3.0, 0.0], [0.0, math.log(3.0)]),
    ],
    ids=str,
)
def test_gradient_where_rules_go_wrong(op: Op, operands: list[list[float]], expected: list[list[float]]) -> None:
    for found, wanted in zip(slopes(op, *operands), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-12)


@pytest.mark.parametrize(
    ("base", "exponent", "expected"),
    [(-2.0, 2.0, -4.0), (-2.0, 3.0, 12.0), (0.0, 1.0, 1.0), (0.0, 0.0, 0.0), (-2.0, -1.0, -0.25), (4.0, 0.5, 0.25)],
)
def test_power_of_a_constant_exponent_needs_no_logarithm(base: float, exponent: float, expected: float) -> None:
    (found,) = slopes(Power(), base, exponent, constants=(1,))
    assert found == pytest.approx(expected)


def test_the_branch_that_is_not_taken_gives_no_nan() -> None:
    builder = GraphBuilder("guarded")
    x = builder.input("x", Role.DATA, TensorType(DType.F64, (3,)))
    zero = Symbolic(builder, x).zeros()
    is_positive = zero.less(Symbolic(builder, x)).value
    builder.output("y", Role.OUTPUT, builder.emit(Where(), is_positive, x, builder.emit(Multiply(), x, zero.value)))
    (found,) = gradients(builder.build(), "y", ["x"], {"x": np.array([-1.0, 2.0, np.inf])}, np.ones(3))
    np.testing.assert_array_equal(found, [0.0, 1.0, 1.0])


def test_stop_gradient_and_custom_gradient_decide_what_flows() -> None:
    type_ = TensorType(DType.F64, (2,))
    rule = GraphBuilder("tenfold")
    rule.input("x", Role.DATA, type_)
    rule.input("y", Role.DATA, type_)
    rule.output("d0", Role.OUTPUT, (Symbolic(rule, rule.input("dy", Role.DATA, type_)) * 10.0).value)
    builder = GraphBuilder("steered")
    x = builder.input("x", Role.DATA, type_)
    body = builder.emit(Sqrt(), builder.emit(StopGradient(), x))
    (y,) = builder.emit_all(CustomGradient(rule.build(), 1), x, body)
    builder.output("y", Role.OUTPUT, y)
    (found,) = gradients(builder.build(), "y", ["x"], {"x": np.array([4.0, 9.0])}, np.array([1.0, 2.0]))
    np.testing.assert_array_equal(found, [10.0, 20.0])


def test_a_value_used_twice_gathers_both_cotangents_and_unused_ones_none() -> None:
    builder = GraphBuilder("twice")
    x, unused = (builder.input(name, Role.DATA, TensorType(DType.F64)) for name in ("x", "unused"))
    term = Symbolic(builder, x)
    builder.output("y", Role.OUTPUT, (term * term + term * 3.0).value)
    graph = builder.build()
    (found,) = gradients(graph, "y", ["x"], {"x": np.array(2.0)}, np.array(1.0))
    assert found == 7.0
    assert [o.name for o in gradient_graph(graph, "y", ["x", "unused"]).outputs] == ["y", "d x"]
    assert unused.type == x.type


def test_third_derivative() -> None:
    builder = GraphBuilder("cube")
    x = builder.input("x", Role.DATA, TensorType(DType.F64))
    builder.output("y", Role.OUTPUT, Symbolic(builder, x).apply(Power(), 3.0).value)
    graph, name = builder.build(), "y"
    given = {"x": np.array(1.5)}
    for expected in (3 * 1.5**2, 6 * 1.5, 6.0):
        (found,) = gradients(graph, name, ["x"], given, np.array(1.0))
        assert found == pytest.approx(expected)
        graph, name = _closed(gradient_graph(graph, name, ["x"])), "d x"


def _closed(graph: Graph) -> Graph:
    """The gradient graph with its cotangent set to 1."""
    builder = GraphBuilder("closed")
    x = builder.input("x", Role.DATA, TensorType(DType.F64))
    results = builder.inline(graph, [x, builder.emit(Constant(1.0, DType.F64))])
    builder.output("d x", Role.OUTPUT, results["d x"])
    return builder.build()


def test_a_gradient_that_uses_the_result_has_a_gradient() -> None:
    """exp with the clause y * dy, whose body lets no cotangent through: each derivative is exp again."""
    type_ = TensorType(DType.F64)
    rule = GraphBuilder("own")
    rule.input("x", Role.DATA, type_)
    y, dy = rule.input("y", Role.DATA, type_), rule.input("dy", Role.DATA, type_)
    rule.output("d0", Role.OUTPUT, rule.emit(Multiply(), y, dy))
    builder = GraphBuilder("exp")
    x = builder.input("x", Role.DATA, type_)
    body = builder.emit(Exp(), builder.emit(StopGradient(), x))
    builder.output("y", Role.OUTPUT, builder.emit(CustomGradient(rule.build(), 1), x, body))
    graph, name = builder.build(), "y"
    for _ in range(3):
        (found,) = gradients(graph, name, ["x"], {"x": np.array(0.7)}, np.array(1.0))
        assert found == pytest.approx(math.exp(0.7))
        graph, name = _closed(gradient_graph(graph, name, ["x"])), "d x"


def test_log_of_a_quotient_at_extremes() -> None:
    (found,) = slopes(Log(), [1e-300, 1e300])
    np.testing.assert_allclose(found, [1e300, 1e-300])
    a, b = slopes(Divide(), [1.0], [1e-160])
    assert np.isfinite(a).all()
    assert np.isneginf(b).all()
    (total,) = slopes(Sum((0,)), [np.inf, 1.0])
    np.testing.assert_array_equal(total, [1.0, 1.0])
