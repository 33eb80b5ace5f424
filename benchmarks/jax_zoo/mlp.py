"""Layers of perceptrons with ReLU between them."""

from __future__ import annotations

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np

from jax_zoo.model import Model, Parameters, States


def perceptrons(*widths: int) -> Model:
    """Dense layers from each width to the next; the last gives logits."""
    sizes = tuple(pairwise(widths))

    def initial(generator: np.random.Generator) -> tuple[Parameters, States]:
        parameters: Parameters = {}
        for layer, (inputs, outputs) in enumerate(sizes):
            bound = 1 / math.sqrt(inputs)
            parameters[f"{layer}.W"] = jnp.asarray(generator.uniform(-bound, bound, (inputs, outputs)), jnp.float32)
            parameters[f"{layer}.b"] = jnp.asarray(generator.uniform(-bound, bound, outputs), jnp.float32)
        return parameters, {}

    def apply(
        parameters: Parameters, states: States, inputs: list[jax.Array], training: bool
    ) -> tuple[jax.Array, States]:
        (x,) = inputs
        for layer in range(len(sizes)):
            x = x @ parameters[f"{layer}.W"] + parameters[f"{layer}.b"]
            if layer < len(sizes) - 1:
                x = jax.nn.relu(x)
        return x, states

    return Model(initial, apply)
