"""Draws that belong to a row by its number: the same in any batch, in any order, and whatever was run before."""

from __future__ import annotations

from abc import abstractmethod

from compiler.frontend.bodies.evaluate import Evaluator
from compiler.graph import ir
from compiler.graph.ir import Role
from compiler.ops.movement import Transpose
from compiler.ops.sources import Constant, Iota, Threefry
from compiler.ops.spreading import Broadcast, Reshape
from compiler.types import BatchExtent, DType, Shape, TensorType, batch_axis, static_elements

NUMBER = TensorType(DType.I64)
NUMBERS = TensorType(DType.I64, (BatchExtent(),))


class RowEvaluator(Evaluator):
    """Builds a graph whose draws depend on the seed, the number of the row and the element.

    In a `scan`, they depend on the place of the step, too. `rows` is the input with the numbers of the rows.
    """

    rows = ""

    @abstractmethod
    def counter(self, stream: ir.Value) -> ir.Value:
        """What is counted beside the rows and places, an i64 scalar; `stream` is the number of the draw, times 2^32."""

    def draw(self, shape: Shape) -> ir.Value:
        counter = self.counter(self.emit(Constant(self.next_stream() << 32, DType.I64)))
        key = self.emit(Threefry(DType.I64), self.input("seed", Role.SEED, NUMBER), counter)
        for scan in self.scans:
            key = self.emit(Threefry(DType.I64), key, self.place_in(scan))
        axis = batch_axis(shape)
        flat: Shape = (static_elements(shape),)
        if axis is not None:
            flat = (BatchExtent(), *flat)
            rows = self.input(self.rows, Role.DATA, NUMBERS)
            key = self.emit(Threefry(DType.I64), self.emit(Broadcast(rows.type.shape, ()), key), rows)
        keys = self.emit(Broadcast(flat, tuple(range(key.type.rank))), key)
        drawn = self.emit(Threefry(DType.F32), keys, self.emit(Iota(flat, len(flat) - 1, DType.I64)))
        return self.emit(Reshape(shape), drawn) if not axis else self._placed(drawn, shape, axis)

    def _placed(self, drawn: ir.Value, shape: Shape, axis: int) -> ir.Value:
        """Draws with the batch first, where the shape has it."""
        first = (shape[axis], *shape[:axis], *shape[axis + 1 :])
        order = (*range(1, axis + 1), 0, *range(axis + 1, len(shape)))
        return self.emit(Transpose(order), self.emit(Reshape(first), drawn))
