"""Graphs with scans of every kind, as builders of the forward pass; all inputs are data."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.ops.build import filled, spread
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Add, Cast, Less, Multiply, Symbolic, Where
from compiler.ops.indexing import Gather
from compiler.ops.mathematics import Sigmoid, Tanh
from compiler.ops.movement import Broadcast, Concat, Slice, Transpose
from compiler.ops.reduction import Sum
from compiler.ops.scan import Scan, scan_body
from compiler.ops.sources import Constant, Iota, RandomUniform
from compiler.types import BatchExtent, DType, Extent, TensorType

BATCH = BatchExtent()
STEPS = 5


def f32(*shape: Extent) -> TensorType:
    return TensorType(DType.F32, shape)


class Recurrence:
    """A scan under construction, in the builder of the graph around it."""

    def __init__(self, builder: GraphBuilder, xs: Sequence[Value], starts: Sequence[Value]) -> None:
        self.builder, self.xs, self.starts = builder, xs, starts
        self.elements = [builder.value(TensorType(x.type.dtype, x.type.shape[1:])) for x in xs]
        self.carries = [builder.value(start.type) for start in starts]
        self.first = len(builder.nodes)

    def finish(
        self,
        carries: Sequence[Value],
        emitted: Sequence[Value],
        steps: int = STEPS,
        reverse: bool = False,
        level: int = 0,
    ) -> tuple[Value, ...]:
        """The results of the scan whose body was appended since it was begun."""
        nodes = self.builder.nodes[self.first :]
        del self.builder.nodes[self.first :]
        inside = {v.index for v in (*self.elements, *self.carries)} | {r.index for n in nodes for r in n.results}
        outputs = (*carries, *emitted)
        read = (*(o for n in nodes for o in n.operands), *outputs)
        captures = list({v.index: v for v in read if v.index not in inside}.values())
        body = scan_body((*self.elements, *self.carries, *captures), nodes, outputs)
        op = Scan(body, len(self.xs), len(self.carries), steps, reverse, level)
        return self.builder.emit_all(op, *self.xs, *self.starts, *captures)


def matrix(builder: GraphBuilder, left: Value, right: Value) -> Value:
    return builder.emit(Contraction((0, 1), (1, 2), (0, 2)), left, right)


def lstm(builder: GraphBuilder) -> list[Value]:
    units = 16
    x = builder.input("x", Role.DATA, f32(BATCH, STEPS, 6))
    weights, recurrent = (builder.input(n, Role.DATA, f32(k, 4 * units)) for n, k in (("w", 6), ("u", units)))
    bias = builder.input("b", Role.DATA, f32(4 * units))
    zeros = filled(builder, 0, f32(BATCH, units))
    loop = Recurrence(builder, [builder.emit(Transpose((1, 0, 2)), x)], [zeros, zeros])
    (xt,), (h, c) = loop.elements, loop.carries
    z = builder.emit(Add(), matrix(builder, xt, weights), matrix(builder, h, recurrent))
    z = builder.emit(Add(), z, builder.emit(Broadcast((BATCH, 4 * units), (1,)), bias))
    gates = [builder.emit(Slice((0, k * units), (BATCH, units), (1, 1)), z) for k in range(4)]
    f, i, g, o = (Symbolic(builder, builder.emit(Tanh() if k == 2 else Sigmoid(), v)) for k, v in enumerate(gates))
    moved = f * Symbolic(builder, c) + i * g
    out = (o * moved.apply(Tanh())).value
    return list(loop.finish((out, moved.value), (out,)))


def swapped_carries(builder: GraphBuilder) -> list[Value]:
    """Fibonacci: a, b = b, a + b."""
    x = builder.input("x", Role.DATA, f32(STEPS, BATCH, 3))
    ones, twos = (filled(builder, k, f32(BATCH, 3)) for k in (1, 2))
    loop = Recurrence(builder, [x], [ones, twos])
    a, b = loop.carries
    total = (Symbolic(builder, a) + Symbolic(builder, b)).value
    return list(loop.finish((b, total), (a, loop.elements[0])))


def backward(builder: GraphBuilder) -> list[Value]:
    """A running sum from the end, and the place of each step, without a batch."""
    x = builder.input("x", Role.DATA, f32(STEPS, 4))
    place = builder.emit(Iota((STEPS,), 0, DType.I32))
    loop = Recurrence(builder, [x, place], [filled(builder, 0, f32(4))])
    total = builder.emit(Add(), loop.carries[0], loop.elements[0])
    scaled = builder.emit(Cast(DType.F32), loop.elements[1])
    shown = builder.emit(Multiply(), total, builder.emit(Broadcast((4,), ()), scaled))
    return list(loop.finish((total,), (shown, loop.elements[1]), reverse=True))


def nested(builder: GraphBuilder) -> list[Value]:
    """Each row of a picture is read by a scan of its own, which begins where the row above ended."""
    x = builder.input("x", Role.DATA, f32(BATCH, STEPS, 3, 4))
    weights = builder.input("w", Role.DATA, f32(4, 4))
    rows = Recurrence(builder, [builder.emit(Transpose((1, 0, 2, 3)), x)], [filled(builder, 0, f32(BATCH, 4))])
    columns = Recurrence(builder, [builder.emit(Transpose((1, 0, 2)), rows.elements[0])], [rows.carries[0]])
    moved = builder.emit(Tanh(), builder.emit(Add(), columns.elements[0], matrix(builder, columns.carries[0], weights)))
    end, all_columns = columns.finish((moved,), (moved,), steps=3, level=1)
    return list(rows.finish((end,), (all_columns,)))


def random_draws(builder: GraphBuilder) -> list[Value]:
    """Noise that differs from step to step, in a scan inside a scan too."""
    seed, step = (
        builder.input("seed", Role.SEED, TensorType(DType.I64)),
        builder.input("t", Role.STEP, TensorType(DType.I64)),
    )
    outer = Recurrence(builder, [], [filled(builder, 0, f32(BATCH, 3))])
    inner = Recurrence(builder, [], [outer.carries[0]])
    drawn = builder.emit(RandomUniform((BATCH, 3), 11), seed, step)
    total = builder.emit(Add(), inner.carries[0], drawn)
    end, draws = inner.finish((total,), (drawn,), steps=2, level=1)
    own = builder.emit(RandomUniform((BATCH, 3), 12), seed, step)
    return list(outer.finish((builder.emit(Add(), end, own),), (draws, own), reverse=True))


def masked(builder: GraphBuilder) -> list[Value]:
    """Steps beyond a row's length keep their carry."""
    x = builder.input("x", Role.DATA, f32(BATCH, STEPS, 4))
    length = builder.input("n", Role.DATA, TensorType(DType.I32, (BATCH,)))
    weights = builder.input("w", Role.DATA, f32(4, 4))
    place = builder.emit(Iota((STEPS,), 0, DType.I32))
    loop = Recurrence(builder, [builder.emit(Transpose((1, 0, 2)), x), place], [filled(builder, 1, f32(BATCH, 4))])
    new = builder.emit(Tanh(), builder.emit(Add(), matrix(builder, loop.carries[0], weights), loop.elements[0]))
    goes_on = builder.emit(Less(), spread(builder, loop.elements[1], (BATCH,)), length)
    wide = builder.emit(Broadcast((BATCH, 4), (0,)), goes_on)
    kept = builder.emit(Where(), wide, new, loop.carries[0])
    return list(loop.finish((kept,), (kept, goes_on)))


