"""Ops that compute each element from the elements at the same place; all operands have one shape."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar, TypeAlias, final

from compiler.arrays import Array, np
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Node, Value
from compiler.graph.op import Category, Op, Sample
from compiler.ops.build import constant_of, filled
from compiler.ops.rules import (
    BOOLEANS,
    EVERY,
    FLOATS,
    NUMBERS,
    expect_dtype,
    expect_operands,
    expect_same_shape,
    expect_same_type,
    numpy_dtype,
    round_to_bf16,
)
from compiler.record import record
from compiler.types import BatchExtent, DType, TensorType

Types: TypeAlias = Sequence[TensorType]
Cotangents: TypeAlias = Sequence[Value | None]
Range: TypeAlias = tuple[float, float]

_SHAPES = ((), (3, 4), (BatchExtent(), 5))


@record
class Term:
    """A value under construction, with Python's arithmetic; numbers become constants of its type."""

    builder: GraphBuilder
    value: Value

    def lift(self, other: Term | float) -> Value:
        return other.value if isinstance(other, Term) else filled(self.builder, other, self.value.type)

    def apply(self, op: Op, *others: Term | float) -> Term:
        return Term(self.builder, self.builder.emit(op, self.value, *map(self.lift, others)))

    def __neg__(self) -> Term:
        return self.apply(Negate())

    def __add__(self, other: Term | float) -> Term:
        return self.apply(Add(), other)

    def __sub__(self, other: Term | float) -> Term:
        return self.apply(Subtract(), other)

    def __rsub__(self, other: float) -> Term:
        return Term(self.builder, self.lift(other)) - self

    def __mul__(self, other: Term | float) -> Term:
        return self.apply(Multiply(), other)

    def __rmul__(self, other: float) -> Term:
        return self.apply(Multiply(), other)

    def __truediv__(self, other: Term | float) -> Term:
        return self.apply(Divide(), other)

    def __pow__(self, exponent: Term | float) -> Term:
        return self.apply(Power(), exponent)

    def equals(self, other: Term | float) -> Term:
        return self.apply(Equal(), other)

    def less(self, other: Term | float) -> Term:
        return self.apply(Less(), other)

    def choose(self, chosen: Term, other: Term) -> Term:
        """`chosen` where this boolean is true, `other` elsewhere."""
        return self.apply(Where(), chosen, other)

    def zeros(self) -> Term:
        return Term(self.builder, filled(self.builder, 0, self.value.type))

    def cast(self, dtype: DType) -> Term:
        return self if self.value.type.dtype is dtype else self.apply(Cast(dtype))


class _Unary(Op):
    """An op of one operand, whose result has the operand's type."""

    category = Category.ELEMENTWISE
    accepted: ClassVar[Sequence[DType]] = FLOATS
    domain: ClassVar[Range] = (-2.0, 2.0)

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 1)
        expect_dtype(self.name, operands[0], self.accepted)
        return (operands[0],)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        if cotangents[0] is None:
            return (None,)
        x, y, dy = (Term(builder, v) for v in (node.operands[0], node.results[0], cotangents[0]))
        slope = self.backward(x, y, dy)
        return (None if slope is None else slope.value,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(self.compute(operands[0])),)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        dtypes = [d for d in (DType.F32, DType.I32, DType.BOOL) if d in cls.accepted]
        return tuple(Sample(cls(), (TensorType(d, shape),), (cls.domain,)) for d in dtypes for shape in _SHAPES)

    @abstractmethod
    def backward(self, x: Term, y: Term, dy: Term) -> Term | None:
        """The cotangent of x, for y = op(x) with cotangent dy."""

    @abstractmethod
    def compute(self, x: Array) -> Array: ...


@final
@record
class Negate(_Unary):
    name = "neg"
    accepted = NUMBERS

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return -dy

    def compute(self, x: Array) -> Array:
        return np.negative(x)


@final
@record
class Exp(_Unary):
    name = "exp"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * y

    def compute(self, x: Array) -> Array:
        return np.exp(x)


@final
@record
class Log(_Unary):
    name = "log"
    domain = (0.3, 3.0)

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy / x

    def compute(self, x: Array) -> Array:
        return np.log(x)


