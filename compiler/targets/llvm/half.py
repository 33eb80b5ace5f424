"""Numbers of f16 are 16 bits in a register of integers; instructions of integers convert them, on all processors alike.

Only f32 is computed with: of whole numbers below 1024, and in one addition that rounds.
"""

from __future__ import annotations

from compiler.targets.llvm.assembler import Value, select
from compiler.types import DType

_FIELD = 10  # bits of the fraction of f16
_MORE = 13  # bits that a fraction of f32 has more
_LEAST_NORMAL = 113 << 23  # 2^-14, as bits of f32
_OVERFLOW = 143 << 23  # 2^16: what is below, and does not fit, is rounded to infinity
_SPECIAL = 0x1F << _FIELD  # infinity; above are NaN


def from_half(x: Value) -> Value:
    """f16 as f32, which holds each of its numbers."""
    word = x.converted("zext", DType.I32)
    size = word & 0x7FFF
    special = select(size < _SPECIAL, size.like(112 << 23), 224 << 23)
    normal = (size << _MORE) + special
    subnormal = (size.to_float() * 2.0**-24).bits()
    bits = select(size < 1 << _FIELD, subnormal, normal)
    return (bits | (word & 0x8000) << 16).as_float()


def to_half(x: Value) -> Value:
    """A number as f16, rounded once to the nearest, the even one of two that are equally near; each NaN is the same."""
    from compiler.targets.llvm.emit_compute import cast

    if x.dtype is DType.F64:
        return _rounded(*_from_double(x))
    x = cast(x, DType.F32)  # of integers, exact where the result is finite
    bits = x.bits()
    return _rounded(bits & 0x7FFFFFFF, bits.binary("lshr", 16) & 0x8000)


def _from_double(x: Value) -> tuple[Value, Value]:
    """The bits of the size of an f64 as an f32 and the sign of an f16, with what f32 leaves off in its last bit.

    Such a number, rounded to odd, rounds to f16 as the f64 does (Boldo and Melquiond 2008). What is too small or too
    large for f16 by far is any such number.
    """
    wide = x.bits()
    size = wide & 0x7FFFFFFFFFFFFFFF
    rest = select((size & (1 << 29) - 1).differs(0), size.like(1), 0)
    top = (size.binary("lshr", 29) | rest) - (896 << 23)
    tiny, huge = size < (983 << 52), size > (1039 << 52) - 1  # 2^-40 and 2^16
    bits = select(tiny, 0, select(huge, _OVERFLOW, top))
    bits = select(size > (2047 << 52), 0x7FC00000, bits)
    sign = wide.binary("lshr", 48) & 0x8000
    return bits.converted("trunc", DType.I32), sign.converted("trunc", DType.I32)


def _rounded(size: Value, sign: Value) -> Value:
    """The f16 next to a number of f32, from the bits of its size; the sign stands where f16 has it."""
    near = size - (112 << 23)
    odd = near.binary("lshr", _MORE) & 1
    normal = (near + ((1 << _MORE - 1) - 1) + odd).binary("lshr", _MORE)
    # the last bit of a sum with 0.5 is 2^-24, as that of a subnormal f16
    subnormal = (size.as_float() + 0.5).bits() - (126 << 23)
    finite = select(size < _LEAST_NORMAL, subnormal, normal)
    found = select(size < _OVERFLOW, finite, _SPECIAL) | sign
    found = select(size > (255 << 23), _SPECIAL | 1 << _FIELD - 1, found)
    return found.converted("trunc", DType.I16).relabelled(DType.F16)
