"""Ops that compute each element from the elements at the same place; all operands have one shape.

Gradients are written in `Symbolic`s: values with the operators of Python.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, final

from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category, Cotangents, DifferentiableOp, Op, Types
from compiler.ops import rules
from compiler.ops.build import filled
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import DType, TensorType, numpy_dtype


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

    __rmul__ = __mul__

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


class Elementwise(DifferentiableOp):
    """An op of operands of one type, which the result has too."""

    category = Category.ELEMENTWISE
    accepted: ClassVar[Sequence[DType]] = rules.NUMBERS
    count: ClassVar[int]  # of operands
    numpy: ClassVar[str] = ""  # the function of NumPy that computes it, where that is not called as the op is

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, self.count)
        rules.expect_dtype(self.name, operands[0], self.accepted)
        for other in operands[1:]:
            rules.expect_same_type(self.name, operands[0], other)
        return (operands[0],)


class Unary(Elementwise):
    """An op of one operand, whose result has the operand's type."""

    accepted = rules.FLOATS
    count = 1

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        x, y, dy = (Symbolic(builder, v) for v in (*node.operands, node.results[0], cotangent))
        slope = self.backward(x, y, dy)
        return (None if slope is None else slope.value,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(self.compute(operands[0])),)

    @abstractmethod
    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic | None:
        """The cotangent of x, for y = op(x) with cotangent dy."""

    def compute(self, x: Array) -> Array:
        return getattr(np, self.numpy or self.name)(x)


class Binary(Elementwise):
    """An op of two operands of one type, which the result has too."""

    count = 2

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        a, b, y, dy = (Symbolic(builder, v) for v in (*node.operands, node.results[0], cotangent))
        return tuple(None if slope is None else slope.value for slope in self.backward(a, b, y, dy))

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(getattr(np, self.numpy or self.name)(*operands)),)

    @abstractmethod
    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic | None, Symbolic | None]:
        """The cotangents of a and b, for y = op(a, b) with cotangent dy."""


@final
class Negate(Unary):
    name = "neg"
    numpy = "negative"
    accepted = rules.NUMBERS

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return -dy


@final
class Add(Binary):
    name = "add"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return dy, dy


@final
class Subtract(Binary):
    name = "sub"
    numpy = "subtract"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return dy, -dy


@final
class Multiply(Binary):
    name = "mul"
    numpy = "multiply"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return dy * b, dy * a


@final
class Divide(Binary):
    name = "div"
    numpy = "divide"
    accepted = rules.FLOATS

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        share = dy / b
        return share, -(share * y)


@final
class FusedMultiplyAdd(Elementwise):
    """a * b + c, rounded once."""

    name = "fma"
    accepted = rules.FLOATS
    count = 3

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        a, b, dy = (Symbolic(builder, v) for v in (*node.operands[:2], cotangent))
        return (dy * b).value, (dy * a).value, dy.value

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        # A product of two f32 is exact in f64; the sum is rounded there and again to f32, which differs in rare ties.
        a, b, c = (x.astype(np.float64) for x in operands)
        with np.errstate(all="ignore"):
            return ((a * b + c).astype(operands[0].dtype),)


class Comparison(Binary):
    """A binary op whose result is boolean."""

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        (compared,) = super().result_types(operands)
        return (TensorType(DType.BOOL, compared.shape),)

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[None, None]:
        return None, None


@final
class Equal(Comparison):
    name = "eq"
    numpy = "equal"
    accepted = rules.EVERY


@final
class Less(Comparison):
    name = "lt"
    numpy = "less"


@final
class Where(DifferentiableOp):
    """The second operand where the first, a boolean, is true; the third elsewhere."""

    name = "where"
    category = Category.ELEMENTWISE

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        condition, a, b = rules.expect_operands(self.name, operands, 3)
        rules.expect_dtype(self.name, condition, rules.BOOLEANS)
        rules.expect_same_type(self.name, a, b)
        rules.expect_same_shape(self.name, condition, a)
        return (a,)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        condition, dy = Symbolic(builder, node.operands[0]), Symbolic(builder, cotangent)
        zeros = dy.zeros()
        return None, condition.choose(dy, zeros).value, condition.choose(zeros, dy).value

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.where(*operands),)


