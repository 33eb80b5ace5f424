"""The elementary functions in f32, as branch-free formulas on `Value`s.

Accuracy is stated in units in the last place (ulp) over all finite inputs; a power below the smallest normal number is
zero.

Coefficients are minimax: Remez's exchange or Lawson's reweighting on the function divided as its formula wants, in
higher precision; then each coefficient is rounded to f32, low orders first, and the higher ones are fitted again to
what the rounding left.
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
    floor,
    fma,
    polynomial,
    round_even,
    select,
)
from compiler.targets.llvm.math_shared import INFINITY, Format

F32 = Format(
    mantissa_bits=23,
    bias=127,
    log2_e=1.44269502,
    ln2=0.693147182,
    ln2_low=-1.90465421e-9,
    half_root_bits=0x3F3504F3,
    exp_minus_one=(0.49999997, 0.166665226, 0.0416676067, 0.00836923998, 0.00138559705),
    tanh_limit=9.1,
    error_limit=3.95,
    error=(
        -0.00337917171,
        -0.636619389,
        -0.102777719,
        0.0191525836,
        0.000161331191,
        -0.00166797778,
        0.000633359945,
        -0.000117789037,
        9.27305155e-06,
    ),
)

# (exp(r) - 1) over r for r in [0, ln 2]; (exp(r) - 1 - r) over r squared for |r| up to ln(2) / 2. Against exp(r), both.
_EXP_FROM_ZERO = (0.999999821, 0.500005543, 0.166611701, 0.0419110395, 0.00779688871, 0.00194673217)
_EXP = (0.49999994, 0.166665226, 0.0416681916, 0.00836852379, 0.00138271111)
# (log(1 + f) - f + f**2 / 2) over f cubed, for 1 + f in [sqrt(1/2), sqrt(2)]
_LOG = (0.333333313, -0.250008225, 0.200012609, -0.166233346, 0.142009512, -0.131594613, 0.127661675, -0.0764151812)
# (2**r - 1) over r, for r in [0, 1]
_EXP2 = (0.693147063, 0.240229085, 0.0554861836, 0.00967377517, 0.00124822895, 0.000215659718)
# log2(1 + f) over f, in f64 to 36 bits, for 1 + f in [sqrt(1/2), sqrt(2)]
_LOG2 = (
    1.4426950408687047,
    -0.7213475208685836,
    0.4808983613955425,
    -0.3606736748520749,
    0.2885372934674155,
    -0.24045316449914078,
    0.20617535908797782,
    -0.18030062321805637,
    0.15876982037619106,
    -0.1431562604771319,
    0.14474818977103712,
    -0.14284000260302848,
    0.07737147340023644,
)
# as `signed_sine` wants them
_SIN = (-0.166666552, 0.00833218917, -0.000195182845)
_COS = (-0.5, 0.0416666456, -0.00138873106, 2.44325638e-05)
_TWO_PI = 6.283185307179586
# 1 / (2 pi) as a sum of numbers of 29 bits, whose products with an f32 are exact in f64
_TURNS = (
    0.15915494272485375,
    3.6704158115630214e-10,
    5.690025167992954e-19,
    1.4703036846932608e-27,
    2.5867171752090537e-36,
    9.458140956031951e-46,
    1.4708218444195795e-54,
)


def exp(x: Value) -> Value:
    """1.5 ulp. `x = n ln 2 + r` with r in [0, ln 2], so that n spans exactly the exponents that a float can have."""
    x = at_most(at_least(x, -88.0), 89.0)
    # Half of ln 2, rounded down: 0 gives n = 0, and the largest argument of a finite result gives n = 127.
    shifted = fma(x - 0.34657353, F32.log2_e, F32.rounder)
    r = shared.remainder(x, shifted - F32.rounder, F32)
    return polynomial(r, (1.0, *_EXP_FROM_ZERO)) * shared.power_of_two(shifted, F32)


def sigmoid(x: Value) -> Value:
    """2.5 ulp; 2 below -18 and above -16."""
    x = at_most(at_least(x, -89.0), 87.0)
    shifted = fma(x, -F32.log2_e, F32.rounder)
    r = shared.remainder(-x, shifted - F32.rounder, F32)
    power = fma(polynomial(r, _EXP), r * r, r) + 1.0
    return 1.0 / fma(power, shared.power_of_two(shifted, F32), 1.0)


def _log_of(exponent: Value, fraction: Value) -> Value:
    """The logarithm of `2**exponent * (1 + fraction)`."""
    square = fraction * fraction
    small = fma(square * fraction, polynomial(fraction, _LOG), exponent * F32.ln2_low)
    return fma(exponent, F32.ln2, fraction + fma(square, -0.5, small))


def _sine_of_magnitude(x: Value, quarters_ahead: int) -> Value:
    """1.6 ulp.

    Payne and Hanek's reduction: |x| / (2 pi) modulo 1 is summed from exact products, each of them modulo 1.
    """
    wide = absolute(x).widened()
    turns = wide.like(0.0)
    for part in reversed(_TURNS):
        product = wide * part
        turns = turns + (product - round_even(product))
    turns = turns - round_even(turns)
    quarters = round_even(turns * 4.0)
    angle = (fma(quarters, -0.25, turns) * _TWO_PI).narrowed()
    integer = (quarters.narrowed() + (1.5 * 2.0**F32.mantissa_bits + quarters_ahead)).bits()
    return shared.signed_sine(integer, angle, _SIN, _COS, F32)


def power(x: Value, y: Value) -> Value:
    """1.5 ulp. `2**(y log2|x|)`, where the logarithm is taken in f64."""
    magnitude = absolute(x)
    scale, fraction = shared.split_positive(magnitude, F32)
    scale = select(magnitude < INFINITY, scale, magnitude)
    scale = select(magnitude.equals(0.0), scale.like(-INFINITY), scale)
    fraction = fraction.widened()
    logarithm = fma(polynomial(fraction, _LOG2), fraction, scale.widened())
    product = at_most(at_least(y.widened() * logarithm, -127.0), 128.0)
    whole = floor(product)
    r = (product - whole).narrowed()
    raised = polynomial(r, (1.0, *_EXP2)) * shared.power_of_two(whole.narrowed() + F32.rounder, F32)
    return shared.finished_power(x, y, raised, F32)


FUNCTIONS: Mapping[str, Formula] = {
    **shared.functions_of(F32, _log_of, _sine_of_magnitude),
    **{"exp": exp, "sigmoid": sigmoid, "pow": power},
}