def behind_the_loop(builder: GraphBuilder) -> list[Value]:
    """Products before, in and behind the recurrence; a table that steps look into; a number known outside."""
    ids = builder.input("ids", Role.DATA, TensorType(DType.I32, (BATCH, STEPS)))
    table, inner = builder.input("table", Role.DATA, f32(3, 4)), builder.input("u", Role.DATA, f32(4, 4))
    out, still = builder.input("v", Role.DATA, f32(4, 2)), builder.input("s", Role.DATA, f32(4, 4))
    half = builder.emit(Constant(0.5, DType.F32))
    loop = Recurrence(builder, [builder.emit(Transpose((1, 0)), ids)], [filled(builder, 0, f32(BATCH, 4))])
    x = builder.emit(Gather(0), table, loop.elements[0])
    square = matrix(builder, still, still)  # the same at each step
    z = builder.emit(Add(), matrix(builder, x, square), matrix(builder, loop.carries[0], inner))
    h = builder.emit(Multiply(), builder.emit(Tanh(), z), spread(builder, half, (BATCH, 4)))
    y = builder.emit(Tanh(), matrix(builder, h, out))
    both = builder.emit(Concat(1), y, builder.emit(Sum((1,)), builder.emit(Broadcast((BATCH, 3, 2), (0, 2)), y)))
    return list(loop.finish((h,), (both, x)))


def one_step(builder: GraphBuilder) -> list[Value]:
    x = builder.input("x", Role.DATA, f32(1, BATCH, 3))
    loop = Recurrence(builder, [x], [filled(builder, 2, f32(BATCH, 3))])
    product = builder.emit(Multiply(), loop.elements[0], loop.carries[0])
    return list(loop.finish((product,), (loop.carries[0],), steps=1))


SCANS: tuple[Callable[[GraphBuilder], list[Value]], ...] = (
    lstm,
    swapped_carries,
    backward,
    nested,
    random_draws,
    masked,
    behind_the_loop,
    one_step,
)


def scan_graph(make: Callable[[GraphBuilder], list[Value]]) -> Graph:
    """The forward pass with its results as outputs."""
    builder = GraphBuilder(make.__name__)
    for number, value in enumerate(make(builder)):
        builder.output(f"y{number}", Role.OUTPUT, value)
    return builder.build()