@final
@record
class Cast(DifferentiableOp):
    """Another element type: a boolean is 0 or 1, a number is true unless 0.

    A float becomes the integer next to it toward 0, one that does not fit the least or the greatest, and NaN becomes 0.
    """

    dtype: DType
    name = "cast"
    category = Category.ELEMENTWISE

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        rules.expect_operands(self.name, operands, 1)
        return (TensorType(self.dtype, operands[0].shape),)

    def slopes(self, builder: GraphBuilder, node: Node, cotangent: Value) -> Cotangents:
        source = node.operands[0].type.dtype
        is_smooth = source.is_float and self.dtype.is_float
        slope = node.operands[0].type.of_slope.dtype
        return (Symbolic(builder, cotangent).cast(slope).value if is_smooth else None,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        (values,), target = operands, numpy_dtype(self.dtype)
        with np.errstate(all="ignore"):
            if values.dtype.kind == "f" and target.kind in "iu":
                return (_saturated(values.astype(np.float64), target),)
            result = values.astype(target)
        return (rules.round_to_bf16(result) if self.dtype is DType.BF16 else result,)


def _saturated(values: Array, target: np.dtype[Any]) -> Array:
    """Floats as integers: those that do not fit become the nearest that does, NaN becomes 0."""
    range_ = np.iinfo(target)
    least, end = float(range_.min), float(int(range_.max) + 1)  # powers of two
    whole = np.where((values > least - 1.0) & (values < end), values, 0).astype(target)
    bounded = np.where(values >= end, target.type(range_.max), whole)
    return np.where(values <= least - 1.0, target.type(range_.min), bounded)


class _Logical(Binary):
    """A binary op on booleans."""

    accepted = rules.BOOLEANS

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[None, None]:
        return None, None


@final
class Not(Unary):
    name = "not"
    numpy = "logical_not"
    accepted = rules.BOOLEANS

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> None:
        return None


@final
class And(_Logical):
    name = "and"
    numpy = "logical_and"


@final
class Or(_Logical):
    name = "or"
    numpy = "logical_or"


@final
class NotEqual(Comparison):
    name = "ne"
    numpy = "not_equal"
    accepted = rules.EVERY


@final
class LessEqual(Comparison):
    name = "le"
    numpy = "less_equal"


def _tied(first: Symbolic, second: Symbolic, dy: Symbolic) -> Symbolic:
    """dy where `first` is less, half of it where both are equal, else 0."""
    return first.less(second).choose(dy, first.equals(second).choose(dy * 0.5, dy.zeros()))


@final
class Maximum(Binary):
    """The larger of two; NaN if either is. Ties share the cotangent equally."""

    name = "maximum"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return _tied(b, a, dy), _tied(a, b, dy)


@final
class Minimum(Binary):
    """The smaller of two; NaN if either is. Ties share the cotangent equally."""

    name = "minimum"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return _tied(a, b, dy), _tied(b, a, dy)


@final
class Abs(Unary):
    name = "abs"
    accepted = rules.NUMBERS

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        at_or_above = x.zeros().less(x).choose(dy, dy.zeros())  # the subgradient at 0 is 0
        return x.less(0).choose(-dy, at_or_above)


@final
class Flush(Unary):
    """0 in place of a subnormal number; only the compiler makes it."""

    name = "flush"

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> Symbolic:
        return dy

    def compute(self, x: Array) -> Array:
        return np.where(np.abs(x) < np.finfo(x.dtype).tiny, x.dtype.type(0), x)


@final
class Floor(Unary):
    name = "floor"

    def backward(self, x: Symbolic, y: Symbolic, dy: Symbolic) -> None:
        return None


@final
class FloorDivide(Binary):
    """floor(a / b) as NumPy has it; on integers, division by 0 gives 0.

    Of floats, it is that of the exact quotient where this is below 2^21 (2^50 in f64), and else differs by rounding.
    """

    name = "floordiv"
    numpy = "floor_divide"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[None, None]:
        return None, None


@final
class Modulo(Binary):
    """a - b * floor(a / b), the exact remainder, with the sign of b; on integers, modulo 0 gives 0."""

    name = "mod"

    def backward(self, a: Symbolic, b: Symbolic, y: Symbolic, dy: Symbolic) -> tuple[Symbolic, Symbolic]:
        return dy, -(dy * a.apply(FloorDivide(), b))


UNARY: tuple[type[Op], ...] = (Negate, Flush, Floor, Abs, Not)
BINARY: tuple[type[Op], ...] = (Add, Subtract, Multiply, Divide, Maximum, Minimum, FloorDivide, Modulo, And, Or)
COMPARISONS: tuple[type[Op], ...] = (Equal, NotEqual, Less, LessEqual)
