"""Random graphs over pairs of rows, [batch, batch, …], with inputs for them, and a step of their programs."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role, Value
from compiler.interface import Steps
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Cast, Less, Maximum, Minimum, Multiply, Negate, Subtract, Where
from compiler.ops.mathematics import Sigmoid, Tanh
from compiler.ops.movement import Broadcast, Concat, Reshape, Slice, Transpose
from compiler.ops.reduction import ArgMax, CumulativeSum, Max, Min, Moments, Sum
from compiler.ops.sources import Iota
from compiler.targets.memory import allocated
from compiler.targets.target import LoadedProgram
from compiler.types import BatchExtent, DType, TensorType

Array: TypeAlias = np.ndarray[Any, Any]

BATCH = BatchExtent()
F32, I32 = DType.F32, DType.I32


class PairWriter:
    """Appends random nodes; `pairs` are the values [batch, batch] so far."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.builder = GraphBuilder(f"pairs{seed}")
        self.width = self.random.choice((1, 3, 16))
        types = TensorType(F32, (BATCH, self.width)), TensorType(F32, (BATCH,)), TensorType(I32, (BATCH,))
        self.x, self.v, self.label = (
            self.builder.input(name, Role.DATA, type_) for name, type_ in zip("xvl", types, strict=True)
        )
        self.w = self.builder.input("w", Role.PARAMETER, TensorType(F32, (self.width, self.width)))
        self.rows: list[Value] = [self.v]
        self.pairs: list[Value] = [self._similarities(), self._differences()]
        self.results: list[Value] = []

    def graph(self, nodes: int) -> Graph:
        frequent = self._elementwise, self._elementwise, self._reduced, self._reduced
        others = self._spread, self._product, self._turned, self._running, self._chosen, self._moments
        writers = (*frequent, *others, self._with_more_axes)
        for _ in range(nodes):
            self.random.choice(writers)()
        total = self.builder.emit(Sum((0, 1)), self.pairs[-1])
        for number, value in enumerate((*self.results, total, *self.rows[1:])):
            self.builder.output(f"y{number}", Role.OUTPUT, value)
        return self.builder.build()

    def _pair(self) -> Value:
        return self.random.choice(self.pairs[-3:])

    def _similarities(self) -> Value:
        y = self.builder.emit(Contraction((0, 1), (1, 2), (0, 2)), self.x, self.w)
        return self.builder.emit(Contraction((0, 2), (1, 2), (0, 1)), y, self.x)

    def _differences(self) -> Value:
        shape = (BATCH, BATCH, self.width)
        left, right = (self.builder.emit(Broadcast(shape, axes), self.x) for axes in ((0, 2), (1, 2)))
        difference = self.builder.emit(Subtract(), left, right)
        return self.builder.emit(Sum((2,)), self.builder.emit(Multiply(), difference, difference))

    def _elementwise(self) -> None:
        a, b = self._pair(), self._pair()
        op = self.random.choice((Tanh(), Sigmoid(), Negate(), Multiply(), Maximum(), Minimum(), Subtract()))
        count = 1 if isinstance(op, Tanh | Sigmoid | Negate) else 2
        self.pairs.append(self.builder.emit(op, *(a, b)[:count]))

    def _spread(self) -> None:
        row = self.builder.emit(Broadcast((BATCH, BATCH), (self.random.randrange(2),)), self.random.choice(self.rows))
        self.pairs.append(self.builder.emit(self.random.choice((Multiply(), Subtract())), self._pair(), row))

    def _reduced(self) -> None:
        kind, axes = self.random.choice((Sum, Max, Min)), self.random.choice(((0,), (1,), (0, 1)))
        found = self.builder.emit(kind(axes), self._pair())
        if len(axes) == 2:
            self.results.append(found)
        else:
            self.rows.append(self.builder.emit(Tanh(), found))
            self.rows.append(found)

    def _product(self) -> None:
        a, b = self._pair(), self._pair()
        match self.random.randrange(4):
            case 0:
                squashed = [self.builder.emit(Tanh(), value) for value in (a, b)]
                self.pairs.append(self.builder.emit(Contraction((0, 1), (1, 2), (0, 2)), *squashed))
            case 1:
                self.results.append(self.builder.emit(Contraction((0, 1), (1, 2), (0, 2)), a, self.x))
            case 2:
                self.results.append(self.builder.emit(Contraction((0, 1), (0, 1), (1,)), a, b))
            case _:
                self.results.append(self.builder.emit(Contraction((0, 1), (0, 1), ()), a, b))

    def _turned(self) -> None:
        self.pairs.append(self.builder.emit(Transpose((1, 0)), self._pair()))

    def _running(self) -> None:
        total = self.builder.emit(CumulativeSum(self.random.randrange(2), self.random.random() < 0.5), self._pair())
        self.pairs.append(self.builder.emit(Tanh(), total))

    def _chosen(self) -> None:
        a, axis = self._pair(), self.random.randrange(2)
        if self.random.random() < 0.5:
            place = self.builder.emit(ArgMax(axis), self.pairs[0])  # whose elements differ
            self.rows.append(self.builder.emit(Cast(F32), place))
            return
        places = [self.builder.emit(Iota((BATCH, BATCH), k, I32)) for k in range(2)]
        labels = [self.builder.emit(Broadcast((BATCH, BATCH), (k,)), self.label) for k in range(2)]
        mask = self.builder.emit(Less(), *self.random.choice((places, labels)))
        self.pairs.append(self.builder.emit(Where(), mask, a, self._pair()))

    def _moments(self) -> None:
        axes = self.random.choice(((0,), (1,), (0, 1)))
        found = self.builder.emit_all(Moments(axes), self._pair())
        (self.results if len(axes) == 2 else self.rows).extend(found)

    def _with_more_axes(self) -> None:
        """Two pairs joined to [batch, batch, 2]: a reduction over the new axis too, a part, or [batch, 2*batch]."""
        shape = (BATCH, BATCH, 1)
        joined = self.builder.emit(
            Concat(2), *(self.builder.emit(Reshape(shape), value) for value in (self._pair(), self._pair()))
        )
        match self.random.randrange(3):
            case 0:
                self.rows.append(self.builder.emit(Sum((1, 2)), joined))
            case 1:
                half = self.builder.emit(Slice((0, 0, 1), shape, (1, 1, 1)), joined)
                self.pairs.append(self.builder.emit(Reshape((BATCH, BATCH)), half))
            case _:
                longer = self.builder.emit(Reshape((BATCH, BatchExtent(2))), joined)
                self.rows.append(self.builder.emit(self.random.choice((Sum, Max))((1,)), longer))


def random_pairs(seed: int, nodes: int = 12) -> Graph:
    """A graph with pairs of rows inside, whose results have the batch on one axis at most."""
    return PairWriter(seed).graph(nodes)


def run(program: LoadedProgram, arrays: Mapping[str, Array], rows: int) -> dict[str, Array]:
    tensors = allocated(program.tensors)
    for name in tensors.names():
        tensors.write(name, arrays[name].astype(tensors[name].dtype))
    results = program.run(Steps(tensors, arrays, np.arange(rows), rows))
    return {**{name: value[0] for name, value in results.scalars.items()}, **results.arrays}


def narrowed(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in arrays.items()}


def inputs_of(graph: Graph, rows: int, seed: int) -> dict[str, Array]:
    drawn = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for entry in graph.inputs:
        shape = tuple(extent if isinstance(extent, int) else rows for extent in entry.value.type.shape)
        is_float = entry.value.type.dtype.is_float
        found[entry.name] = drawn.normal(size=shape) if is_float else drawn.integers(0, 3, shape).astype(np.int32)
    return found
