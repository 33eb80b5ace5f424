"""The remainder and the flooring quotient of floats as LLVM instructions: exact, however far apart the operands are.

The remainder of magnitudes is found as in long division: from what is left, the largest multiple of `b * 2**k` is
taken away, with a k that leaves a quotient of at most 52 bits, until k is 0. Each step is exact: what is left is always
a multiple of the last digit of `b * 2**k`, and less than it. The arithmetic is that of f64 for f32 too, where one step
takes off 51 bits, and five are the most. Signs and the quotient follow NumPy's `mod` and `floor_divide`, to the bit.
"""

from __future__ import annotations

from compiler.nest.ir import INDEX
from compiler.targets.llvm.assembler import Value, absolute, copy_sign, floor, fma, select
from compiler.targets.llvm.text import NAMES, SUFFIXES
from compiler.types import DType

_MANTISSA_BITS, _BIAS, _SMALLEST_NORMAL = 52, 1023, 2.0**-1022
_STEP = 51  # bits of the quotient that one step takes off
_INFINITY, _NAN = float("inf"), float("nan")


def float_division(name: str, x: Value, y: Value) -> Value:
    """`mod` or `floordiv` of two floats of one type."""
    valid = (absolute(x) < _INFINITY) & (absolute(y) > 0.0)
    rest = copy_sign(_remainder_of_magnitudes(x, y), x)
    has_rest = absolute(rest) > 0.0
    apart = has_rest & ((x < 0.0) ^ (y < 0.0))
    if name == "mod":
        moved = select(apart, rest + y, select(has_rest, rest, copy_sign(y.like(0.0), y)))
        return select(valid, moved, _NAN)
    return select(valid, _quotient(x, y, rest, apart), select(y.equals(0.0), x / y, _NAN))


def _quotient(x: Value, y: Value, rest: Value, apart: Value) -> Value:
    """The whole number nearest to (x - rest) / y, which rounding may have moved off it; one less where signs differ."""
    divided = (x - rest) / y
    divided = select(apart, divided - 1.0, divided)
    whole = floor(divided)
    whole = select(divided - whole > 0.5, whole + 1.0, whole)
    return select(divided.equals(0.0), copy_sign(y.like(0.0), (x.bits() ^ y.bits()).as_float()), whole)


def _remainder_of_magnitudes(x: Value, y: Value) -> Value:
    """|x| modulo |y| in the type of both, from 0 to below |y|; any number where it is not defined."""
    is_single = x.dtype is not DType.F64
    a, b = (absolute(v.widened() if is_single else v) for v in (x, y))
    is_usual = (a < _INFINITY) & (b > 0.0) & (b < _INFINITY)
    divisor, begin = select(is_usual, b, 1.0), select(is_usual, a, 0.0)
    exponent = _exponent_of_divisor(divisor, is_single)
    steps = (_largest(_exponent(begin) - exponent) + _STEP).binary("sdiv", _STEP)

    def step(_: str, carried: list[str]) -> list[str]:
        rest = begin.named(carried[0])
        places = _exponent(rest) - exponent - _STEP
        scaled = _raised(divisor, select(places > 0, places, 0), is_single)
        rest = fma(-floor(rest / scaled), scaled, rest)
        rest = select(rest < 0.0, rest + scaled, rest)  # where the rounded quotient reached the next whole number
        return [rest.name]

    (name,) = x.text.loop("0", steps.name, 1, [(NAMES[begin.type], begin.name)], step, rounds=1)
    rest = select(b.equals(_INFINITY), a, begin.named(name))
    return rest.narrowed() if is_single else rest


def _largest(numbers: Value) -> Value:
    """The largest lane of i64, a scalar."""
    name, text = numbers.name, numbers.text
    if numbers.type.lanes > 1:
        name = text.let(f"call i64 @llvm.vector.reduce.smax.{SUFFIXES[numbers.type]}({numbers.typed})")
    return Value(text, INDEX, name, "v")


def _exponent(x: Value) -> Value:
    """The biased exponent of a number that is not negative; 0 for subnormal ones."""
    return x.bits() >> _MANTISSA_BITS


def _exponent_of_divisor(b: Value, is_single: bool) -> Value:
    """The biased exponent of a positive number, below 1 for a subnormal one, which no f32 is as an f64."""
    if is_single:
        return _exponent(b)
    is_small = b < _SMALLEST_NORMAL
    return _exponent(select(is_small, b * 2.0**54, b)) - select(is_small, b.bits().like(54), 0)


def _raised(b: Value, places: Value, is_single: bool) -> Value:
    """`b * 2**places`, in two steps where a power of two alone may be infinite."""
    if is_single:
        return b * _power_of_two(places)
    half = places >> 1
    return b * _power_of_two(half) * _power_of_two(places - half)


def _power_of_two(n: Value) -> Value:
    return ((n + _BIAS) << _MANTISSA_BITS).as_float()