@final
@record
class Log1p(_Unary):
    name = "log1p"
    domain = (-0.7, 3.0)

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy / (x + 1)

    def compute(self, x: Array) -> Array:
        return np.log1p(x)


@final
@record
class Sqrt(_Unary):
    name = "sqrt"
    domain = (0.3, 3.0)

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * 0.5 / y

    def compute(self, x: Array) -> Array:
        return np.sqrt(x)


@final
@record
class Rsqrt(_Unary):
    """1 / sqrt(x)."""

    name = "rsqrt"
    domain = (0.3, 3.0)

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * -0.5 * (y * y * y)

    def compute(self, x: Array) -> Array:
        return (1 / np.sqrt(x.astype(np.float64))).astype(x.dtype)


@final
@record
class Tanh(_Unary):
    name = "tanh"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * (1 - y * y)

    def compute(self, x: Array) -> Array:
        return np.tanh(x)


@final
@record
class Sigmoid(_Unary):
    """1 / (1 + exp(-x))."""

    name = "sigmoid"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * (y * (1 - y))

    def compute(self, x: Array) -> Array:
        small = np.exp(-np.abs(x.astype(np.float64)))  # never overflows
        return (np.where(x < 0, small, 1) / (1 + small)).astype(x.dtype)


@final
@record
class Erf(_Unary):
    name = "erf"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * ((-(x * x)).apply(Exp()) * (2 / math.sqrt(math.pi)))

    def compute(self, x: Array) -> Array:
        return np.vectorize(math.erf, otypes=[np.float64])(x).astype(x.dtype)


@final
@record
class Sin(_Unary):
    name = "sin"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return dy * x.apply(Cos())

    def compute(self, x: Array) -> Array:
        return np.sin(x)


@final
@record
class Cos(_Unary):
    name = "cos"

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        return -(dy * x.apply(Sin()))

    def compute(self, x: Array) -> Array:
        return np.cos(x)


@final
@record
class Floor(_Unary):
    name = "floor"
    domain = (0.1, 0.9)

    def backward(self, x: Term, y: Term, dy: Term) -> None:
        return None

    def compute(self, x: Array) -> Array:
        return np.floor(x)


@final
@record
class Abs(_Unary):
    name = "abs"
    accepted = NUMBERS
    domain = (0.3, 2.0)

    def backward(self, x: Term, y: Term, dy: Term) -> Term:
        at_or_above = x.zeros().less(x).choose(dy, dy.zeros())  # the subgradient at 0 is 0
        return x.less(0).choose(-dy, at_or_above)

    def compute(self, x: Array) -> Array:
        return np.abs(x)


@final
@record
class Not(_Unary):
    name = "not"
    accepted = BOOLEANS
    domain = (0, 2)

    def backward(self, x: Term, y: Term, dy: Term) -> None:
        return None

    def compute(self, x: Array) -> Array:
        return np.logical_not(x)


class _Binary(Op):
    """An op of two operands of one type, which the result has too."""

    category = Category.ELEMENTWISE
    accepted: ClassVar[Sequence[DType]] = NUMBERS
    domains: ClassVar[tuple[Range, Range]] = ((-2.0, 2.0), (-2.0, 2.0))
    integer_domains: ClassVar[tuple[Range, Range]] = ((-9, 10), (-9, 10))

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 2)
        expect_dtype(self.name, operands[0], self.accepted)
        expect_same_type(self.name, operands[0], operands[1])
        return (operands[0],)

    def gradient(self, builder: GraphBuilder, node: Node, cotangents: Cotangents) -> Cotangents:
        if cotangents[0] is None:
            return (None, None)
        a, b, y, dy = (Term(builder, v) for v in (*node.operands, node.results[0], cotangents[0]))
        return tuple(None if slope is None else slope.value for slope in self.backward(a, b, y, dy))

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            return (np.asarray(self.compute(*operands)),)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        choices = ((DType.F32, cls.domains), (DType.I32, cls.integer_domains), (DType.BOOL, ((0, 2), (0, 2))))
        return tuple(
            Sample(cls(), (TensorType(dtype, shape),) * 2, ranges)
            for dtype, ranges in choices
            if dtype in cls.accepted
            for shape in _SHAPES
        )

    @abstractmethod
    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term | None, Term | None]:
        """The cotangents of a and b, for y = op(a, b) with cotangent dy."""

    @abstractmethod
    def compute(self, a: Array, b: Array) -> Array: ...


