"""A character language model of recurrent layers: `lax.scan` over time, with the input's product outside."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jax_zoo.model import Model, Parameters, States

EMBEDDING_DEVIATION = 0.02


def _lstm(p: Parameters, name: str, x: jax.Array) -> jax.Array:
    """[time, batch, n] to [time, batch, units]."""

    def step(states: tuple[jax.Array, jax.Array], part: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        h, c = states
        i, f, g, o = jnp.split(part + h @ p[f"{name}.U"] + p[f"{name}.d"], 4, -1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    start = jnp.zeros((x.shape[1], p[f"{name}.U"].shape[0]))
    return jax.lax.scan(step, (start, start), x @ p[f"{name}.W"] + p[f"{name}.b"])[1]


def character_model(vocabulary: int = 96, width: int = 128, units: int = 256, layers: int = 2) -> Model:
    """An embedding, layers of LSTM with two bias vectors each, and a head."""

    def initial(generator: np.random.Generator) -> tuple[Parameters, States]:
        def uniform(*shape: int) -> jax.Array:
            bound = 1 / math.sqrt(units)
            return jnp.asarray(generator.uniform(-bound, bound, shape), jnp.float32)

        table = EMBEDDING_DEVIATION * generator.standard_normal((vocabulary, width))
        parameters: Parameters = {"embed": jnp.asarray(table, jnp.float32)}
        for layer in range(layers):
            shapes = {"W": (units if layer else width, 4 * units), "U": (units, 4 * units)}
            shapes |= {"b": (4 * units,), "d": (4 * units,)}
            parameters |= {f"{layer}.{name}": uniform(*shape) for name, shape in shapes.items()}
        return parameters | {"head.W": uniform(units, vocabulary), "head.b": uniform(vocabulary)}, {}

    def apply(p: Parameters, states: States, inputs: list[jax.Array], training: bool) -> tuple[jax.Array, States]:
        (tokens,) = inputs
        x = p["embed"][tokens.T]
        for layer in range(layers):
            x = _lstm(p, str(layer), x)
        return x.swapaxes(0, 1) @ p["head.W"] + p["head.b"], states

    return Model(initial, apply)
