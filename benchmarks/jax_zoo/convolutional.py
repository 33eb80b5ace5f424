"""Convolutional networks: LeNet-5, and the residual network of 20 layers; images have their channels last inside."""

from __future__ import annotations

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jax_zoo.model import Model, Parameters, States

NORM_MOMENTUM, NORM_EPSILON = 0.1, 1e-5
WIDTHS = (16, 16, 16, 16, 32, 32, 32, 64, 64, 64)


def _uniform(generator: np.random.Generator, inputs: int, *shape: int) -> jax.Array:
    bound = 1 / math.sqrt(inputs)
    return jnp.asarray(generator.uniform(-bound, bound, shape), jnp.float32)


def _convolved(x: jax.Array, weights: jax.Array, stride: int = 1, padding: int = 0) -> jax.Array:
    sides = [(padding, padding)] * 2
    return lax.conv_general_dilated(x, weights, (stride, stride), sides, dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _largest(x: jax.Array) -> jax.Array:
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def lenet5() -> Model:
    """For pictures of 28 × 28, with ReLU and maxima."""
    kernels = {"c1": (5, 5, 1, 6), "c2": (5, 5, 6, 16)}
    dense = {"f1": (400, 120), "f2": (120, 84), "f3": (84, 10)}

    def initial(generator: np.random.Generator) -> tuple[Parameters, States]:
        parameters: Parameters = {}
        for name, shape in {**kernels, **dense}.items():
            inputs = math.prod(shape[:-1])
            parameters[f"{name}.W"] = _uniform(generator, inputs, *shape)
            parameters[f"{name}.b"] = _uniform(generator, inputs, shape[-1])
        return parameters, {}

    def apply(p: Parameters, states: States, inputs: list[jax.Array], training: bool) -> tuple[jax.Array, States]:
        x = jnp.moveaxis(inputs[0], 1, -1)
        x = _largest(jax.nn.relu(_convolved(x, p["c1.W"], padding=2) + p["c1.b"]))
        x = _largest(jax.nn.relu(_convolved(x, p["c2.W"]) + p["c2.b"]))
        x = jnp.moveaxis(x, -1, 1).reshape(x.shape[0], -1)
        for name in ("f1", "f2"):
            x = jax.nn.relu(x @ p[f"{name}.W"] + p[f"{name}.b"])
        return x @ p["f3.W"] + p["f3.b"], states

    return Model(initial, apply)


def resnet20() -> Model:
    """He et al., 2016, section 4.2, with shortcuts without parameters."""
    blocks = tuple(pairwise(WIDTHS))
    layers = [("0", 3, WIDTHS[0])]
    for number, (inputs, outputs) in enumerate(blocks, 1):
        layers += [(f"{number}a", inputs, outputs), (f"{number}b", outputs, outputs)]

    def initial(generator: np.random.Generator) -> tuple[Parameters, States]:
        parameters: Parameters = {"out.W": _uniform(generator, 64, 64, 10), "out.b": _uniform(generator, 64, 10)}
        states: States = {}
        for name, inputs, outputs in layers:
            parameters[f"{name}.W"] = _uniform(generator, 9 * inputs, 3, 3, inputs, outputs)
            parameters |= {f"{name}.gamma": jnp.ones(outputs), f"{name}.beta": jnp.zeros(outputs)}
            states |= {f"{name}.mean": jnp.zeros(outputs), f"{name}.var": jnp.ones(outputs)}
        return parameters, states

    def apply(p: Parameters, states: States, inputs: list[jax.Array], training: bool) -> tuple[jax.Array, States]:
        following = dict(states)

        def layer(x: jax.Array, name: str, stride: int = 1) -> jax.Array:
            x = _convolved(x, p[f"{name}.W"], stride, 1)
            mean, var = states[f"{name}.mean"], states[f"{name}.var"]
            if training:
                count = math.prod(x.shape[:3])
                kept = {"mean": mean, "var": var}
                mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
                for key, now in (("mean", mean), ("var", var * count / (count - 1))):
                    following[f"{name}.{key}"] = (1 - NORM_MOMENTUM) * kept[key] + NORM_MOMENTUM * now
            return (x - mean) * (lax.rsqrt(var + NORM_EPSILON) * p[f"{name}.gamma"]) + p[f"{name}.beta"]

        x = jax.nn.relu(layer(jnp.moveaxis(inputs[0], 1, -1), "0"))
        for number, (before, after) in enumerate(blocks, 1):
            stride, more = (2, after - before) if after != before else (1, 0)
            y = layer(jax.nn.relu(layer(x, f"{number}a", stride)), f"{number}b")
            short = jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (more // 2, more // 2)))
            x = jax.nn.relu(y + short)
        return x.mean((1, 2)) @ p["out.W"] + p["out.b"], following

    return Model(initial, apply)
