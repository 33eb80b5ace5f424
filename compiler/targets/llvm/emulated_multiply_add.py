"""Multiply-adds that are rounded once, for a machine that has none: LLVM functions over registers of 16 bytes.

Errors of additions and products are computed exactly (Dekker, "A floating-point technique for extending the available
precision", 1971), and what is below the last digit is kept as an odd last digit, so that one rounding decides (Boldo,
Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd", 2008).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compiler.machine import Machine, MultiplyAdd
from compiler.nest.ir import Type, vector
from compiler.targets.llvm.assembler import Value, absolute, copy_sign, select
from compiler.targets.llvm.multiply_add import calls_function, multiply_add
from compiler.targets.llvm.text import NAMES, SUFFIXES, Text
from compiler.types import DType

_SPLITTER = float((1 << 27) + 1)  # halves the 53 digits of an f64
_LEAST_NORMAL = 2.0**-1022
_BITS_OF_SMALL_F32 = 24  # those that an f32 below 2^-125 has
_BITS_BELOW_F32 = 29  # of an f64, below the last one of an f32
_MANTISSA_BITS, _BIAS = 52, 1023
_MANTISSA = (1 << _MANTISSA_BITS) - 1
_FAR = 110  # binary places between the operands of an addition beyond which the smaller one counts only as not 0


# LLVM calls it where no instruction rounds an f64, and C before C23 has no such function.
_ROUND_EVEN = """
define weak double @roundeven(double %x) nounwind {
  %magnitude = call double @llvm.fabs.f64(double %x)
  %large = fcmp uge double %magnitude, 4503599627370496.0
  %shifter = call double @llvm.copysign.f64(double 4503599627370496.0, double %x)
  %shifted = fadd double %x, %shifter
  %rounded = fsub double %shifted, %shifter
  %signed = call double @llvm.copysign.f64(double %rounded, double %x)
  %result = select i1 %large, double %x, double %signed
  ret double %result
}
"""
_RARE = "dlc_fma_rare_v4f32"
PROBES = ("multiply_add_f32", "multiply_add_f64")


def probes(machine: Machine) -> str:
    """Functions of a library by which its caller sees that multiply-adds are rounded once."""
    text = ""
    for name, dtype in zip(PROBES, (DType.F32, DType.F64), strict=True):
        body, type_ = Text(machine.multiply_add), vector(dtype, 1)
        written = body.let(multiply_add(body, type_, "%a", "%b", "%c"))
        float_ = NAMES[type_]
        lines = [
            f"define {float_} @model_{name}({float_} %a, {float_} %b, {float_} %c) nounwind {{",
            *body.lines,
            f"  ret {float_} {written}",
            "}",
        ]
        text += "\n".join(lines) + "\n"
    return text


def functions_for(machine: Machine) -> str:
    """The text of `dlc_fma_v4f32` and `dlc_fma_v2f64`, as far as the code of a machine calls them."""
    text = ""
    if calls_function(machine.multiply_add, DType.F32):
        text += _function("dlc_fma_v4f32", vector(DType.F32, 4), _single)
        text += _function(_RARE, vector(DType.F32, 4), _rare_single, "internal ")
    if calls_function(machine.multiply_add, DType.F64):
        text += _function("dlc_fma_v2f64", vector(DType.F64, 2), _double)
    return text + _ROUND_EVEN if machine.multiply_add is MultiplyAdd.SINGLE else text


def _function(name: str, type_: Type, formula: Callable[[Value, Value, Value], Value], linkage: str = "") -> str:
    text = Text()
    result = formula(*(Value(text, type_, operand, "v") for operand in ("%a", "%b", "%c")))
    written = NAMES[type_]
    lines = [
        f"define {linkage}{written} @{name}({written} %a, {written} %b, {written} %c) nounwind memory(none) {{",
        "entry:",
        *text.lines,
        f"  ret {written} {result.name}",
        "}",
    ]
    return "\n".join(lines) + "\n"


def _single(a: Value, b: Value, c: Value) -> Value:
    """In f64 the product is exact, and the nearest sum of 53 digits has enough for 24.

    It may have too few where it is a middle between two f32, or below 2^-125, which is rare: a function of its own
    computes these. A middle is told by its bits below the last one of an f32, which moved to the top are the least
    integer, the only one whose absolute value has a sign. An engine puts a short function in place of its calls, so it
    has no constant vectors.
    """
    text = a.text
    low, high = (product + addend for product, addend in _exact_products(a, b, c))
    usual = _demoted(low, high)
    below = _shuffled(low.cast(DType.I32), high.cast(DType.I32), (0, 2, 4, 6)) << (32 - _BITS_BELOW_F32)
    middle = below.written(f"call {NAMES[below.type]} @llvm.abs.{SUFFIXES[below.type]}({below.typed}, i1 false)")
    is_middle = _reduced("or", middle.binary("lshr", 31).differs(0))
    has_digits = _reduced("and", absolute(usual).bits().binary("lshr", _BITS_OF_SMALL_F32).differs(0))
    text.line(f"br i1 {is_middle}, label %rare, label %sized\nsized:")
    text.line(f"br i1 {has_digits}, label %done, label %rare\nrare:")
    rare = usual.written(f"call {NAMES[usual.type]} @{_RARE}({', '.join(x.typed for x in (a, b, c))})")
    text.line("br label %done")
    text.start("done")
    return usual.written(f"phi {NAMES[usual.type]} [ {usual.name}, %sized ], [ {rare.name}, %rare ]")


def _rare_single(a: Value, b: Value, c: Value) -> Value:
    """A sum of 53 digits whose last one is odd has enough for 24 digits, or fewer."""
    return _demoted(*(_odd_sum(*one) for one in _exact_products(a, b, c)))


def _exact_products(a: Value, b: Value, c: Value) -> list[tuple[Value, Value]]:
    """Product and addend in f64, of the lower two lanes and the upper two."""
    halves = [[_shuffled(x, x, lanes).widened() for x in (a, b, c)] for lanes in ((0, 1), (2, 3))]
    return [(x * y, z) for x, y, z in halves]


def _reduced(how: str, condition: Value) -> str:
    """Whether a condition holds in some lane, or in all of them."""
    return condition.text.let(f"call i1 @llvm.vector.reduce.{how}.{SUFFIXES[condition.type]}({condition.typed})")


def _shuffled(first: Value, second: Value, picks: Sequence[int]) -> Value:
    """Lanes of two vectors, those of the second behind those of the first."""
    type_ = vector(first.dtype, len(picks))
    chosen = ", ".join([f"i32 {lane}" for lane in picks])
    return first.written(f"shufflevector {first.typed}, {second.typed}, <{len(picks)} x i32> <{chosen}>", type_)


def _demoted(low: Value, high: Value) -> Value:
    """Four numbers rounded to f32; WebAssembly has an instruction for two beside zeros."""
    first, second = (_shuffled(half, half.like(0.0), range(4)).narrowed() for half in (low, high))
    return _shuffled(first, second, (0, 1, 4, 5))


def _sum(a: Value, b: Value) -> tuple[Value, Value]:
    """The sum and its error (Knuth); NaN where a sum is not finite."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _odd_sum(a: Value, b: Value) -> Value:
    """The sum rounded to odd: where it is not exact, the neighbour with an odd last digit."""
    total, error = _sum(a, b)
    bits = total.bits()
    is_even = (bits & 1).equals(0)
    outwards = ((bits ^ error.bits()) >> 63) | 1  # 1 where the error has the sign of the sum, or else -1
    return select(error.differs(0.0) & is_even, bits + outwards, bits).as_float()


