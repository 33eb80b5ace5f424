"""Transformers: nanoGPT's language model, an encoder with a decoder, and one that reads pictures."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np

from jax_zoo.model import Model, Parameters, States

NORM_EPSILON = 1e-5
EMBEDDING_DEVIATION = 0.02


def _dense(generator: np.random.Generator, inputs: int, outputs: int) -> jax.Array:
    bound = 1 / math.sqrt(inputs)
    return jnp.asarray(generator.uniform(-bound, bound, (inputs, outputs)), jnp.float32)


def _table(generator: np.random.Generator, rows: int, width: int) -> jax.Array:
    return jnp.asarray(EMBEDDING_DEVIATION * generator.standard_normal((rows, width)), jnp.float32)


def _block(generator: np.random.Generator, name: str, width: int, hidden: int, norms: int, bias: bool) -> Parameters:
    """Parameters of a block; three normalisations mean that it looks at a memory, too."""
    shapes = {"qkv": (width, 3 * width), "joined": (width, width), "widen": (width, hidden), "narrow": (hidden, width)}
    if norms == 3:
        shapes |= {"q": (width, width), "kv": (width, 2 * width), "crossed": (width, width)}
    parameters: Parameters = {}
    for part, shape in shapes.items():
        parameters[f"{name}.{part}.W"] = _dense(generator, *shape)
        if bias:
            parameters[f"{name}.{part}.b"] = jnp.zeros(shape[1])
    for norm in range(norms):
        parameters[f"{name}.{norm}.gamma"] = jnp.ones(width)
        if bias:
            parameters[f"{name}.{norm}.beta"] = jnp.zeros(width)
    return parameters


def _applied(p: Parameters, name: str, x: jax.Array) -> jax.Array:
    y = x @ p[f"{name}.W"]
    return y + p[f"{name}.b"] if f"{name}.b" in p else y


def _normalised(p: Parameters, name: str, x: jax.Array) -> jax.Array:
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    y = (x - mean) * jax.lax.rsqrt(var + NORM_EPSILON) * p[f"{name}.gamma"]
    return y + p[f"{name}.beta"] if f"{name}.beta" in p else y


def _attended(q: jax.Array, k: jax.Array, v: jax.Array, heads: int, causal: bool) -> jax.Array:
    q, k, v = (part.reshape(*part.shape[:2], heads, -1) for part in (q, k, v))
    return jax.nn.dot_product_attention(q, k, v, is_causal=causal).reshape(*q.shape[:2], -1)


def _self_attention(p: Parameters, name: str, x: jax.Array, heads: int, causal: bool) -> jax.Array:
    parts = jnp.split(_applied(p, f"{name}.qkv", x), 3, -1)
    return _applied(p, f"{name}.joined", _attended(*parts, heads, causal))


def language_model(blocks: int, heads: int, width: int, context: int, vocabulary: int = 65) -> Model:
    """nanoGPT: learned positions, a head that is the embedding, normalisation before each part, no biases."""

    def initial(generator: np.random.Generator) -> tuple[Parameters, States]:
        parameters: Parameters = {"embed": _table(generator, vocabulary, width)}
        parameters |= {"positions": _table(generator, context, width), "norm.gamma": jnp.ones(width)}
        for block in range(blocks):
            parameters |= _block(generator, str(block), width, 4 * width, 2, bias=False)
        return parameters, {}

    def apply(p: Parameters, states: States, inputs: list[jax.Array], training: bool) -> tuple[jax.Array, States]:
        (tokens,) = inputs
        x = p["embed"][tokens] + p["positions"][: tokens.shape[1]]
        for block in map(str, range(blocks)):
            x = x + _self_attention(p, block, _normalised(p, f"{block}.0", x), heads, True)
            h = jax.nn.gelu(_applied(p, f"{block}.widen", _normalised(p, f"{block}.1", x)), approximate=True)
            x = x + _applied(p, f"{block}.narrow", h)
        return _normalised(p, "norm", x) @ p["embed"].T, states

    return Model(initial, apply)


def encoder_decoder() -> Model:
    """Vaswani et al., 2017, with a head of its own: normalisation after each part, biases."""
    vocabulary, width, heads, hidden, blocks, length = 1000, 256, 4, 1024, 3, 32
    encoder, decoder = ([f"{side}{block}" for block in range(blocks)] for side in ("encoder", "decoder"))
    angles = np.arange(length)[:, None] * 10000.0 ** (-np.arange(0, width, 2) / width)
    waves = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(length, width).astype(np.float32)

    def initial(generator: np.random.Generator) -> tuple[Parameters, States]:
        parameters: Parameters = {name: _table(generator, vocabulary, width) for name in ("source", "prefix")}
        parameters |= {"head.W": _dense(generator, width, vocabulary), "head.b": jnp.zeros(vocabulary)}
        for names, norms in ((encoder, 2), (decoder, 3)):
            for name in names:
                parameters |= _block(generator, name, width, hidden, norms, bias=True)
        return parameters, {}

    def apply(p: Parameters, states: States, inputs: list[jax.Array], training: bool) -> tuple[jax.Array, States]:
        def forward(name: str, norm: int, x: jax.Array) -> jax.Array:
            h = _applied(p, f"{name}.narrow", jax.nn.relu(_applied(p, f"{name}.widen", x)))
            return _normalised(p, f"{name}.{norm}", x + h)

        source, prefix = inputs
        memory, x = (p[name][t] * math.sqrt(width) + waves for name, t in (("source", source), ("prefix", prefix)))
        for name in encoder:
            memory = _normalised(p, f"{name}.0", memory + _self_attention(p, name, memory, heads, False))
            memory = forward(name, 1, memory)
        for name in decoder:
            x = _normalised(p, f"{name}.0", x + _self_attention(p, name, x, heads, True))
            k, v = jnp.split(_applied(p, f"{name}.kv", memory), 2, -1)
            crossed = _attended(_applied(p, f"{name}.q", x), k, v, heads, False)
            x = _normalised(p, f"{name}.1", x + _applied(p, f"{name}.crossed", crossed))
            x = forward(name, 2, x)
        return _applied(p, "head", x), states

    return Model(initial, apply)


def vision_transformer() -> Model:
    """Dosovitskiy et al., 2021, for pictures of 32 × 32: patches of 4 × 4 behind a token of which the class is read."""
    size, channels, patch, width, heads, blocks, classes = 32, 3, 4, 192, 3, 6, 10
    side = size // patch

    def initial(generator: np.random.Generator) -> tuple[Parameters, States]:
        parameters: Parameters = {"token": jnp.zeros((1, width)), "positions": _table(generator, side**2 + 1, width)}
        parameters |= {"norm.gamma": jnp.ones(width), "norm.beta": jnp.zeros(width)}
        for name, inputs, outputs in (("embed", patch**2 * channels, width), ("head", width, classes)):
            parameters |= {f"{name}.W": _dense(generator, inputs, outputs), f"{name}.b": jnp.zeros(outputs)}
        for block in range(blocks):
            parameters |= _block(generator, str(block), width, 4 * width, 2, bias=True)
        return parameters, {}

    def apply(p: Parameters, states: States, inputs: list[jax.Array], training: bool) -> tuple[jax.Array, States]:
        (picture,) = inputs
        split = picture.reshape(-1, channels, side, patch, side, patch).transpose(0, 2, 4, 3, 5, 1)
        patches = _applied(p, "embed", split.reshape(len(picture), side**2, -1))
        token = jnp.broadcast_to(p["token"], (len(picture), 1, width))
        x = jnp.concatenate([token, patches], 1) + p["positions"]
        for block in map(str, range(blocks)):
            x = x + _self_attention(p, block, _normalised(p, f"{block}.0", x), heads, False)
            h = jax.nn.gelu(_applied(p, f"{block}.widen", _normalised(p, f"{block}.1", x)), approximate=False)
            x = x + _applied(p, f"{block}.narrow", h)
        return _applied(p, "head", _normalised(p, "norm", x[:, 0])), states

    return Model(initial, apply)
