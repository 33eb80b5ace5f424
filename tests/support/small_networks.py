"""The usual parts of a network as small graphs, with gradients on demand."""

from __future__ import annotations

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph.op import Op
from compiler.ops.autodiff import gradients_of
from compiler.ops.contraction import Contraction
from compiler.ops.control import StopGradient
from compiler.ops.elementwise import Add, Divide, Maximum, Multiply, Negate, Subtract
from compiler.ops.indexing import Gather
from compiler.ops.mathematics import Exp, Log, Rsqrt, Tanh
from compiler.ops.movement import Broadcast, Reshape, Transpose
from compiler.ops.reduction import Max, Moments, Sum
from compiler.ops.sources import Constant
from compiler.pipeline import optimise_graph
from compiler.types import BatchExtent, DType, Extent, TensorType

BATCH = BatchExtent()


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
