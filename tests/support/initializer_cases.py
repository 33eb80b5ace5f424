"""Initialisers of the standard library beside what NumPy says of their distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InitializerCase:
    """A distribution of mean `mean` and deviation `deviation`, within `low` and `high` where these are finite."""

    name: str
    call: str
    shape: tuple[int, ...]
    mean: float
    deviation: float
    low: float = -math.inf
    high: float = math.inf


def _uniform(name: str, bound: float, shape: tuple[int, ...], call: str = "") -> InitializerCase:
    return InitializerCase(name, call or name, shape, 0.0, bound / math.sqrt(3), -bound, bound)


def _normal(name: str, deviation: float, shape: tuple[int, ...], call: str = "") -> InitializerCase:
    return InitializerCase(name, call or name, shape, 0.0, deviation)


MATRIX = (60, 40)
WINDOWS = (3, 3, 16, 24)  # kernel height and width, channels in and out: fans 144 and 216

# The deviation of a standard normal number that is known to lie within -2 and 2.
_CUT = 0.87962566103423978

INITIALIZERS = (
    InitializerCase("zeros", "zeros", MATRIX, 0.0, 0.0, 0.0, 0.0),
    InitializerCase("ones", "ones", (7,), 1.0, 0.0, 1.0, 1.0),
    InitializerCase("constant", "constant(0.25)", MATRIX, 0.25, 0.0, 0.25, 0.25),
    _normal("normal", 0.05, MATRIX),
    InitializerCase("normal", "normal(mean = 1.0, std = 2.0)", MATRIX, 1.0, 2.0),
    _uniform("uniform", 0.05, MATRIX),
    InitializerCase("uniform", "uniform(low = 1.0, high = 4.0)", MATRIX, 2.5, 3 / math.sqrt(12), 1.0, 4.0),
    InitializerCase("truncated_normal", "truncated_normal", MATRIX, 0.0, 0.05 * _CUT, -0.1, 0.1),
    InitializerCase("truncated_normal", "truncated_normal(1.0, std = 0.5)", MATRIX, 1.0, 0.5 * _CUT, 0.0, 2.0),
    _uniform("glorot_uniform", math.sqrt(6 / 100), MATRIX),
    _uniform("glorot_uniform", math.sqrt(6 / 360), WINDOWS),
    _uniform("glorot_uniform", math.sqrt(6 / 4000), (2000,)),
    _normal("glorot_normal", math.sqrt(2 / 100), MATRIX),
    _uniform("he_uniform", math.sqrt(6 / 60), MATRIX),
    _uniform("he_uniform", math.sqrt(6 / 144), WINDOWS),
    _normal("he_normal", math.sqrt(2 / 60), MATRIX),
    _normal("he_normal", math.sqrt(2 / 144), WINDOWS),
    _uniform("lecun_uniform", math.sqrt(3 / 60), MATRIX),
    _normal("lecun_normal", math.sqrt(1 / 60), MATRIX),
    _uniform("fan_in_uniform", math.sqrt(1 / 60), MATRIX),
    _uniform("fan_in_uniform", 2 / math.sqrt(144), WINDOWS, "fan_in_uniform(scale = 2.0)"),
    # Gates side by side: each starts as a matrix of its own, so fan_out is 10 and not 400.
    _uniform("gates_init", math.sqrt(6 / 70), (60, 400), "gates_init(glorot_uniform, 40)"),
    _uniform("split_init", math.sqrt(6 / 70), (60, 400), "split_init(glorot_uniform, 40)"),
)

ORTHOGONAL = (((20, 20), 1.0), ((30, 8), 1.0), ((8, 30), 1.0), ((3, 3, 4, 10), 2.0), ((1, 1), 1.0))

TESTED_BY_STRUCTURE = {
    "orthogonal": "columns are orthonormal",
    "identity": "it is np.eye",
    "forget_bias": "its second quarter is the value",
}
