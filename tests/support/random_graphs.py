"""Random well-typed graphs with static and batch extents, and inputs for them: meaning must survive every stage.

Magnitudes stay moderate, and comparisons have a random tensor on one side, so that no rounding decides a branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.graph.op import Op
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import (
    Abs,
    Add,
    And,
    Cast,
    Divide,
    Equal,
    Less,
    LessEqual,
    Maximum,
    Minimum,
    Multiply,
    Negate,
    Not,
    Or,
    Subtract,
    Where,
)
from compiler.ops.indexing import Gather, ScatterAdd
from compiler.ops.mathematics import Cos, Erf, Exp, Log, Power, Sigmoid, Sin, Sqrt, Tanh
from compiler.ops.movement import Broadcast, Concat, Pad, Reshape, Reverse, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.sources import Constant, Iota
from compiler.ops.window import Fold, Window
from compiler.types import BatchExtent, DType, Extent, Shape, TensorType, at_batch, elements, static_elements

Array: TypeAlias = np.ndarray[Any, Any]

BATCH = BatchExtent()
_INPUTS: tuple[Shape, ...] = ((BATCH, 3), (3, 4), (4,), (BATCH,), (2, BATCH, 4), (BATCH, 1, 3), (3, 3))
_CONSTANTS = (0.0, 1.0, -1.0, 2.0, 0.5, -0.25, 3.0)
_LARGEST = 400


def random_graph(seed: int, size: int) -> tuple[Graph, dict[str, Array], int]:
    """A graph of f32 with about `size` random steps (a few nodes each), its inputs, and the batch they are for."""
    maker = _Maker(seed)
    for _ in range(size):
        maker.step()
    return maker.finish()


class _Maker:
    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.batch = int(self.random.integers(1, 6))
        self.builder = GraphBuilder(f"random {seed}")
        self.inputs: dict[str, Array] = {}
        self.leaves = [self.leaf(shape) for shape in _INPUTS]
        self.floats = list(self.leaves)
        self.steps: tuple[Callable[[], Value | None], ...] = (
            *[self.unary] * 4,
            *[self.binary] * 6,
            self.choice,
            self.again,
            *[self.reduction] * 2,
            self.normalised,
            *[self.movement] * 4,
            self.piece,
            *[self.windows] * 2,
            self.joined,
            *[self.contraction] * 3,
            self.gathered,
            self.positions,
        )

    def pick(self, options: Any) -> Any:
        return options[int(self.random.integers(len(options)))]

    def leaf(self, shape: Shape) -> Value:
        name = f"x{len(self.inputs)}"
        self.inputs[name] = self.random.uniform(-1.5, 1.5, at_batch(shape, self.batch)).astype(np.float32)
        return self.builder.input(name, Role.DATA, TensorType(DType.F32, shape))

    def indices(self, shape: Shape, high: int) -> Value:
        name = f"i{len(self.inputs)}"
        self.inputs[name] = self.random.integers(0, high, at_batch(shape, self.batch)).astype(np.int32)
        return self.builder.input(name, Role.DATA, TensorType(DType.I32, shape))

    def emit(self, op: Op, *operands: Value) -> Value:
        return self.builder.emit(op, *operands)

    def constant(self, number: float, shape: Shape) -> Value:
        scalar = self.emit(Constant(number, DType.F32))
        return self.emit(Broadcast(shape, ()), scalar) if shape else scalar

    def any(self) -> Value:
        """A value, the latest ones more often."""
        recent = self.floats[-8:] if self.random.random() < 0.6 else self.floats
        return self.pick(recent)

    def step(self) -> None:
        value = self.pick(self.steps)()
        if value is None or static_elements(value.type.shape) > _LARGEST:
            return
        if value.type.dtype is not DType.F32:
            value = self.emit(Cast(DType.F32), value)
        self.floats.append(value)

    def finish(self) -> tuple[Graph, dict[str, Array], int]:
        chosen = [*self.floats[-2:], *(self.any() for _ in range(3))]
        for position, value in enumerate(chosen):
            self.builder.output(f"y{position}", Role.OUTPUT, value)
        graph = self.builder.build()
        return graph, self.inputs, self.batch

    def unary(self) -> Value:
        x = self.any()
        positive = self.pick((Log, Sqrt, None, None))
        if positive is not None:
            return self.emit(positive(), self.emit(Add(), self.emit(Abs(), x), self.constant(0.5, x.type.shape)))
        if self.random.random() < 0.2:
            return self.emit(Exp(), self.emit(Tanh(), x))
        return self.emit(self.pick((Negate, Tanh, Sigmoid, Erf, Sin, Cos, Abs))(), x)

    def pair(self) -> tuple[Value, Value]:
        """Two values brought to one shape: by chance constants, equals, or broadcast against each other."""
        a = self.any()
        chance = self.random.random()
        if chance < 0.2:
            return a, self.constant(self.pick(_CONSTANTS), a.type.shape)
        partners = [b for b in self.floats if b.type == a.type]
        if chance < 0.5:
            return a, self.pick(partners)
        for _ in range(4):
            b = self.any()
            shape = _common(a.type.shape, b.type.shape)
            if shape is not None:
                return self.spread(a, shape), self.spread(b, shape)
        return a, self.pick(partners)

    def spread(self, x: Value, shape: Shape) -> Value:
        missing = len(shape) - x.type.rank
        return x if x.type.shape == shape else self.emit(Broadcast(shape, tuple(range(missing, len(shape)))), x)

    def binary(self) -> Value:
        a, b = self.pair()
        kind = self.pick(("plain", "plain", "plain", "divide", "power"))
        if kind == "plain":
            return self.emit(self.pick((Add, Subtract, Multiply, Maximum, Minimum))(), a, b)
        safe = self.emit(Add(), self.emit(Abs(), b), self.constant(0.5, b.type.shape))
        if kind == "divide":
            return self.emit(Divide(), a, safe)
        exponent = self.constant(self.pick((2.0, 0.5, -1.0, 3.0, 1.0, -0.5, 1.5)), b.type.shape)
        return self.emit(Power(), safe, exponent)

    def condition(self, shape: Shape) -> Value:
        fresh = self.leaf(shape)
        other = self.pick([x for x in self.floats if x.type.shape == shape] or [self.constant(0.3, shape)])
        return self.emit(self.pick((Less, LessEqual))(), fresh, other)

    def choice(self) -> Value:
        a, b = self.pair()
        condition = self.condition(a.type.shape)
        if self.random.random() < 0.4:
            condition = self.emit(self.pick((And, Or))(), condition, self.emit(Not(), self.condition(a.type.shape)))
        return self.emit(Where(), condition, a, b)

    def again(self) -> Value:
        """A node that is there already, emitted a second time."""
        node = self.pick(self.builder.nodes or [None])
        if node is None or len(node.results) > 1 or node.results[0].type.dtype is not DType.F32:
            return self.any()
        return self.emit(node.op, *node.operands)

    def some_axes(self, x: Value) -> tuple[int, ...]:
        chosen = [axis for axis in range(x.type.rank) if self.random.random() < 0.5]
        return tuple(chosen or [self.pick(range(x.type.rank))])

    def reduction(self) -> Value | None:
        x = self.any()
        if x.type.rank == 0:
            return None
        axes = self.some_axes(x)
        match self.pick(("sum", "sum", "max", "min", "moments", "argmax", "cumsum")):
            case "sum":
                return self.emit(Sum(axes), x)
            case "max":
                return self.emit(Max(axes), x)
            case "min":
                return self.emit(Min(axes), x)
            case "moments":
                return self.pick(self.builder.emit_all(Moments(axes), x))
            case "argmax":
                return self.emit(ArgMax(axes[0]), self.emit(Add(), x, self.leaf(x.type.shape)))
            case _:
                return self.emit(CumulativeSum(axes[0], bool(self.random.integers(2))), x)

    def normalised(self) -> Value | None:
        """(x - mean) / sqrt(variance + 1), the mean and variance written with sums."""
        x = self.any()
        axes = self.some_axes(x) if x.type.rank else ()
        if not axes or isinstance(elements(tuple(x.type.shape[a] for a in axes)), BatchExtent):
            return None
        count = float(static_elements(tuple(x.type.shape[a] for a in axes)))
        kept = tuple(a for a in range(x.type.rank) if a not in axes)

        def mean(value: Value) -> Value:
            total = self.emit(Sum(axes), value)
            return self.emit(Divide(), total, self.constant(count, total.type.shape))

        centred = self.emit(Subtract(), x, self.emit(Broadcast(x.type.shape, kept), mean(x)))
        variance = mean(self.emit(Power(), centred, self.constant(2.0, x.type.shape)))
        deviation = self.emit(Sqrt(), self.emit(Add(), variance, self.constant(1.0, variance.type.shape)))
        return self.emit(Divide(), centred, self.emit(Broadcast(x.type.shape, kept), deviation))

    def movement(self) -> Value | None:
        x = self.any()
        rank, shape = x.type.rank, x.type.shape
        match self.pick(("transpose", "unit", "drop", "reshape", "reverse", "broadcast")):
            case "transpose":
                return self.emit(Transpose(tuple(int(a) for a in self.random.permutation(rank))), x)
            case "unit" if rank < 4:
                place = int(self.random.integers(rank + 1))
                return self.emit(Reshape((*shape[:place], 1, *shape[place:])), x)
            case "drop":
                return self.emit(Reshape(tuple(extent for extent in shape if extent != 1)), x)
            case "reshape" if rank > 1:
                place = int(self.random.integers(rank - 1))
                return self.emit(Reshape((*shape[:place], elements(shape[place : place + 2]), *shape[place + 2 :])), x)
            case "reverse" if rank:
                return self.emit(Reverse(self.some_axes(x)), x)
            case "broadcast" if rank < 3:
                place = int(self.random.integers(rank + 1))
                axes = tuple(a + (a >= place) for a in range(rank))
                return self.emit(Broadcast((*shape[:place], self.pick((1, 2, 3)), *shape[place:]), axes), x)
            case _:
                return None

    def piece(self) -> Value | None:
        """A slice or a pad along one static axis."""
        x = self.any()
        static = [axis for axis, extent in enumerate(x.type.shape) if isinstance(extent, int)]
        if not static:
            return None
        axis, rank = self.pick(static), x.type.rank
        extent = x.type.shape[axis]
        assert isinstance(extent, int)
        if self.random.random() < 0.4:
            low, high = (tuple(int(w) if i == axis else 0 for i in range(rank)) for w in self.random.integers(0, 3, 2))
            return self.emit(Pad(low, high, self.pick((0.0, 1.5))), x)
        start, step = int(self.random.integers(extent)), int(self.random.integers(1, 3))
        most = (extent - start + step - 1) // step
        size = int(self.random.integers(1, most + 1))
        starts = tuple(start if i == axis else 0 for i in range(rank))
        sizes = tuple(size if i == axis else e for i, e in enumerate(x.type.shape))
        return self.emit(Slice(starts, sizes, tuple(step if i == axis else 1 for i in range(rank))), x)

    def windows(self) -> Value | None:
        """Windows over one or two static axes, or what they give back when they are folded."""
        x = self.any()
        static = [axis for axis, extent in enumerate(x.type.shape) if isinstance(extent, int)]
        if not static or x.type.rank > 3:
            return None
        axes = tuple(static[-int(self.random.integers(1, 3)) :])
        extents = tuple(e for axis in axes if isinstance(e := x.type.shape[axis], int))
        sizes = tuple(int(self.random.integers(1, min(extent, 3) + 1)) for extent in extents)
        strides = tuple(int(s) for s in self.random.integers(1, 4, len(axes)))
        spans = zip(extents, sizes, strict=True)
        dilations = tuple(2 if 2 * size - 1 <= extent and self.random.random() < 0.3 else 1 for extent, size in spans)
        windows = self.emit(Window(axes, sizes, strides, dilations), x)
        taps = tuple(range(x.type.rank, windows.type.rank))
        match self.pick(("windows", "pool", "largest", "fold", "fold", "gradient")):
            case "windows":
                return windows
            case "pool":
                return self.emit(self.pick((Sum, Max, Min))(taps), self.emit(Tanh(), windows))
            case "largest":
                apart = (
                    self.emit(Add(), windows, self.leaf(windows.type.shape)) if self.random.random() < 0.3 else windows
                )
                flat = self.emit(Reshape((*windows.type.shape[: x.type.rank], math.prod(sizes))), apart)
                return self.emit(ArgMax(x.type.rank), flat)
            case "fold":
                scaled = self.emit(Tanh(), windows) if self.random.random() < 0.5 else windows
                return self.emit(Fold(axes, sizes, strides, dilations, extents), scaled)
            case _:  # as of a pool: to one tap of each window
                flat = (*windows.type.shape[: x.type.rank], math.prod(sizes))
                chosen = self.indices(flat[:-1], flat[-1])
                spread = self.emit(Broadcast(flat, tuple(range(x.type.rank))), chosen)
                is_chosen = self.emit(Equal(), self.emit(Iota(flat, x.type.rank, DType.I32)), spread)
                pooled = self.emit(Broadcast(flat, tuple(range(x.type.rank))), self.emit(Max(taps), windows))
                parts = self.emit(Where(), is_chosen, pooled, self.constant(0.0, flat))
                return self.emit(
                    Fold(axes, sizes, strides, dilations, extents), self.emit(Reshape(windows.type.shape), parts)
                )

    def joined(self) -> Value | None:
        x = self.any()
        static = [axis for axis, extent in enumerate(x.type.shape) if isinstance(extent, int)]
        if not static:
            return None
        axis = self.pick(static)
        fitting = [y for y in self.floats if _without(y.type.shape, axis) == _without(x.type.shape, axis)]
        fitting = [y for y in fitting if y.type.rank == x.type.rank and isinstance(y.type.shape[axis], int)]
        return self.emit(Concat(axis), x, self.pick(fitting))

    def contraction(self) -> Value | None:
        """A product of two values, pairing axes of equal extent by chance; lone axes stay."""
        a, b = self.any(), self.any()
        lhs = list(range(a.type.rank))
        rhs: list[int] = []
        for place, extent in enumerate(b.type.shape):
            equal = [label for label in lhs if a.type.shape[label] == extent and label not in rhs]
            needed = isinstance(extent, BatchExtent) and any(isinstance(e, BatchExtent) for e in a.type.shape)
            if needed and not equal:
                return None
            rhs.append(self.pick(equal) if equal and (needed or self.random.random() < 0.7) else 10 + place)
        shared = [label for label in rhs if label in lhs]
        kept = [label for label in shared if self.random.random() < 0.3]
        out = [label for label in dict.fromkeys((*lhs, *rhs)) if label not in shared or label in kept]
        if len(out) > 3:
            return None
        self.random.shuffle(out)
        # Bounded factors keep magnitudes moderate.
        return self.emit(Contraction(tuple(lhs), tuple(rhs), tuple(out)), self.emit(Tanh(), a), self.emit(Sin(), b))

    def gathered(self) -> Value | None:
        x = self.any()
        static = [axis for axis, extent in enumerate(x.type.shape) if isinstance(extent, int)]
        if not static or x.type.rank > 2:
            return None
        axis = self.pick(static)
        extent = x.type.shape[axis]
        assert isinstance(extent, int)
        has_batch = any(isinstance(e, BatchExtent) for e in x.type.shape)
        indices = self.indices((3,) if has_batch else self.pick(((BATCH,), (2,), (BATCH, 2))), extent)
        found = self.emit(Gather(axis), x, indices)
        return found if self.random.random() < 0.5 else self.emit(ScatterAdd(axis, extent), indices, found)

    def positions(self) -> Value:
        x = self.any()
        if x.type.rank == 0:
            return x
        axis = self.pick(range(x.type.rank))
        return self.emit(Multiply(), x, self.emit(Sin(), self.emit(Iota(x.type.shape, axis, DType.F32))))


def _without(shape: Shape, axis: int) -> tuple[Shape, Shape]:
    return shape[:axis], shape[axis + 1 :]


def _common(a: Shape, b: Shape) -> Shape | None:
    """The shape of both after NumPy's broadcasting; None where they do not fit."""
    rank = max(len(a), len(b))
    left, right = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    shape: list[Extent] = []
    for x, y in zip(left, right, strict=True):
        if x != y and 1 not in (x, y):
            return None
        shape.append(y if x == 1 else x)
    return tuple(shape) if sum(isinstance(extent, BatchExtent) for extent in shape) < 2 else None