def _halves(a: Value) -> tuple[Value, Value]:
    """Two numbers of at most 26 digits whose sum is `a` (Veltkamp)."""
    scaled = a * _SPLITTER
    high = scaled - (scaled - a)
    return high, a - high


def _product(a: Value, b: Value) -> tuple[Value, Value]:
    """The product and its error."""
    total = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    error = ((a_high * b_high - total) + a_high * b_low + a_low * b_high) + a_low * b_low
    return total, error


def _parts(a: Value) -> tuple[Value, Value]:
    """A finite number other than 0 as one with magnitude from 1 to 2, and its exponent."""
    is_small = absolute(a) < _LEAST_NORMAL
    bits = select(is_small, a * 2.0**54, a).bits()
    exponent = ((bits >> _MANTISSA_BITS) & 0x7FF) - _BIAS
    mantissa = ((bits & (_MANTISSA - (1 << 63))) | (_BIAS << _MANTISSA_BITS)).as_float()
    return mantissa, select(is_small, exponent - 54, exponent)


def _power(exponent: Value) -> Value:
    """2 to an exponent from -1022 to 1023."""
    return ((exponent + _BIAS) << _MANTISSA_BITS).as_float()


def _double(a: Value, b: Value, c: Value) -> Value:
    """Near 1, where nothing overflows or loses digits, and then moved to the exponent of the result."""
    (x, x_exponent), (y, y_exponent), (z, z_exponent) = _parts(a), _parts(b), _parts(c)
    # Where the addend is far above the product, the product is taken for a larger one, which rounds to the same.
    near, least = x_exponent + y_exponent, z_exponent - _FAR
    exponent = select(near > least, near, least)
    distance = z_exponent - exponent
    high, low = _product(x, y)
    top, rest = _sum(z * _power(select(distance > -2 * _FAR, distance, -2 * _FAR)), low)
    first, second = _sum(high, top)
    result = _moved(first, _odd_sum(rest, second), exponent)
    product = a * b
    result = select(_is_finite(c), select(c.equals(0.0), product, result), c)
    has_product = a.differs(0.0) & b.differs(0.0) & _is_finite(a) & _is_finite(b)
    return select(has_product, result, product + c)


def _is_finite(a: Value) -> Value:
    return (a - a).equals(0.0)


def _moved(first: Value, second: Value, exponent: Value) -> Value:
    """The sum times 2 to the exponent, rounded once; below the least normal number, to a multiple of the least one."""
    total = first + second
    limit = -1022 - exponent
    bound = _power(select(limit > -1022, limit, -1022))
    anchor = copy_sign(bound, total)  # the last digit of a number between this and its double is the least one's
    high, low = _sum(anchor, first)
    coarse = copy_sign((high + _odd_sum(low, second)) - anchor, total)
    half = exponent >> 1
    return select(absolute(total) < bound, coarse, total) * _power(half) * _power(exponent - half)