@final
@record
class Add(_Binary):
    name = "add"

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term, Term]:
        return dy, dy

    def compute(self, a: Array, b: Array) -> Array:
        return np.add(a, b)


@final
@record
class Subtract(_Binary):
    name = "sub"

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term, Term]:
        return dy, -dy

    def compute(self, a: Array, b: Array) -> Array:
        return np.subtract(a, b)


@final
@record
class Multiply(_Binary):
    name = "mul"

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term, Term]:
        return dy * b, dy * a

    def compute(self, a: Array, b: Array) -> Array:
        return np.multiply(a, b)


@final
@record
class Divide(_Binary):
    name = "div"
    accepted = FLOATS
    domains = ((-2.0, 2.0), (0.3, 2.0))

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term, Term]:
        share = dy / b
        return share, -(share * y)

    def compute(self, a: Array, b: Array) -> Array:
        return np.divide(a, b)


@final
@record
class Power(_Binary):
    name = "pow"
    accepted = FLOATS
    domains = ((0.3, 2.0), (-2.0, 2.0))

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term | None, Term | None]:
        exponent = constant_of(b.builder, b.value)
        if exponent is not None:
            return _power_slope(a, float(exponent), y, dy), None
        # b = 0: no slope in a, even at a = 0. a = 0 with b >= 0: no slope in b, though log(a) is -inf.
        base = b.equals(0).choose(b.zeros(), b * a ** (b - 1))
        flat = a.equals(0).apply(And(), b.less(0).apply(Not()))
        logarithm = flat.choose(a.zeros(), y * a.apply(Log()))
        return dy * base, dy * logarithm

    def compute(self, a: Array, b: Array) -> Array:
        return np.power(a, b)


def _power_slope(a: Term, exponent: float, y: Term, dy: Term) -> Term | None:
    """The cotangent of a in y = a ^ exponent, without a logarithm and without 0 * inf."""
    if exponent == 0:
        return None
    if exponent == 1:
        return dy
    if exponent == 2:
        return dy * (a * 2)
    if exponent == 0.5:
        return dy * 0.5 / y
    if exponent == -1:
        return -(dy * (y * y))
    return dy * (a ** (exponent - 1) * exponent)


def _tied(first: Term, second: Term, dy: Term) -> Term:
    """dy where `first` is less, half of it where both are equal, else 0."""
    return first.less(second).choose(dy, first.equals(second).choose(dy * 0.5, dy.zeros()))


@final
@record
class Maximum(_Binary):
    """The larger of two; NaN if either is. Ties share the cotangent equally."""

    name = "maximum"
    domains = ((-2.0, -0.1), (0.1, 2.0))

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term, Term]:
        return _tied(b, a, dy), _tied(a, b, dy)

    def compute(self, a: Array, b: Array) -> Array:
        return np.maximum(a, b)


@final
@record
class Minimum(_Binary):
    """The smaller of two; NaN if either is. Ties share the cotangent equally."""

    name = "minimum"
    domains = ((-2.0, -0.1), (0.1, 2.0))

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term, Term]:
        return _tied(a, b, dy), _tied(b, a, dy)

    def compute(self, a: Array, b: Array) -> Array:
        return np.minimum(a, b)


@final
@record
class FloorDivide(_Binary):
    """floor(a / b); on integers, division by 0 gives 0."""

    name = "floordiv"
    domains = ((4.1, 4.9), (1.1, 1.3))
    integer_domains = ((-9, 10), (1, 5))

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[None, None]:
        return None, None

    def compute(self, a: Array, b: Array) -> Array:
        return np.floor(np.divide(a, b)) if a.dtype.kind == "f" else np.floor_divide(a, b)


@final
@record
class Modulo(_Binary):
    """a - b * floor(a / b): the sign of b; on integers, modulo 0 gives 0."""

    name = "mod"
    domains = ((4.1, 4.9), (1.7, 1.9))
    integer_domains = ((-9, 10), (1, 5))

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[Term, Term]:
        return dy, -(dy * a.apply(FloorDivide(), b))

    def compute(self, a: Array, b: Array) -> Array:
        return np.mod(a, b)


