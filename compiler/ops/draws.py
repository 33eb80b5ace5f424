"""Random numbers for elements that bring a key of their own, such as those of a sample of the data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node
from compiler.graph.op import Category, Op, TypeRuleError
from compiler.ops.elementwise import Cotangents, Types
from compiler.ops.rules import expect_operands, expect_same_type
from compiler.ops.sources import threefry2x32
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import DType, TensorType, numpy_dtype


@final
@record
class Threefry(Op):
    """Operands (key, counter), both i64: the words of Threefry-2x32 with 20 rounds, the low halves first.

    As i64, the result is both words, which can be the key of other draws. As a float, it is a number in [0, 1): the
    upper 24 bits of the first word. So `random_uniform` at element e is
    threefry(threefry(seed, step + 2^32 stream), e), for a step below 2^32.
    """

    dtype: DType
    name = "threefry"
    category = Category.ELEMENTWISE

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 2)
        if self.dtype not in (DType.I64, DType.F32, DType.F64) or operands[0].dtype is not DType.I64:
            raise TypeRuleError(f"threefry makes i64, f32 or f64 of two i64, not {self.dtype.value} of {operands[0]}")
        expect_same_type(self.name, *operands)
        return (TensorType(self.dtype, operands[0].shape),)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        return (None, None)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        key, counter = ((x.astype(np.uint32), (x >> 32).astype(np.uint32)) for x in operands)
        first, second = threefry2x32(key, counter)
        if self.dtype is DType.I64:
            return ((first.astype(np.uint64) | second.astype(np.uint64) << np.uint64(32)).astype(np.int64),)
        return (np.ldexp((first >> np.uint32(8)).astype(numpy_dtype(self.dtype)), -24),)
