"""The elementary functions in f64, as branch-free formulas on `Value`s; they keep subnormals.

f64 serves for checking, so these formulas care for accuracy first. Coefficients are minimax, by Remez's exchange on
the function divided as its formula wants.
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler.targets.llvm import math_shared as shared
from compiler.targets.llvm.assembler import (
    Formula,
    Value,
    absolute,
    at_least,
    at_most,
    fma,
    polynomial,
    round_even,
    select,
)
from compiler.targets.llvm.math_shared import INFINITY, NAN, Format

F64 = Format(
    mantissa_bits=52,
    bias=1023,
    log2_e=1.4426950408889634,
    ln2=0.6931471805599453,
    ln2_low=2.3190468138462996e-17,
    half_root_bits=0x3FE6A09E667F3BCD,
    exp_minus_one=(
        0.5,
        0.16666666666666677,
        0.04166666666666651,
        0.008333333333321702,
        0.0013888888888962268,
        0.00019841269885935466,
        2.4801587172657506e-05,
        2.755724440752297e-06,
        2.7557402605826233e-07,
        2.510896638636639e-08,
        2.087532376189271e-09,
    ),
    tanh_limit=19.1,
    error_limit=5.95,
    error=(
        -0.0033791670955125737,
        -0.6366197723675817,
        -0.10277260330190378,
        0.019128447008087253,
        0.00020919465060948003,
        -0.0016962059784451568,
        0.0005901230329174092,
        -2.5867619216983673e-05,
        -6.452685199715131e-05,
        2.9807868301936694e-05,
        -3.5617620091489788e-06,
        -2.6120516079223315e-06,
        1.485584136646071e-06,
        -1.004513708698959e-07,
        -3.1327333473880873e-07,
        2.4882255483982674e-07,
        -1.1894343797451518e-07,
        4.261634963447776e-08,
        -1.2211029794673214e-08,
        2.8711143903816524e-09,
        -5.594722970111757e-10,
        9.047414089207681e-11,
        -1.2085649039864389e-11,
        1.320200550683178e-12,
        -1.1603286942267921e-13,
        8.005630682742181e-15,
        -4.17487730954495e-16,
        1.5467160609556228e-17,
        -3.626840324323969e-19,
        4.045243249405177e-21,
    ),
)

# (log((1 + s) / (1 - s)) - 2 s) over s cubed, in powers of s squared, for |s| up to 0.1716
_LOG = (
    0.666666666666671,
    0.39999999999519886,
    0.2857142872927131,
    0.22222199092249736,
    0.18183571472063842,
    0.15313166108486484,
    0.1481050298130287,
)
# what is left of that after the term 2/3, over s squared
_LOG_TAIL = (
    0.40000000000002234,
    0.2857142857010747,
    0.2222222251870183,
    0.18181784461996534,
    0.15386753382046284,
    0.13256901928884574,
    0.13195606313001612,
)
_TWO_THIRDS, _TWO_THIRDS_LOW = 0.6666666666666666, 3.700743415417188e-17
_LOG2_E_LOW = 2.0355273740931033e-17
# as `signed_sine` wants them
_SIN = (
    -0.1666666666666664,
    0.008333333333323662,
    -0.00019841269830144425,
    2.7557313651863505e-06,
    -2.505073457259073e-08,
    1.5894710665087317e-10,
)
_COS = (
    -0.5,
    0.04166666666666665,
    -0.001388888888888284,
    2.480158729462821e-05,
    -2.7557315738670044e-07,
    2.0875897746077234e-09,
    -1.136798224706796e-11,
)
_TWO_OVER_PI = 0.6366197723675814
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
_LARGEST_ANGLE = 2.0**50


def exp(x: Value) -> Value:
    """1 ulp."""
    x = at_most(at_least(x, -750.0), 715.0)
    n = round_even(x * F64.log2_e)
    r = shared.remainder(x, n, F64)
    return _scaled(fma(polynomial(r, F64.exp_minus_one), r * r, r) + 1.0, n)


def _scaled(x: Value, n: Value) -> Value:
    """`x * 2**n` for an integer n up to 2000, in two steps, since 2**n itself may be no normal number."""
    half = round_even(n * 0.5)
    rest = n - half
    return x * shared.power_of_two(half + F64.rounder, F64) * shared.power_of_two(rest + F64.rounder, F64)


def sigmoid(x: Value) -> Value:
    """2.5 ulp."""
    power = exp(-absolute(x))
    return select(x < 0.0, power, 1.0) / (power + 1.0)


def _log_of(exponent: Value, fraction: Value) -> Value:
    """The logarithm of `2**exponent * (1 + fraction)`: that of the fraction is `f - f**2 / 2 + s (f**2 / 2 + ...)`."""
    s = fraction / (fraction + 2.0)
    square = s * s
    half_square = fraction * fraction * 0.5
    small = fma(s, fma(polynomial(square, _LOG), square, half_square), exponent * F64.ln2_low)
    return fma(exponent, F64.ln2, fraction - (half_square - small))


def _sine_of_magnitude(x: Value, quarters_ahead: int) -> Value:
    """1.5 ulp up to 2**50; NaN beyond, where neighbouring numbers are a quarter apart.

    Cody and Waite's reduction with pi / 2 in three parts; the second round catches a quarter that was off by one.
    """
    magnitude = select(absolute(x) <= _LARGEST_ANGLE, absolute(x), NAN)
    quarters = round_even(magnitude * _TWO_OVER_PI)
    high, low = _reduced_angle(magnitude, quarters)
    more = round_even(high * _TWO_OVER_PI)
    quarters = quarters + more
    high, low = _reduced_angle(magnitude, quarters)
    integer = (quarters + (1.5 * 2.0**F64.mantissa_bits + quarters_ahead)).bits()
    return shared.signed_sine(integer, high + low, _SIN, _COS, F64)


def _reduced_angle(x: Value, quarters: Value) -> tuple[Value, Value]:
    """`x - quarters * pi / 2` as a rounded number and what is left; the first step is exact."""
    first, second, third = _HALF_PI
    coarse = fma(quarters, -first, x)
    fine = fma(quarters, -second, coarse)
    left = fma(quarters, -second, coarse - fine)
    return fine, fma(quarters, -third, left)


def power(x: Value, y: Value) -> Value:
    """2 ulp. `2**(y log2|x|)`, with the logarithm and the product in pairs of numbers."""
    magnitude = absolute(x)
    high, low = _log2_pair(magnitude)
    high = select(magnitude.equals(0.0), high.like(-INFINITY), select(magnitude < INFINITY, high, magnitude))
    product = y * high
    lost = fma(y, high, -product) + y * low
    is_moderate = absolute(product) < 1100.0
    product = at_most(at_least(product, -1100.0), 1100.0)
    n = round_even(product)
    r = ((product - n) + select(is_moderate, lost, 0.0)) * F64.ln2
    raised = _scaled(fma(polynomial(r, F64.exp_minus_one), r * r, r) + 1.0, n)
    return shared.finished_power(x, y, raised, F64)


def _log2_pair(x: Value) -> tuple[Value, Value]:
    """log2 of a positive number to some 64 bits: a number and a correction."""
    exponent, fraction = shared.split_positive(x, F64)
    base, base_low = _sum_pair(fraction.like(2.0), fraction)
    s = fraction / base
    s_low = (fma(-s, base, fraction) - s * base_low) / base
    square, square_low = _product_pair(s, s)
    square_low = fma(s * 2.0, s_low, square_low)
    term, term_low = _product_pair(square, square.like(_TWO_THIRDS))
    term_low = term_low + fma(square, _TWO_THIRDS_LOW, square_low * _TWO_THIRDS)
    term_low = fma(square * square, polynomial(square, _LOG_TAIL), term_low)
    series, series_low = _sum_pair(s.like(2.0), term)
    series_low = series_low + term_low
    natural, natural_low = _product_pair(s, series)
    natural_low = natural_low + fma(s, series_low, s_low * series)
    binary, binary_low = _product_pair(natural, natural.like(F64.log2_e))
    binary_low = binary_low + fma(natural, _LOG2_E_LOW, natural_low * F64.log2_e)
    total = exponent + binary
    carried = total - exponent
    lost = (exponent - (total - carried)) + (binary - carried)
    return total, lost + binary_low


def _sum_pair(large: Value, small: Value) -> tuple[Value, Value]:
    """The rounded sum and its error, for |large| no less than |small|."""
    total = large + small
    return total, small - (total - large)


def _product_pair(a: Value, b: Value) -> tuple[Value, Value]:
    """The rounded product and its error."""
    product = a * b
    return product, fma(a, b, -product)


FUNCTIONS: Mapping[str, Formula] = {
    **shared.functions_of(F64, _log_of, _sine_of_magnitude),
    **{"exp": exp, "sigmoid": sigmoid, "pow": power},
}
