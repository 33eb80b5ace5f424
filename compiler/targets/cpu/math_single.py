"""The elementary functions in f32, as branch-free formulas on `Value`s.

Accuracy is stated in units in the last place (ulp) over all finite inputs. Kernels run with subnormals flushed, so a
subnormal input counts as zero and a subnormal result may be zero.

Coefficients are minimax: Remez's exchange or Lawson's reweighting on the function divided as its formula wants, in
higher precision; then each coefficient is rounded to f32, low orders first, and the higher ones are fitted again to
what the rounding left.
"""

from __future__ import annotations

from compiler.targets.cpu.math_assembler import (
    Value,
    absolute,
    at_least,
    at_most,
    copy_sign,
    floor,
    fma,
    polynomial,
    round_even,
    select,
)
from compiler.targets.cpu.math_assembler import (
    square_root as exact_square_root,
)

_LOG2_E = 1.44269502
_LN2, _LN2_LOW = 0.693147182, -1.90465421e-9  # their sum is ln 2
_ROUND = 12582912.0  # 1.5 * 2**23: adding it rounds to an integer, which then stands in the low bits
_BIAS, _MANTISSA_BITS = 127, 23
_SMALLEST_NORMAL = 2.0**-126
_INFINITY, _NAN = float("inf"), float("nan")
_SIGN_BIT = -(2**31)
_ONE_STEP = 1 << _MANTISSA_BITS  # the exponent's lowest bit
_HALF_ROOT_BITS = 0x3F3504F3  # of sqrt(1/2)

# exp(r) - 1 over r, for r in [0, ln 2]
_EXP_FROM_ZERO = (0.999999821, 0.500005543, 0.166611701, 0.0419110395, 0.00779688871, 0.00194673217)
# (exp(r) - 1 - r) over r squared, for |r| up to ln(2) / 2: first against exp(r), then against exp(r) - 1
_EXP = (0.49999994, 0.166665226, 0.0416681916, 0.00836852379, 0.00138271111)
_EXPM1 = (0.49999997, 0.166665226, 0.0416676067, 0.00836923998, 0.00138559705)
# (log(1 + f) - f + f**2 / 2) over f cubed, for 1 + f in [sqrt(1/2), sqrt(2)]
_LOG = (0.333333313, -0.250008225, 0.200012609, -0.166233346, 0.142009512, -0.131594613, 0.127661675, -0.0764151812)
# log(1 - erf(x)) over x, plus 1.125, for x in [0, 3.95]
_ERF = (
    -0.00337917171,
    -0.636619389,
    -0.102777719,
    0.0191525836,
    0.000161331191,
    -0.00166797778,
    0.000633359945,
    -0.000117789037,
    9.27305155e-06,
)


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
# (sin(r) - r) over r cubed and (cos(r) - 1) over r squared, both in powers of r squared, for |r| up to pi / 4
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
    """1 ulp. `x = n ln 2 + r` with r in [0, ln 2], so that n spans exactly the exponents that a float can have."""
    x = at_most(at_least(x, -88.0), 89.0)
    # Half of ln 2, rounded down: 0 gives n = 0, and the largest argument of a finite result gives n = 127.
    shifted = fma(x - 0.34657353, _LOG2_E, _ROUND + _BIAS)
    r = _remainder(x, shifted - (_ROUND + _BIAS))
    return polynomial(r, (1.0, *_EXP_FROM_ZERO)) * _power_of_two(shifted)


def sigmoid(x: Value) -> Value:
    """2.5 ulp; 2 below -18 and above -16."""
    x = at_most(at_least(x, -89.0), 87.0)
    shifted = fma(x, -_LOG2_E, _ROUND + _BIAS)
    r = _remainder(-x, shifted - (_ROUND + _BIAS))
    power = fma(polynomial(r, _EXP), r * r, r) + 1.0
    return 1.0 / fma(power, _power_of_two(shifted), 1.0)


def tanh(x: Value) -> Value:
    """2 ulp. `-e / (e + 2)` with e = exp(-2|x|) - 1; it rounds to 1 from 9.02 on."""
    change, scale = _reduced_change(at_most(absolute(x), 9.1) * -2.0)
    return copy_sign(fma(change, scale, scale - 1.0) / fma(change, scale, scale + 1.0), x)


def erf(x: Value) -> Value:
    """2 ulp. `1 - exp(y)` with y = log(1 - erf|x|), a smooth function; it rounds to 1 from 3.92 on."""
    magnitude = at_most(absolute(x), 3.95)
    scaled = magnitude * 2.0**30  # lest the second product is flushed
    y = fma(scaled, -1.125, scaled * polynomial(magnitude, _ERF)) * 2.0**-30
    change, scale = _reduced_change(y)
    return copy_sign(fma(change, scale, scale - 1.0), x)


def log(x: Value) -> Value:
    """1 ulp."""
    exponent, mantissa = _split(x)
    result = select(x < _INFINITY, _log_of(exponent, mantissa - 1.0), x)
    return select(x < _SMALLEST_NORMAL, select(x > -_SMALLEST_NORMAL, x.like(-_INFINITY), _NAN), result)


