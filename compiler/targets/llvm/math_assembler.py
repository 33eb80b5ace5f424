"""Formulas written with Python operators to straight-line LLVM text: the instructions of a vector or scalar function.

A `Value` stands for one SSA value of a fixed number of lanes; each operation on values appends an instruction to their
`Block`. Python numbers among the operands become constants of the other operand's kind. Lanes do not interact, and one
lane is written without a vector type, so a scalar gets the bits that a lane of a vector would get.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from compiler.support.record import mutable_record, record

Kind: TypeAlias = Literal["float", "double", "i1", "i32", "i64"]
Number: TypeAlias = "Value | float"
Unary: TypeAlias = "Callable[[Value], Value]"

_SUFFIX: dict[Kind, str] = {"float": "f32", "double": "f64", "i1": "i1", "i32": "i32", "i64": "i64"}
_INTEGER_OF: dict[Kind, Kind] = {"float": "i32", "double": "i64"}
_FLOAT_OF: dict[Kind, Kind] = {"i32": "float", "i64": "double"}


@mutable_record
class Block:
    """The instructions written so far; `fresh` gives names that are new to the function around them."""

    lanes: int
    fresh: Callable[[], str]
    lines: list[str]

    def type_of(self, kind: Kind) -> str:
        return kind if self.lanes == 1 else f"<{self.lanes} x {kind}>"

    def constant(self, kind: Kind, number: float) -> Value:
        """The same number in each lane, rounded to the kind."""
        text = _literal(kind, number)
        return Value(self, kind, text if self.lanes == 1 else f"splat ({kind} {text})")

    def write(self, kind: Kind, instruction: str) -> Value:
        name = self.fresh()
        self.lines.append(f"{name} = {instruction}")
        return Value(self, kind, name)

    def call(self, intrinsic: str, *operands: Value) -> Value:
        """A call of `llvm.<intrinsic>` whose operands and result have one type. LLVM declares intrinsics by itself."""
        kind = operands[0].kind
        suffix = _SUFFIX[kind] if self.lanes == 1 else f"v{self.lanes}{_SUFFIX[kind]}"
        of_type = self.type_of(kind)
        listed = ", ".join(f"{of_type} {operand.text}" for operand in operands)
        return self.write(kind, f"call {of_type} @llvm.{intrinsic}.{suffix}({listed})")


def _literal(kind: Kind, number: float) -> str:
    match kind:
        case "i1" | "i32" | "i64":
            return str(int(number))
        case "float":
            number = struct.unpack("<f", struct.pack("<f", number))[0]
        case "double":
            pass
    return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"


@record(eq=False)
class Value:
    """One SSA value or constant. Comparisons are ordered: false where an operand is NaN."""

    block: Block
    kind: Kind
    text: str

    @property
    def type(self) -> str:
        return self.block.type_of(self.kind)

    @property
    def is_float(self) -> bool:
        return self.kind in _INTEGER_OF

    def like(self, number: Number) -> Value:
        """`number` as a value of this kind."""
        return number if isinstance(number, Value) else self.block.constant(self.kind, number)

    def _binary(self, instruction: str, left: Number, right: Number) -> Value:
        operation = f"f{instruction}" if self.is_float else instruction
        return self.block.write(self.kind, f"{operation} {self.type} {self.like(left).text}, {self.like(right).text}")

    def __add__(self, other: Number) -> Value:
        return self._binary("add", self, other)

    def __radd__(self, other: float) -> Value:
        return self._binary("add", other, self)

    def __sub__(self, other: Number) -> Value:
        return self._binary("sub", self, other)

    def __rsub__(self, other: float) -> Value:
        return self._binary("sub", other, self)

    def __mul__(self, other: Number) -> Value:
        return self._binary("mul", self, other)

    def __rmul__(self, other: float) -> Value:
        return self._binary("mul", other, self)

    def __truediv__(self, other: Number) -> Value:
        return self._binary("div", self, other)

    def __rtruediv__(self, other: float) -> Value:
        return self._binary("div", other, self)

    def __neg__(self) -> Value:
        return self.block.write(self.kind, f"fneg {self.type} {self.text}")

    def __and__(self, other: Number) -> Value:
        return self._binary("and", self, other)

    def __or__(self, other: Number) -> Value:
        return self._binary("or", self, other)

    def __xor__(self, other: Number) -> Value:
        return self._binary("xor", self, other)

    def __lshift__(self, places: int) -> Value:
        return self._binary("shl", self, places)

    def __rshift__(self, places: int) -> Value:
        """The arithmetic shift, which keeps the sign."""
        return self._binary("ashr", self, places)

    def _compare(self, relation: str, other: Number) -> Value:
        operation = f"fcmp {relation}" if self.is_float else f"icmp {relation}"
        return self.block.write("i1", f"{operation} {self.type} {self.text}, {self.like(other).text}")

    def __lt__(self, other: Number) -> Value:
        return self._compare("olt" if self.is_float else "slt", other)

    def __gt__(self, other: Number) -> Value:
        return self._compare("ogt" if self.is_float else "sgt", other)

    def __le__(self, other: Number) -> Value:
        return self._compare("ole" if self.is_float else "sle", other)

    def __ge__(self, other: Number) -> Value:
        return self._compare("oge" if self.is_float else "sge", other)

    def equals(self, other: Number) -> Value:
        return self._compare("oeq" if self.is_float else "eq", other)

    def differs(self, other: Number) -> Value:
        return self._compare("one" if self.is_float else "ne", other)

    def is_ordered(self) -> Value:
        """Whether this is not NaN."""
        return self._compare("ord", 0.0)

    def bits(self) -> Value:
        """The bits of a float as an integer."""
        return self._convert("bitcast", _INTEGER_OF[self.kind])

    def as_float(self) -> Value:
        """The float with these bits."""
        return self._convert("bitcast", _FLOAT_OF[self.kind])

    def to_float(self) -> Value:
        """The integer's value as a float of its width, rounded."""
        return self._convert("sitofp", _FLOAT_OF[self.kind])

    def widened(self) -> Value:
        return self._convert("fpext", "double")

    def narrowed(self) -> Value:
        return self._convert("fptrunc", "float")

    def _convert(self, operation: str, kind: Kind) -> Value:
        return self.block.write(kind, f"{operation} {self.type} {self.text} to {self.block.type_of(kind)}")


def fma(a: Value, b: Number, c: Number) -> Value:
    """`a * b + c`, rounded once."""
    return a.block.call("fma", a, a.like(b), a.like(c))


def absolute(x: Value) -> Value:
    return x.block.call("fabs", x)


def copy_sign(magnitude: Value, sign: Value) -> Value:
    return magnitude.block.call("copysign", magnitude, sign)


def floor(x: Value) -> Value:
    return x.block.call("floor", x)


def round_even(x: Value) -> Value:
    """The nearest integer, the even one of two that are equally near."""
    return x.block.call("roundeven", x)


def square_root(x: Value) -> Value:
    return x.block.call("sqrt", x)


def reciprocal_square_root(x: Value) -> Value:
    """Rounded twice, which is 1.5 ulp."""
    return 1.0 / square_root(x)


def select(condition: Value, yes: Number, no: Number) -> Value:
    """`yes` in the lanes where `condition` holds, else `no`; one of the two must be a `Value`."""
    model = yes if isinstance(yes, Value) else no
    assert isinstance(model, Value)
    pair = f"{model.type} {model.like(yes).text}, {model.type} {model.like(no).text}"
    return model.block.write(model.kind, f"select {condition.type} {condition.text}, {pair}")


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
