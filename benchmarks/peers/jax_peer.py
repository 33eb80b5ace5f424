"""JAX: one jitted step whose parameters and optimizer state are donated."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from catalogue import TIMING_RATE, Entry, Optimizer, make_batch
from clock import peak_memory_mb, since_process_start, time_latency, time_throughput
from jax_zoo import MODELS
from jax_zoo.model import Parameters
from peers import Figures

Moments: TypeAlias = dict[str, Any]


def initial_moments(settings: Optimizer, parameters: Parameters) -> Moments:
    """Zeros for each moment that the optimizer keeps."""
    kept = ["m"] if settings.kind == "sgd" else ["m", "v"]
    moments: Moments = {name: jax.tree.map(jnp.zeros_like, parameters) for name in kept}
    return moments | {"t": jnp.zeros(())}


def update(
    settings: Optimizer, rate: float, parameters: Parameters, gradients: Parameters, moments: Moments
) -> tuple[Parameters, Moments]:
    """One step of the catalogue's optimizer."""
    t = moments["t"] + 1
    if settings.kind == "sgd":
        m = {k: settings.momentum * moments["m"][k] + gradients[k] + settings.decay * p for k, p in parameters.items()}
        return {k: p - rate * m[k] for k, p in parameters.items()}, {"m": m, "t": t}
    first, second = 1 - settings.beta1**t, 1 - settings.beta2**t
    m = {k: settings.beta1 * moments["m"][k] + (1 - settings.beta1) * g for k, g in gradients.items()}
    v = {k: settings.beta2 * moments["v"][k] + (1 - settings.beta2) * jnp.square(g) for k, g in gradients.items()}

    def updated(name: str, parameter: jax.Array) -> jax.Array:
        decay = 1 - rate * settings.decay if parameter.ndim >= 2 else 1.0
        return parameter * decay - rate / first * m[name] / (jnp.sqrt(v[name] / second) + settings.epsilon)

    return {k: updated(k, p) for k, p in parameters.items()}, {"m": m, "v": v, "t": t}


def training_step(entry: Entry, rate: float) -> Callable[..., Any]:
    """(parameters, states, moments, inputs, target) -> the first three anew, and the loss."""
    model = MODELS[entry.name]

    def loss_of(parameters: Any, states: Any, inputs: Any, target: Any) -> Any:
        logits, states = model.apply(parameters, states, inputs, True)
        logarithms = jax.nn.log_softmax(logits, -1)
        return -jnp.take_along_axis(logarithms, target[..., None], -1).mean(), states

    @partial(jax.jit, donate_argnums=(0, 1, 2))
    def step(parameters: Any, states: Any, moments: Any, inputs: Any, target: Any) -> Any:
        (loss, states), gradients = jax.value_and_grad(loss_of, has_aux=True)(parameters, states, inputs, target)
        parameters, moments = update(entry.optimizer, rate, parameters, gradients, moments)
        return parameters, states, moments, loss

    return step


def train(entry: Entry, threads: int, seconds: float) -> Figures:
    """Times a training step; the threads are those of the process, JAX has no switch of its own."""
    parameters, states = MODELS[entry.name].initial(np.random.default_rng(0))
    count = _count(parameters)
    inputs, target = _arrays(entry, entry.batch)
    step = training_step(entry, TIMING_RATE)
    kept = [parameters, states, initial_moments(entry.optimizer, parameters), None]

    def one() -> None:
        kept[:] = step(*kept[:3], inputs, target)

    def wait() -> None:
        jax.block_until_ready(kept)

    one()
    wait()
    first = since_process_start()
    figures = time_throughput(one, wait, seconds)
    return {"parameters": count, "first_s": first, "peak_rss_mb": peak_memory_mb(), **figures}


def infer(entry: Entry, batch: int, threads: int, seconds: float) -> Figures:
    """Times one forward pass to the logits."""
    model = MODELS[entry.name]
    parameters, states = model.initial(np.random.default_rng(0))
    inputs, _ = _arrays(entry, batch)
    forward = jax.jit(lambda parameters, states, inputs: model.apply(parameters, states, inputs, False)[0])
    jax.block_until_ready(forward(parameters, states, inputs))
    first = since_process_start()
    figures = time_latency(lambda: forward(parameters, states, inputs).block_until_ready(), seconds)
    return {"parameters": _count(parameters), "first_s": first, "peak_rss_mb": peak_memory_mb(), **figures}


def _arrays(entry: Entry, batch: int) -> tuple[list[jax.Array], jax.Array]:
    inputs, target = make_batch(entry, batch)
    return [jnp.asarray(array) for array in inputs], jnp.asarray(target)


def _count(parameters: Parameters) -> int:
    return sum(array.size for array in parameters.values())