def log1p(x: Value) -> Value:
    """1.5 ulp. What the sum 1 + x rounds away is added again, at the scale of the sum's mantissa."""
    total = x + 1.0
    lost = x - (total - 1.0)
    exponent, mantissa = _split(total)
    scale = (_BIAS - exponent) << _MANTISSA_BITS
    scale = select(scale < _ONE_STEP, _ONE_STEP, scale).as_float()  # nothing is lost where 2**-exponent is no normal
    result = select(x < _INFINITY, _log_of(exponent, fma(lost, scale, mantissa - 1.0)), x)
    result = select(x > -1.0, result, select(x.equals(-1.0), x.like(-_INFINITY), _NAN))
    return select(absolute(x) > 0.0, result, x)


def sin(x: Value) -> Value:
    """1.5 ulp."""
    quarter, result = _sine_of_turns(absolute(x), 0)
    return (result.bits() ^ _sign_of(quarter) ^ (x.bits() & _SIGN_BIT)).as_float()


def cos(x: Value) -> Value:
    """1.5 ulp."""
    quarter, result = _sine_of_turns(absolute(x), 1)
    return (result.bits() ^ _sign_of(quarter)).as_float()


def power(x: Value, y: Value) -> Value:
    """1 ulp, with the special cases of IEEE 754's pow. `2**(y log2|x|)`, where the logarithm is taken in f64."""
    magnitude = absolute(x)
    exponent, mantissa = _split(magnitude)
    scale = exponent.to_float()
    scale = select(magnitude < _INFINITY, scale, magnitude)
    scale = select(magnitude < _SMALLEST_NORMAL, scale.like(-_INFINITY), scale)
    fraction = (mantissa - 1.0).widened()
    logarithm = fma(polynomial(fraction, _LOG2), fraction, scale.widened())
    product = at_most(at_least(y.widened() * logarithm, -127.0), 128.0)
    whole = floor(product)
    r = (product - whole).narrowed()
    raised = polynomial(r, (1.0, *_EXP2)) * _power_of_two(whole.narrowed() + (_ROUND + _BIAS))
    return _with_special_cases(x, y, magnitude, raised)


def square_root(x: Value) -> Value:
    """0.5 ulp."""
    return exact_square_root(x)


def reciprocal_square_root(x: Value) -> Value:
    """1.5 ulp."""
    return 1.0 / exact_square_root(x)


def _power_of_two(shifted: Value) -> Value:
    """2**n of a sum `n + _ROUND + _BIAS`: 0 for n = -127, infinite for n = 128."""
    return (shifted.bits() << _MANTISSA_BITS).as_float()


def _remainder(x: Value, n: Value) -> Value:
    """`x - n ln 2`. The first step is exact."""
    return fma(n, -_LN2_LOW, fma(n, -_LN2, x))


def _reduced_change(x: Value) -> tuple[Value, Value]:
    """`c` and `s = 2**n` with exp(x) = s + c s, for |x| up to 87; so exp(x) - 1 is accurate around zero too."""
    shifted = fma(x, _LOG2_E, _ROUND + _BIAS)
    r = _remainder(x, shifted - (_ROUND + _BIAS))
    return fma(polynomial(r, _EXPM1), r * r, r), _power_of_two(shifted)


def _split(x: Value) -> tuple[Value, Value]:
    """The integer exponent, and the mantissa in [sqrt(1/2), sqrt(2)], of a positive normal number; else any number."""
    exponent = (x.bits() - _HALF_ROOT_BITS) >> _MANTISSA_BITS
    return exponent, (x.bits() - (exponent << _MANTISSA_BITS)).as_float()


def _log_of(exponent: Value, fraction: Value) -> Value:
    """The logarithm of `2**exponent * (1 + fraction)`."""
    scale = exponent.to_float()
    square = fraction * fraction
    small = fma(square * fraction, polynomial(fraction, _LOG), scale * _LN2_LOW)
    return fma(scale, _LN2, fraction + fma(square, -0.5, small))


def _sine_of_turns(x: Value, shift: int) -> tuple[Value, Value]:
    """The quarter of the circle that x, no less than 0, lies in, plus `shift`; and there the sine, short of its sign.

    Payne and Hanek's reduction: x / (2 pi) modulo 1 is summed from exact products, each of them modulo 1.
    """
    wide = x.widened()
    turns = wide.like(0.0)
    for part in reversed(_TURNS):
        product = wide * part
        turns = turns + (product - round_even(product))
    turns = turns - round_even(turns)
    quarters = round_even(turns * 4.0)
    angle = (fma(quarters, -0.25, turns) * _TWO_PI).narrowed()
    quarter = (quarters.narrowed() + (_ROUND + shift)).bits()
    square = angle * angle
    sine = fma(angle * square, polynomial(square, _SIN), angle)
    cosine = fma(square, polynomial(square, _COS), 1.0)
    return quarter, select((quarter & 1).equals(0), sine, cosine)


def _sign_of(quarter: Value) -> Value:
    """The sign bit of the sine: set in the third and the fourth quarter."""
    return (quarter & 2) << 30


def _with_special_cases(x: Value, y: Value, magnitude: Value, raised: Value) -> Value:
    """The power of x, given the power of its magnitude."""
    whole = floor(y).equals(y)
    half = y * 0.5
    odd = whole & floor(half).differs(half)
    one = (magnitude.equals(1.0) & y.is_ordered()) | y.equals(0.0)
    raised = select(one, 1.0, raised)
    raised = (raised.bits() ^ select(odd, x.bits() & _SIGN_BIT, 0)).as_float()
    undefined = (x < 0.0) & (x > -_INFINITY) & floor(y).differs(y)
    raised = select(undefined, raised.like(_NAN), raised)
    return select(x.equals(1.0), 1.0, raised)
