"""Formulas written with Python operators to straight-line LLVM text: the instructions of a vector or scalar function.

A `Value` stands for one SSA value; each operation on values appends an instruction to the `Text` of their function.
Python numbers among the operands become constants of the other operand's type. Lanes do not interact, and one lane is
written without a vector type, so a scalar gets the bits that a lane of a vector would get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from compiler.machine import MultiplyAdd
from compiler.nest.ir import Type, vector
from compiler.support.record import record
from compiler.targets.llvm.multiply_add import multiply_add
from compiler.targets.llvm.text import NAMES, SUFFIXES, Text, constant
from compiler.types import DType

Number: TypeAlias = "Value | float"
Formula: TypeAlias = "Callable[..., Value]"

_INTEGER_OF = {DType.F32: DType.I32, DType.F64: DType.I64}
_FLOAT_OF = {DType.I32: DType.F32, DType.I64: DType.F64}


def _infix(instruction: str) -> Callable[[Value, Number], Value]:
    return lambda left, right: left.binary(instruction, right)


def _reflected(instruction: str) -> Callable[[Value, float], Value]:
    return lambda right, left: right.like(left).binary(instruction, right)


def _related(floats: str, integers: str) -> Callable[[Value, Number], Value]:
    return lambda left, right: left.compared(floats, integers, right)


@record(eq=False)
class Value:
    """One SSA value or constant; names of what is made of it begin with `stem`.

    Comparisons are ordered: false where an operand is NaN.
    """

    text: Text
    type: Type
    name: str
    stem: str

    @property
    def dtype(self) -> DType:
        assert self.type.dtype is not None
        return self.type.dtype

    @property
    def typed(self) -> str:
        """The value as the first operand of an instruction."""
        return f"{NAMES[self.type]} {self.name}"

    def written(self, instruction: str, type_: Type | None = None) -> Value:
        """Append an instruction, whose result has the type of this value or another."""
        return Value(self.text, type_ or self.type, self.text.let(instruction, self.stem), self.stem)

    def named(self, name: str) -> Value:
        """A value of this type that has its name already."""
        return Value(self.text, self.type, name, self.stem)

    def like(self, number: Number) -> Value:
        """`number` as a value of this type."""
        return number if isinstance(number, Value) else self.named(constant(self.type, number))

    def binary(self, instruction: str, other: Number) -> Value:
        """The instruction of both, or that for floats, which begins with an `f`."""
        operation = f"f{instruction}" if self.dtype.is_float else instruction
        return self.written(f"{operation} {self.typed}, {self.like(other).name}")

    __add__, __sub__, __mul__, __truediv__ = map(_infix, ("add", "sub", "mul", "div"))
    __and__, __or__, __xor__ = map(_infix, ("and", "or", "xor"))
    __lshift__, __rshift__ = map(_infix, ("shl", "ashr"))  # the arithmetic shift keeps the sign
    __radd__, __rsub__, __rmul__, __rtruediv__ = map(_reflected, ("add", "sub", "mul", "div"))

    def __neg__(self) -> Value:
        return self.written(f"fneg {self.typed}") if self.dtype.is_float else 0 - self

    def __invert__(self) -> Value:
        return self ^ True

    def compared(self, floats: str, integers: str, other: Number) -> Value:
        """A relation to another value, by its names for floats and for integers."""
        operation = f"fcmp {floats}" if self.dtype.is_float else f"icmp {integers}"
        return self.written(f"{operation} {self.typed}, {self.like(other).name}", vector(DType.BOOL, self.type.lanes))

    __lt__, __gt__, __le__ = map(_related, ("olt", "ogt", "ole"), ("slt", "sgt", "sle"))
    equals, differs = map(_related, ("oeq", "one"), ("eq", "ne"))

    def is_ordered(self) -> Value:
        """Whether this is not NaN."""
        return self.compared("ord", "eq", 0.0)

    def is_nan(self) -> Value:
        return self.compared("uno", "ne", self)

    def bits(self) -> Value:
        """The bits of a float as an integer."""
        return self.converted("bitcast", _INTEGER_OF[self.dtype])

    def as_float(self) -> Value:
        """The float with these bits."""
        return self.converted("bitcast", _FLOAT_OF[self.dtype])

    def cast(self, dtype: DType) -> Value:
        """The bits of the whole vector as elements of another type."""
        type_ = vector(dtype, self.type.lanes * self.dtype.size // dtype.size)
        return self.written(f"bitcast {self.typed} to {NAMES[type_]}", type_)

    def to_float(self) -> Value:
        """The integer's value as a float of its width, rounded."""
        return self.converted("sitofp", _FLOAT_OF[self.dtype])

    def widened(self) -> Value:
        return self.converted("fpext", DType.F64)

    def narrowed(self) -> Value:
        return self.converted("fptrunc", DType.F32)

    def converted(self, operation: str, dtype: DType) -> Value:
        type_ = vector(dtype, self.type.lanes)
        return self.written(f"{operation} {self.typed} to {NAMES[type_]}", type_)

    def relabelled(self, dtype: DType) -> Value:
        """The same bits, as elements of a type that has the same registers."""
        return Value(self.text, vector(dtype, self.type.lanes), self.name, self.stem)

    def in_lanes(self, lanes: int) -> Value:
        """The scalar in each of so many lanes."""
        if lanes == 1:
            return self
        type_ = vector(self.dtype, lanes)
        name = NAMES[type_]
        first = self.written(f"insertelement {name} poison, {self.typed}, i64 0", type_)
        return first.written(f"shufflevector {first.typed}, {name} poison, <{lanes} x i32> zeroinitializer")


