"""A JAX model of the catalogue: two functions over dictionaries of arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import numpy as np

Parameters: TypeAlias = dict[str, jax.Array]
States: TypeAlias = dict[str, jax.Array]


class Model(NamedTuple):
    """`apply(parameters, states, inputs, training)` gives the logits and the new states (running statistics)."""

    initial: Callable[[np.random.Generator], tuple[Parameters, States]]
    apply: Callable[[Parameters, States, list[jax.Array], bool], tuple[jax.Array, States]]
