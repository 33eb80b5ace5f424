"""The formulas that f32 and f64 have in common; a `Format` holds their numbers for an element type."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from compiler.support.record import record
from compiler.targets.llvm.assembler import (
    Formula,
    Value,
    absolute,
    at_least,
    at_most,
    copy_sign,
    floor,
    fma,
    polynomial,
    reciprocal_square_root,
    select,
    square_root,
)

INFINITY, NAN = float("inf"), float("nan")


@record
class Format:
    """A float type's layout, and constants of the formulas that are fitted to its precision.

    `ln2 + ln2_low` is ln 2 to twice the precision. `exp_minus_one` are the coefficients of (exp(r) - 1 - r) over r
    squared for |r| up to ln(2) / 2; `error` those of log(1 - erf(x)) over x, plus 1.125, for x from 0 to `error_limit`.
    From the two limits on, tanh and erf round to 1. `half_root_bits` are those of sqrt(1/2).
    """

    mantissa_bits: int
    bias: int
    log2_e: float
    ln2: float
    ln2_low: float
    half_root_bits: int
    exp_minus_one: tuple[float, ...]
    tanh_limit: float
    error_limit: float
    error: tuple[float, ...]

    @property
    def rounder(self) -> float:
        """Adding it rounds to an integer, which then stands in the lowest bits, biased as an exponent."""
        return 1.5 * 2.0**self.mantissa_bits + self.bias

    @property
    def lowest_exponent_bit(self) -> int:
        return 1 << self.mantissa_bits

    @property
    def sign_bit(self) -> int:
        return -(2 ** (31 if self.mantissa_bits < 32 else 63))

    @property
    def smallest_normal(self) -> float:
        return 2.0 ** (1 - self.bias)

    @property
    def beyond_exp(self) -> float:
        """An x whose exp is just too large to be finite."""
        return (self.bias + 1) * self.ln2 + 0.25


def functions_of(form: Format, log_of: Formula, sine_of_magnitude: Formula) -> Mapping[str, Formula]:
    """The functions that have one formula for both types, by their names. They are accurate to 2 ulp in either.

    `log_of` is the logarithm of `2**exponent * (1 + fraction)`; `sine_of_magnitude` the sine of |x| and of so many
    quarter turns more.
    """
    of_format = {function.__name__: partial(function, form=form) for function in (expm1, tanh, erf)}
    logarithms = {function.__name__: partial(function, log_of=log_of, form=form) for function in (log, log1p)}

    def sin(x: Value) -> Value:
        """Negated where x is negative."""
        return (sine_of_magnitude(x, 0).bits() ^ (x.bits() & form.sign_bit)).as_float()

    waves = {"sin": sin, "cos": partial(sine_of_magnitude, quarters_ahead=1)}
    return {**of_format, **logarithms, **waves, "sqrt": square_root, "rsqrt": reciprocal_square_root}


def tanh(x: Value, form: Format) -> Value:
    """`-e / (e + 2)` with e = exp(-2|x|) - 1: numerator and denominator are each rounded once."""
    change, scale = reduced_change(at_most(absolute(x), form.tanh_limit) * -2.0, form)
    return copy_sign(fma(change, scale, scale - 1.0) / fma(change, scale, scale + 1.0), x)


def expm1(x: Value, form: Format) -> Value:
    """exp(x) - 1, as twice its half: where that is the largest power of two, the power itself would be infinite."""
    bounded = at_most(at_least(x, -40.0), form.beyond_exp)
    shifted = fma(bounded, form.log2_e, form.rounder)
    r = remainder(bounded, shifted - form.rounder, form)
    change, half = fma(polynomial(r, form.exp_minus_one), r * r, r), power_of_two(shifted - 1.0, form)
    result = fma(change, half, half - 0.5) * 2.0
    return select(absolute(x) < 2.0 ** -(form.mantissa_bits + 2), x, result)  # whose half may be subnormal


def erf(x: Value, form: Format) -> Value:
    """`1 - exp(y)` with y = log(1 - erf|x|), a smooth function."""
    magnitude = at_most(absolute(x), form.error_limit)
    scaled = magnitude * 2.0**30  # lest the second product is subnormal
    y = fma(scaled, -1.125, scaled * polynomial(magnitude, form.error)) * 2.0**-30
    change, scale = reduced_change(y, form)
    return copy_sign(fma(change, scale, scale - 1.0), x)


def power_of_two(shifted: Value, form: Format) -> Value:
    """2**n of a sum `n + rounder`: 0 for the exponent below the smallest normal one, infinite above the largest."""
    return (shifted.bits() << form.mantissa_bits).as_float()


def remainder(x: Value, n: Value, form: Format) -> Value:
    """`x - n ln 2`. The first step is exact."""
    return fma(n, -form.ln2_low, fma(n, -form.ln2, x))


def reduced_change(x: Value, form: Format) -> tuple[Value, Value]:
    """`c` and `s = 2**n` with exp(x) = s + c s, where s is a normal number; exp(x) - 1 stays accurate around zero."""
    shifted = fma(x, form.log2_e, form.rounder)
    r = remainder(x, shifted - form.rounder, form)
    return fma(polynomial(r, form.exp_minus_one), r * r, r), power_of_two(shifted, form)


def split(x: Value, form: Format) -> tuple[Value, Value]:
    """The integer exponent, and the mantissa in [sqrt(1/2), sqrt(2)], of a positive normal number; else any number."""
    exponent = (x.bits() - form.half_root_bits) >> form.mantissa_bits
    return exponent, (x.bits() - (exponent << form.mantissa_bits)).as_float()


def split_positive(x: Value, form: Format) -> tuple[Value, Value]:
    """The exponent as a float, and the mantissa in [sqrt(1/2), sqrt(2)] minus 1, of a positive number."""
    places = form.mantissa_bits + 2
    is_small = x < form.smallest_normal
    exponent, mantissa = split(select(is_small, x * 2.0**places, x), form)
    scale = exponent.to_float()
    return select(is_small, scale - float(places), scale), mantissa - 1.0


def log(x: Value, log_of: Formula, form: Format) -> Value:
    """1 ulp. `log_of` serves finite positive x."""
    result = log_of(*split_positive(x, form))
    result = select(x < INFINITY, result, x)
    return select(x > 0.0, result, select(x.equals(0.0), x.like(-INFINITY), NAN))


def log1p(x: Value, log_of: Formula, form: Format) -> Value:
    """log(1 + x), to 2 ulp in f64 and 1.5 in f32. `log_of` serves finite x above -1.

    What the sum rounds away is added again, at the scale of the mantissa.
    """
    total = x + 1.0
    lost = x - (total - 1.0)
    exponent, mantissa = split(total, form)
    scale = (form.bias - exponent) << form.mantissa_bits
    smallest = form.lowest_exponent_bit
    scale = select(scale < smallest, smallest, scale).as_float()  # nothing is lost where 2**-exponent is not normal
    fraction = fma(lost, scale, mantissa - 1.0)
    result = log_of(exponent.to_float(), fraction)
    result = select(x < INFINITY, result, x)
    result = select(x > -1.0, result, select(x.equals(-1.0), x.like(-INFINITY), NAN))
    return select(x.equals(0.0), x, result)


def signed_sine(
    quarter: Value, angle: Value, sine: tuple[float, ...], cosine: tuple[float, ...], form: Format
) -> Value:
    """The sine of `angle`, which is at most pi / 4 off zero, plus as many quarter turns as `quarter` says, an integer.

    Coefficients of (sin(r) - r) over r cubed and (cos(r) - 1) over r squared, both in powers of r squared.
    """
    square = angle * angle
    even = fma(angle * square, polynomial(square, sine), angle)
    odd = fma(square, polynomial(square, cosine), 1.0)
    chosen = select((quarter & 1).equals(0), even, odd)
    negative = (quarter & 2) << (30 if form.mantissa_bits < 32 else 62)
    return (chosen.bits() ^ negative).as_float()


def finished_power(x: Value, y: Value, raised: Value, form: Format) -> Value:
    """x to the power of y by IEEE 754's rules, given the power of x's magnitude."""
    half = y * 0.5
    odd = floor(y).equals(y) & floor(half).differs(half)
    one = (absolute(x).equals(1.0) & y.is_ordered()) | y.equals(0.0)
    raised = select(one, 1.0, raised)
    raised = (raised.bits() ^ select(odd, x.bits() & form.sign_bit, 0)).as_float()
    undefined = (x < 0.0) & (x > -INFINITY) & floor(y).differs(y)
    raised = select(undefined, raised.like(NAN), raised)
    return select(x.equals(1.0), 1.0, raised)
