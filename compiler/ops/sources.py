"""Ops whose elements come from no tensor: constants, positions, the batch size, random numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

from compiler.graph.op import Category, FlatOp, Op, TypeRuleError, Types
from compiler.ops import rules
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import DType, Shape, TensorType, at_batch, batch_axis, is_of_pairs, numpy_dtype


@final
@record(eq=False)
class Constant(FlatOp):
    """A scalar known to the compiler. Equal constants have equal bits: 0.0 is not -0.0, and NaN is NaN."""

    value: float | int | bool
    dtype: DType
    name = "constant"
    category = Category.SOURCE

    def __post_init__(self) -> None:
        if self.dtype.is_float:
            object.__setattr__(self, "value", float(self.value))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[DType, str]:
        return self.dtype, repr(self.value)

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 0)
        is_boolean, is_float = isinstance(self.value, bool), isinstance(self.value, float)
        if is_boolean != (self.dtype is DType.BOOL) or is_float != self.dtype.is_float:
            raise TypeRuleError(f"{self.value!r} is not a constant of type {self.dtype.value}")
        least, greatest = self.dtype.limits
        if not (is_boolean or is_float or least <= self.value <= greatest):
            raise TypeRuleError(f"{self.value} does not fit a constant of type {self.dtype.value}")
        return (TensorType(self.dtype),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        with np.errstate(over="ignore"):
            return (np.array(self.value, numpy_dtype(self.dtype)),)


@final
@record
class Iota(FlatOp):
    """Each element is its own position along `axis`, from 0."""

    shape: Shape
    axis: int
    dtype: DType
    name = "iota"
    category = Category.SOURCE

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 0)
        result = TensorType(self.dtype, self.shape)
        rules.expect_dtype(self.name, result, rules.NUMBERS)
        rules.expect_axis(self.name, self.axis, result)
        return (result,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        shape = at_batch(self.shape, batch)
        positions = np.arange(shape[self.axis]).astype(numpy_dtype(self.dtype))
        column = (-1,) + (1,) * (len(shape) - self.axis - 1)
        return (np.broadcast_to(positions.reshape(column), shape),)


@final
class BatchSize(FlatOp):
    """The run-time batch size, an i64 scalar."""

    name = "batch_size"
    category = Category.SOURCE

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 0)
        return (TensorType(DType.I64),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.array(batch, np.int64),)


_ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)


def threefry2x32(key: tuple[Array, Array], counter: tuple[Array, Array]) -> tuple[Array, Array]:
    """Threefry-2x32 with 20 rounds, over arrays of uint32.

    Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3" (2011), section 4.2.
    """
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    with np.errstate(over="ignore"):
        x0, x1 = counter[0] + keys[0], counter[1] + keys[1]
        for group in range(5):
            for rotation in _ROTATIONS[4 * (group % 2) :][:4]:
                x0 = x0 + x1
                x1 = ((x1 << np.uint32(rotation)) | (x1 >> np.uint32(32 - rotation))) ^ x0
            x0 = x0 + keys[(group + 1) % 3]
            x1 = x1 + keys[(group + 2) % 3] + np.uint32(group + 1)
    return x0, x1


def uniform(seed: int, step: int, stream: int, positions: Array) -> Array:
    """f32 in [0, 1): the draws of a stream at a step, for the elements with these numbers."""
    key = threefry2x32((_word(seed), _word(seed >> 32)), (_word(step), _word(stream)))
    wide = positions.astype(np.uint64)
    low, high = wide.astype(np.uint32), (wide >> np.uint64(32)).astype(np.uint32)
    bits, _ = threefry2x32(key, (low, high))
    return (bits >> np.uint32(8)).astype(np.float32) * np.float32(2.0**-24)


@final
@record
class RandomUniform(FlatOp):
    """f32 in [0, 1) with 24 random bits, a function of (seed, step, stream, position) alone.

    Positions count row by row, with the batch axis outermost wherever it stands: draws do not depend on the batch size.
    (k0, k1) = threefry(key = seed, counter = (low half of step, stream)); element e is the first word of
    threefry(key = (k0, k1), counter = e), shifted right by 8, times 2^-24.

    A third operand, an i64 scalar, is the position of the first element: that of a shard in its batch.
    """

    shape: Shape
    stream: int
    name = "random_uniform"
    category = Category.SOURCE

    def result_types(self, operands: Sequence[TensorType]) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 3 if len(operands) == 3 else 2)
        for operand in operands:
            if operand != TensorType(DType.I64):
                raise TypeRuleError(f"random_uniform takes a seed and a step of type i64[], but got {operand}")
        if is_of_pairs(self.shape):
            raise TypeRuleError(f"nothing is drawn for pairs of rows, as {TensorType(DType.F32, self.shape)} would be")
        return (TensorType(DType.F32, self.shape),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        seed, step = int(operands[0]), int(operands[1])
        axis = batch_axis(self.shape) or 0
        shape = list(at_batch(self.shape, batch))
        stored = [*shape[axis : axis + 1], *shape[:axis], *shape[axis + 1 :]]
        first = int(operands[2]) if len(operands) == 3 else 0
        positions = np.arange(first, first + math.prod(shape), dtype=np.uint64)
        draws = uniform(seed, step, self.stream, positions).reshape(stored)
        return (np.moveaxis(draws, 0, axis) if shape else draws,)


def _word(number: int) -> Array:
    return np.array(number & 0xFFFFFFFF, np.uint32)


@final
@record
class Threefry(FlatOp):
    """Operands (key, counter), both i64: the words of Threefry-2x32 with 20 rounds, the low halves first.

    Its elements bring keys of their own, such as those of a sample of the data.

    As i64, the result is both words, which can be the key of other draws. As a float, it is a number in [0, 1): the
    upper 24 bits of the first word. So `random_uniform` at element e is
    threefry(threefry(seed, step + 2^32 stream), e), for a step below 2^32.
    """

    dtype: DType
    name = "threefry"
    category = Category.ELEMENTWISE

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 2)
        if self.dtype not in (DType.I64, DType.F32, DType.F64) or operands[0].dtype is not DType.I64:
            raise TypeRuleError(f"threefry makes i64, f32 or f64 of two i64, not {self.dtype.value} of {operands[0]}")
        rules.expect_same_type(self.name, *operands)
        return (TensorType(self.dtype, operands[0].shape),)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        key, counter = ((x.astype(np.uint32), (x >> 32).astype(np.uint32)) for x in operands)
        first, second = threefry2x32(key, counter)
        if self.dtype is DType.I64:
            return ((first.astype(np.uint64) | second.astype(np.uint64) << np.uint64(32)).astype(np.int64),)
        return (np.ldexp((first >> np.uint32(8)).astype(numpy_dtype(self.dtype)), -24),)


SOURCES: tuple[type[Op], ...] = (Constant, Iota, BatchSize, RandomUniform)
