"""How many kernels the usual parts of a network become, and what those kernels are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from comparisons import Array, assert_same_outputs

from compiler.autodiff import gradients_of
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph.op import Op
from compiler.loops.ir import Compute, Kernel, Reduce, Store, Walk
from compiler.loops.printer import print_kernel
from compiler.ops.contraction import Contraction
from compiler.ops.control import StopGradient
from compiler.ops.elementwise import Add, Divide, Exp, Log, Maximum, Multiply, Negate, Rsqrt, Subtract, Tanh
from compiler.ops.indexing import Gather
from compiler.ops.movement import Broadcast, Reshape, Transpose
from compiler.ops.reduction import Max, Moments, Sum
from compiler.ops.sources import Constant
from compiler.pipeline import optimise_graph
from compiler.schedule.build import schedule
from compiler.schedule.interpreter import run_schedule
from compiler.schedule.ir import Schedule
from compiler.schedule.printer import print_schedule
from compiler.targets.reference.evaluate import evaluate
from compiler.types import BatchExtent, DType, Extent, TensorType, at_batch

BATCH = BatchExtent()
TRANSFERS = (Walk.FETCH, Walk.COLLECT)


class Network:
    """A small graph in the making, with gradients of a loss on demand."""

    def __init__(self, name: str) -> None:
        self.builder = GraphBuilder(name)

    def data(self, name: str, *shape: Extent, dtype: DType = DType.F32) -> Value:
        return self.builder.input(name, Role.DATA, TensorType(dtype, shape))

    def parameter(self, name: str, *shape: Extent) -> Value:
        return self.builder.input(name, Role.PARAMETER, TensorType(DType.F32, shape))

    def emit(self, op: Op, *operands: Value) -> Value:
        return self.builder.emit(op, *operands)

    def spread(self, value: Value, like: Value, *axes: int) -> Value:
        return self.emit(Broadcast(like.type.shape, axes), value)

    def number(self, number: float, like: Value) -> Value:
        constant = self.emit(Constant(number, DType.F32))
        return self.spread(constant, like) if like.type.rank else constant

    def dense(self, x: Value, weight: Value, bias: Value) -> Value:
        y = self.emit(Contraction((0, 1), (1, 2), (0, 2)), x, weight)
        return self.emit(Add(), y, self.spread(bias, y, 1))

    def relu(self, x: Value) -> Value:
        return self.emit(Maximum(), x, self.number(0.0, x))

    def cross_entropy(self, logits: Value, labels: Value) -> Value:
        """The sum over the batch of log(sum(exp(logits))) - logits[label], with the maximum taken out."""
        top = self.emit(Max((1,)), logits)
        shifted = self.emit(Subtract(), logits, self.spread(self.emit(StopGradient(), top), logits, 0))
        total = self.emit(Log(), self.emit(Sum((1,)), self.emit(Exp(), shifted)))
        rows = self.emit(Multiply(), shifted, labels)
        return self.emit(Sum((0,)), self.emit(Subtract(), total, self.emit(Sum((1,)), rows)))

    def gradients(self, loss: Value, *wanted: Value) -> list[Value]:
        found = gradients_of(self.builder, tuple(self.builder.nodes), loss, list(wanted))
        assert all(found)
        return [value for value in found if value is not None]

    def graph(self, **outputs: Value) -> Graph:
        for name, value in outputs.items():
            self.builder.output(name, Role.OUTPUT, value)
        return optimise_graph(self.builder.build(), verify=True)


def softmax_cross_entropy() -> Graph:
    net = Network("softmax cross-entropy, forward and backward")
    logits = net.data("logits", BATCH, 10)
    loss = net.cross_entropy(logits, net.data("labels", BATCH, 10))
    (slope,) = net.gradients(loss, logits)
    return net.graph(loss=loss, slope=slope)


def dense_relu() -> Graph:
    net = Network("dense and relu, forward")
    x = net.data("x", BATCH, 64)
    return net.graph(y=net.relu(net.dense(x, net.parameter("w", 64, 32), net.parameter("b", 32))))


def dense_backward() -> Graph:
    net = Network("dense and relu, forward and backward")
    x, w, b = net.data("x", BATCH, 64), net.parameter("w", 64, 32), net.parameter("b", 32)
    y = net.relu(net.dense(x, w, b))
    loss = net.emit(Sum((0, 1)), net.emit(Multiply(), y, net.data("slope", BATCH, 32)))
    slopes = net.gradients(loss, x, w, b)
    return net.graph(x=slopes[0], w=slopes[1], b=slopes[2])


def layer_norm() -> Graph:
    net = Network("layer norm, forward")
    x, scale, shift = net.data("x", BATCH, 48), net.parameter("scale", 48), net.parameter("shift", 48)
    mean, variance = net.builder.emit_all(Moments((1,)), x)
    inverse = net.emit(Rsqrt(), net.emit(Add(), variance, net.number(1e-5, variance)))
    centred = net.emit(Subtract(), x, net.spread(mean, x, 0))
    normal = net.emit(Multiply(), centred, net.spread(inverse, x, 0))
    scaled = net.emit(Multiply(), normal, net.spread(scale, x, 1))
    return net.graph(y=net.emit(Add(), scaled, net.spread(shift, x, 1)))


def layer_norm_backward() -> Graph:
    net = Network("layer norm, forward and backward")
    x = net.data("x", BATCH, 48)
    mean, variance = net.builder.emit_all(Moments((1,)), x)
    inverse = net.emit(Rsqrt(), net.emit(Add(), variance, net.number(1e-5, variance)))
    normal = net.emit(Multiply(), net.emit(Subtract(), x, net.spread(mean, x, 0)), net.spread(inverse, x, 0))
    loss = net.emit(Sum((0, 1)), net.emit(Multiply(), normal, net.data("slope", BATCH, 48)))
    (slope,) = net.gradients(loss, x)
    return net.graph(slope=slope)


def elementwise_chain() -> Graph:
    net = Network("elementwise chain through views")
    x = net.data("x", BATCH, 4, 6)
    y = net.emit(Tanh(), net.emit(Reshape((BATCH, 24)), net.emit(Transpose((0, 2, 1)), x)))
    return net.graph(y=net.emit(Negate(), net.emit(Exp(), y)))


def column_sums() -> Graph:
    net = Network("sums over the batch with what makes and uses them")
    x = net.data("x", BATCH, 20)
    total = net.emit(Sum((0,)), net.emit(Multiply(), x, x))
    return net.graph(y=net.emit(Divide(), total, net.number(3.0, total)))


def embedding() -> Graph:
    net = Network("rows of a table, scaled")
    rows = net.emit(Gather(0), net.parameter("table", 50, 16), net.data("i", BATCH, 7, dtype=DType.I32))
    return net.graph(y=net.emit(Multiply(), rows, net.number(4.0, rows)))


ROWS, COLUMNS, TILES = Walk.ROWS, Walk.COLUMNS, Walk.TILES

# The walks of the kernels, without the transfers of inputs and results, and the values that these kernels store.
EXPECTED: list[tuple[Callable[[], Graph], list[Walk], int]] = [
    (softmax_cross_entropy, [ROWS, ROWS], 3),  # the second is the sum of the losses over the batch
    (dense_relu, [TILES], 1),
    (dense_backward, [TILES, COLUMNS, TILES, TILES], 4),
    (layer_norm, [ROWS], 1),
    (layer_norm_backward, [ROWS], 1),
    (elementwise_chain, [ROWS], 1),
    (column_sums, [COLUMNS], 1),
    (embedding, [ROWS], 1),
]


def kernels(plan: Schedule) -> list[Kernel]:
    return [i.kernel for i in plan.instances if i.kernel.walk not in TRANSFERS]


def inputs_of(graph: Graph, batch: int) -> dict[str, Array]:
    random = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for entry in graph.inputs:
        shape = at_batch(entry.value.type.shape, batch)
        is_index = entry.value.type.dtype is DType.I32
        found[entry.name] = (
            random.integers(0, 50, shape).astype("i4") if is_index else random.normal(size=shape).astype("f4")
        )
    return found


@pytest.mark.parametrize(("make", "walks", "stores"), EXPECTED, ids=[make.__name__ for make, _, _ in EXPECTED])
def test_kernels(make: Callable[[], Graph], walks: list[Walk], stores: int) -> None:
    graph = make()
    plan, plain = schedule(graph), schedule(graph, False)
    assert [k.walk for k in kernels(plan)] == walks, print_schedule(plan)
    instructions = [i for k in kernels(plan) for s in k.stages for i in (*s.body, *s.after)]
    assert sum(isinstance(i, Store) for i in instructions) == stores
    assert len(kernels(plain)) > len(walks)
    inputs = inputs_of(graph, 5)
    expected = evaluate(graph, inputs, 5)
    assert_same_outputs({name: run_schedule(plan, inputs, 5)[name] for name in expected}, expected)


def test_unfused_kernels_hold_one_operation_each() -> None:
    plan = schedule(layer_norm_backward(), False)
    for kernel in kernels(plan):
        instructions = [i for s in kernel.stages for i in (*s.body, *s.after)]
        assert sum(isinstance(i, Compute | Reduce) for i in instructions) <= 1, print_kernel(kernel)


def test_long_rows_go_through_scratch_where_a_value_is_costly() -> None:
    net = Network("softmax of long rows")
    x = net.data("x", BATCH, 1000)
    powers = net.emit(Exp(), x)
    total = net.emit(Sum((1,)), powers)
    (kernel,) = kernels(schedule(net.graph(y=net.emit(Divide(), powers, net.spread(total, x, 0)))))
    (scratch,) = [b for b in kernel.buffers if b.is_scratch]
    assert scratch.elements == 1000
    names = [i.op.name for s in kernel.stages for i in s.body if isinstance(i, Compute)]
    assert names.count("exp") == 1, print_kernel(kernel)


def test_a_product_needs_its_operands_complete() -> None:
    net = Network("two products with a function between")
    x = net.data("x", BATCH, 8)
    hidden = net.emit(Tanh(), net.dense(x, net.parameter("w", 8, 8), net.parameter("b", 8)))
    plan = schedule(net.graph(y=net.dense(hidden, net.parameter("v", 8, 8), net.parameter("c", 8))))
    assert [k.walk for k in kernels(plan)] == [TILES, TILES], print_schedule(plan)


def test_a_reduction_of_a_product_is_its_own_kernel() -> None:
    net = Network("sum of a product")
    y = net.emit(Contraction((0, 1), (1, 2), (0, 2)), net.data("x", BATCH, 8), net.parameter("w", 8, 8))
    plan = schedule(net.graph(y=net.emit(Max((1,)), y)))
    assert [k.walk for k in kernels(plan)] == [TILES, ROWS], print_schedule(plan)


def test_a_value_that_lies_elsewhere_is_not_fused() -> None:
    """A transposed result of a reduction is no value of the reader's own row or column."""
    net = Network("outer sum")
    x = net.data("x", 6, 6)
    rows = net.emit(Sum((1,)), x)
    plan = schedule(net.graph(y=net.emit(Add(), x, net.spread(rows, x, 1))))
    assert len(kernels(plan)) == 2, print_schedule(plan)
