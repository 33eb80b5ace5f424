"""Elementwise arithmetic, and `Symbolic`, in which gradients are written: values with the operators of Python."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias, final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category, Op
from compiler.ops.build import filled
from compiler.ops.rules import (
    BOOLEANS,
    EVERY,
    FLOATS,
    NUMBERS,
    expect_dtype,
    expect_operands,
    expect_same_shape,
    expect_same_type,
    round_to_bf16,
)
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import DType, TensorType, numpy_dtype

Types: TypeAlias = Sequence[TensorType]
Cotangents: TypeAlias = Sequence[Value | None]


@record
class Symbolic:
    """A value under construction, with Python's arithmetic; numbers become constants of its type."""

    builder: GraphBuilder
    value: Value

    def lift(self, other: Symbolic | float) -> Value:
        return other.value if isinstance(other, Symbolic) else filled(self.builder, other, self.value.type)

    def apply(self, op: Op, *others: Symbolic | float) -> Symbolic:
        return Symbolic(self.builder, self.builder.emit(op, self.value, *map(self.lift, others)))

    def __neg__(self) -> Symbolic:
        return self.apply(Negate())

    def __add__(self, other: Symbolic | float) -> Symbolic:
        return self.apply(Add(), other)

    def __sub__(self, other: Symbolic | float) -> Symbolic:
        return self.apply(Subtract(), other)

    def __rsub__(self, other: float) -> Symbolic:
        return Symbolic(self.builder, self.lift(other)) - self

    def __mul__(self, other: Symbolic | float) -> Symbolic:
        return self.apply(Multiply(), other)

    def __rmul__(self, other: float) -> Symbolic:
        return self.apply(Multiply(), other)

    def __truediv__(self, other: Symbolic | float) -> Symbolic:
        return self.apply(Divide(), other)

    def equals(self, other: Symbolic | float) -> Symbolic:
        return self.apply(Equal(), other)

    def less(self, other: Symbolic | float) -> Symbolic:
        return self.apply(Less(), other)

    def choose(self, chosen: Symbolic, other: Symbolic) -> Symbolic:
        """`chosen` where this boolean is true, `other` elsewhere."""
        return self.apply(Where(), chosen, other)

    def zeros(self) -> Symbolic:
        return Symbolic(self.builder, filled(self.builder, 0, self.value.type))

    def cast(self, dtype: DType) -> Symbolic:
        return self if self.value.type.dtype is dtype else self.apply(Cast(dtype))


class Unary(Op):
    """An op of one operand, whose result has the operand's type."""

    category = Category.ELEMENTWISE
    accepted: ClassVar[Sequence[DType]] = FLOATS

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 1)
        expect_dtype(self.name, operands[0], self.accepted)
        return (operands[0],)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        if cotangents[0] is None:
            return (None,)
        x, y, dy = (Symbolic(builder, v) for v in (node.operands[0], node.results[0], cotangents[0]))
        slope = self.backward(x, y, dy)
        return (None if slope is None else slope.value,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(self.compute(operands[0])),)

    @abstractmethod
    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic | None:
        """The cotangent of x, for y = op(x) with cotangent dy."""

    @abstractmethod
    def compute(self, x: Array) -> Array: ...


class Binary(Op):
    """An op of two operands of one type, which the result has too."""

    category = Category.ELEMENTWISE
    accepted: ClassVar[Sequence[DType]] = NUMBERS

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 2)
        expect_dtype(self.name, operands[0], self.accepted)
        expect_same_type(self.name, operands[0], operands[1])
        return (operands[0],)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        if cotangents[0] is None:
            return (None, None)
        a, b, y, dy = (Symbolic(builder, v) for v in (*node.operands, node.results[0], cotangents[0]))
        return tuple(None if slope is None else slope.value for slope in self.backward(a, b, y, dy))

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(self.compute(*operands)),)

    @abstractmethod
    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic | None, Symbolic | None]:
        """The cotangents of a and b, for y = op(a, b) with cotangent dy."""

    @abstractmethod
    def compute(self, a: Array, b: Array) -> Array: ...


@final
@record
class Negate(Unary):
    name = "neg"
    accepted = NUMBERS

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return -dy

    def compute(self, x: Array) -> Array:
        return np.negative(x)