class _Logical(_Binary):
    """A binary op on booleans."""

    accepted = BOOLEANS

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[None, None]:
        return None, None


@final
@record
class And(_Logical):
    name = "and"

    def compute(self, a: Array, b: Array) -> Array:
        return np.logical_and(a, b)


@final
@record
class Or(_Logical):
    name = "or"

    def compute(self, a: Array, b: Array) -> Array:
        return np.logical_or(a, b)


class _Comparison(_Binary):
    """A binary op whose result is boolean."""

    integer_domains = ((0, 3), (0, 3))

    def result_types(self, operands: Types) -> tuple[TensorType, ...]:
        expect_operands(self.name, operands, 2)
        expect_dtype(self.name, operands[0], self.accepted)
        expect_same_type(self.name, operands[0], operands[1])
        return (TensorType(DType.BOOL, operands[0].shape),)

    def backward(self, a: Term, b: Term, y: Term, dy: Term) -> tuple[None, None]:
        return None, None


@final
@record
class Equal(_Comparison):
    name = "eq"
    accepted = EVERY

    def compute(self, a: Array, b: Array) -> Array:
        return np.equal(a, b)


@final
@record
class NotEqual(_Comparison):
    name = "ne"
    accepted = EVERY

    def compute(self, a: Array, b: Array) -> Array:
        return np.not_equal(a, b)


@final
@record
class Less(_Comparison):
    name = "lt"

    def compute(self, a: Array, b: Array) -> Array:
        return np.less(a, b)


@final
@record
class LessEqual(_Comparison):
    name = "le"

    def compute(self, a: Array, b: Array) -> Array:
        return np.less_equal(a, b)


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
        condition, dy = Term(builder, node.operands[0]), Term(builder, cotangents[0])
        zeros = dy.zeros()
        return None, condition.choose(dy, zeros).value, condition.choose(zeros, dy).value

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        return (np.where(*operands),)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        return tuple(
            Sample(cls(), (TensorType(DType.BOOL, shape), TensorType(d, shape), TensorType(d, shape)), ranges)
            for d, ranges in ((DType.F32, ((0, 2), (-2, 2), (-2, 2))), (DType.I32, ((0, 2), (-9, 9), (-9, 9))))
            for shape in _SHAPES
        )


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
        a, b, dy = (Term(builder, v) for v in (*node.operands[:2], cotangents[0]))
        return (dy * b).value, (dy * a).value, dy.value

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        # A product of two f32 is exact in f64; the sum is rounded there and again to f32, which differs in rare ties.
        a, b, c = (x.astype(np.float64) for x in operands)
        with np.errstate(all="ignore"):
            return ((a * b + c).astype(operands[0].dtype),)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        ranges = ((-2.0, 2.0),) * 3
        return tuple(Sample(cls(), (TensorType(DType.F32, shape),) * 3, ranges) for shape in _SHAPES)


@final
@record
class Cast(Op):
    """Another element type: float to integer truncates toward 0, a boolean is 0 or 1, a number is true unless 0."""

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
        return (Term(builder, cotangents[0]).cast(source).value,)

    def evaluate(self, operands: Sequence[Array], batch: int) -> tuple[Array, ...]:
        with np.errstate(all="ignore"):
            result = operands[0].astype(numpy_dtype(self.dtype))
        return (round_to_bf16(result) if self.dtype is DType.BF16 else result,)

    @classmethod
    def samples(cls) -> tuple[Sample, ...]:
        changes: tuple[tuple[DType, DType, Range], ...] = (
            (DType.F32, DType.F64, (-2, 2)),
            (DType.F32, DType.I32, (-90, 90)),
            (DType.U8, DType.F32, (0, 255)),
            (DType.I64, DType.I32, (-90, 90)),
            (DType.BOOL, DType.F32, (0, 2)),
            (DType.I32, DType.BOOL, (0, 3)),
            (DType.F32, DType.BF16, (-2, 2)),
        )
        return tuple(Sample(cls(to), (TensorType(of, (3, 4)),), (domain,)) for of, to, domain in changes)