def call(intrinsic: str, *operands: Value) -> Value:
    """A call of `llvm.<intrinsic>` whose operands and result have one type. LLVM declares intrinsics by itself."""
    first = operands[0]
    listed = ", ".join([operand.typed for operand in operands])
    return first.written(f"call {NAMES[first.type]} @llvm.{intrinsic}.{SUFFIXES[first.type]}({listed})")


def fma(a: Value, b: Number, c: Number) -> Value:
    """`a * b + c`, rounded once."""
    return a.written(multiply_add(a.text, a.type, a.name, a.like(b).name, a.like(c).name))


# `round_even` gives the nearest integer, the even one of two that are equally near.
absolute, copy_sign, floor, round_even, square_root = (
    partial(call, name) for name in ("fabs", "copysign", "floor", "roundeven", "sqrt")
)


def reciprocal_square_root(x: Value) -> Value:
    """Rounded twice, which is 1.5 ulp."""
    return 1.0 / square_root(x)


def select(condition: Value, yes: Number, no: Number) -> Value:
    """`yes` in the lanes where `condition` holds, else `no`; one of the two must be a `Value`.

    With relaxed instructions of WebAssembly, floats are selected by their bits: of a comparison and a selection of
    floats LLVM makes a relaxed minimum or maximum, which loses a NaN in some engines.
    """
    model = yes if isinstance(yes, Value) else no
    assert isinstance(model, Value)
    if model.text.multiply_add is MultiplyAdd.RELAXED and model.dtype in _INTEGER_OF and model.type.lanes > 1:
        first, second = model.like(yes).bits(), model.like(no).bits()
        mask = condition.converted("sext", first.dtype)
        return (mask & first | (mask ^ -1) & second).as_float()
    return model.written(f"select {condition.typed}, {model.like(yes).typed}, {model.like(no).typed}")


def at_least(x: Value, low: float) -> Value:
    """The larger of the two; NaN stays NaN, which `llvm.maxnum` would lose. One instruction on x86."""
    return select(x.like(low) > x, low, x)


def at_most(x: Value, high: float) -> Value:
    """The smaller of the two; NaN stays NaN."""
    return select(x.like(high) < x, high, x)


def polynomial(x: Value, coefficients: Sequence[float]) -> Value:
    """Horner's scheme; the constant term comes first."""
    *rest, second, first = coefficients
    result = fma(x, first, second)
    for coefficient in reversed(rest):
        result = fma(result, x, coefficient)
    return result