@final
@record
class Add(Binary):
    name = "add"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return dy, dy

    def compute(self, a: Array, b: Array) -> Array:
        return np.add(a, b)


@final
@record
class Subtract(Binary):
    name = "sub"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return dy, -dy

    def compute(self, a: Array, b: Array) -> Array:
        return np.subtract(a, b)


@final
@record
class Multiply(Binary):
    name = "mul"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return dy * b, dy * a

    def compute(self, a: Array, b: Array) -> Array:
        return np.multiply(a, b)


@final
@record
class Divide(Binary):
    name = "div"
    accepted = FLOATS

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        share = dy / b
        return share, -(share * y)

    def compute(self, a: Array, b: Array) -> Array:
        return np.divide(a, b)


@final
@record
class FusedMultiplyAdd(Op):
    """a * b + c, rounded once."""

    name = "fma"
    category = Category.ELEMENTWISE

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 3)
        expect_dtype(self.name, operands[0], FLOATS)
        for other in operands[1:]:
            expect_same_type(self.name, operands[0], other)
        return (operands[0],)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        if cotangents[0] is None:
            return (None, None, None)
        a, b, dy = (Symbolic(builder, v) for v in (*node.operands[:2], cotangents[0]))
        return (dy * b).value, (dy * a).value, dy.value

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        # A product of two f32 is exact in f64; the sum is rounded there and again to f32, which differs in rare ties.
        a, b, c = (x.astype(np.float64) for x in operands)
        with np.errstate(all="ignore"):
            return ((a * b + c).astype(operands[0].dtype),)


class Comparison(Binary):
    """A binary op whose result is boolean."""

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 2)
        expect_dtype(self.name, operands[0], self.accepted)
        expect_same_type(self.name, operands[0], operands[1])
        return (TensorType(DType.BOOL, operands[0].shape),)

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[None, None]:
        return None, None


@final
@record
class Equal(Comparison):
    name = "eq"
    accepted = EVERY

    def compute(self, a: Array, b: Array) -> Array:
        return np.equal(a, b)


@final
@record
class Less(Comparison):
    name = "lt"

    def compute(self, a: Array, b: Array) -> Array:
        return np.less(a, b)


@final
@record
class Where(Op):
    """The second operand where the first, a boolean, is true; the third elsewhere."""

    name = "where"
    category = Category.ELEMENTWISE

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 3)
        condition, a, b = operands
        expect_dtype(self.name, condition, BOOLEANS)
        expect_same_type(self.name, a, b)
        expect_same_shape(self.name, condition, a)
        return (a,)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        if cotangents[0] is None:
            return (None, None, None)
        condition, dy = Symbolic(builder, node.operands[0]), Symbolic(builder, cotangents[0])
        zeros = dy.zeros()
        return None, condition.choose(dy, zeros).value, condition.choose(zeros, dy).value

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.where(*operands),)


@final
@record
class Cast(Op):
    """Another element type: a boolean is 0 or 1, a number is true unless 0.

    A float becomes the integer next to it toward 0, one that does not fit the least or the greatest, and NaN becomes 0.
    """

    dtype: DType
    name = "cast"
    category = Category.ELEMENTWISE

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 1)
        return (TensorType(self.dtype, operands[0].shape),)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        source = node.operands[0].type.dtype
        if cotangents[0] is None or not (source.is_float and self.dtype.is_float):
            return (None,)
        return (Symbolic(builder, cotangents[0]).cast(source).value,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        (values,), target = operands, numpy_dtype(self.dtype)
        with np.errstate(all="ignore"):
            if values.dtype.kind == "f" and target.kind in "iu":
                return (_saturated(values, target),)
            result = values.astype(target)
        return (round_to_bf16(result) if self.dtype is DType.BF16 else result,)


def _saturated(values: Array, target: np.dtype[Any]) -> Array:
    """Floats as integers: those that do not fit become the nearest that does, NaN becomes 0."""
    range_ = np.iinfo(target)
    fits = (values > float(range_.min) - 1.0) & (values < float(range_.max + 1))  # the bounds are powers of two
    whole = np.where(fits, values, 0).astype(target)
    bounded = np.where(values >= float(range_.max + 1), range_.max, whole)
    return np.where(values <= float(range_.min) - 1.0, range_.min, bounded).astype(target)
