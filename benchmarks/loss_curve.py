"""The same weights and batches in `dlc` and PyTorch: the largest relative differences of their losses, as JSON.

In f32 the curves agree to some 1e-7 until rounding decides a ReLU: an activation that is zero up to rounding counts in
one program and not in the other, and Adam makes full steps of the smallest gradient, so the loss moves by 1e-5 to 1e-3.
In the largest network here this happens within 50 steps of random data for half of the seeds, between PyTorch's own f32
and f64 as between it and `dlc`, at other seeds. So several seeds are compared, f64, where no such tie happens, and the
first steps by themselves; and JAX, where it has the weights in the same order. It computes Adam's corrections in f32.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import jax.numpy as jnp
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from catalogue import CATALOGUE, Array, Entry, make_batch
from compiler import driver
from compiler.driver import TRAINING, Steps
from jax_zoo import MODELS as JAX_MODELS
from peers.jax_peer import initial_moments, training_step
from peers.torch_peer import optimizer_for
from torch_zoo import MODULES
from torch_zoo.transformer import Projections

PRECISIONS = {"f32": (torch.float32, np.float32), "f64": (torch.float64, np.float64)}
FIRST_STEPS = 5
MODELS = ("mlp", "mlp_small", "lenet5", "lstm", "gpt_mini", "transformer_ed", "vit")
IN_JAX = ("mlp", "mlp_small")  # of which JAX has the weights in the same order and layout


def weights_of(module: nn.Module) -> Iterator[Array]:
    """The parameters in the order and the layout of `dlc`, whose layers stand in the same order as PyTorch's.

    PyTorch keeps weights as [out, in] and [out, in, kh, kw], dlc as [in, out] and [kh, kw, in, out].
    """
    for layer in module.modules():
        own = [parameter.detach() for parameter in layer.parameters(recurse=False)]
        match layer:
            case nn.Linear():
                parts = layer.parts if isinstance(layer, Projections) else 1
                for part in zip(*(parameter.chunk(parts) for parameter in own), strict=True):
                    yield from (parameter.T.numpy() if parameter.ndim == 2 else parameter.numpy() for parameter in part)
            case nn.Conv2d():
                yield from (
                    weights.permute(2, 3, 1, 0).numpy() if weights.ndim == 4 else weights.numpy() for weights in own
                )
            case nn.LSTM():
                yield from (parameter.T.numpy() if parameter.ndim == 2 else parameter.numpy() for parameter in own)
            case _:
                yield from (parameter.numpy() for parameter in own)


def torch_losses(entry: Entry, module: nn.Module, inputs: list[Array], target: Array) -> Array:
    """The loss of each step, before its update; step by step the next `entry.batch` rows."""
    optimizer = optimizer_for(module, entry.optimizer, entry.optimizer.rate)
    losses: list[float] = []
    for start in range(0, len(target), entry.batch):
        rows = slice(start, start + entry.batch)
        logits = module(*[torch.from_numpy(array[rows]) for array in inputs])
        loss = functional.cross_entropy(logits.flatten(0, -2), torch.from_numpy(target[rows]).long().flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses)


def dlc_losses(entry: Entry, module: nn.Module, inputs: list[Array], target: Array, dtype: str) -> Array:
    """As `torch_losses`, from the weights that `module` has now."""
    options = driver.Options(threads=torch.get_num_threads(), batch=entry.batch, dtype=dtype)
    program = driver.load(entry.source)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    parameters = [spec.path for spec in program.parameters if spec.role.value == "parameter"]
    for path, weights in zip(parameters, weights_of(module), strict=True):
        tensors.write(path, weights)
    data = {spec.name: array for spec, array in zip(program.inputs, [*inputs, target], strict=True)}
    settings = {s.name: float(s.value) for s in program.settings if s.is_runtime and isinstance(s.value, int | float)}
    executable = driver.compile_program(program, TRAINING, options)
    rows = np.arange(len(target), dtype=np.int64)
    return executable.run(Steps(tensors, data, rows, entry.batch, settings=settings)).scalars["loss"]


def jax_losses(entry: Entry, module: nn.Module, inputs: list[Array], target: Array) -> Array:
    """As `dlc_losses`, in f32."""
    names, _ = JAX_MODELS[entry.name].initial(np.random.default_rng(0))
    parameters = {name: jnp.array(weights) for name, weights in zip(names, weights_of(module), strict=True)}
    step = training_step(entry, entry.optimizer.rate)
    states, moments = {}, initial_moments(entry.optimizer, parameters)
    losses: list[float] = []
    for start in range(0, len(target), entry.batch):
        rows = slice(start, start + entry.batch)
        given = [jnp.array(array[rows]) for array in inputs]
        parameters, states, moments, loss = step(parameters, states, moments, given, jnp.array(target[rows]))
        losses.append(float(loss))
    return np.array(losses)


def curves(name: str, steps: int, seed: int) -> dict[str, Array]:
    """The losses by program and precision, all from the same weights."""
    entry = CATALOGUE[name]
    inputs, target = make_batch(entry, steps * entry.batch, seed)
    found: dict[str, Array] = {}
    for precision, (torch_dtype, numpy_dtype) in PRECISIONS.items():
        torch.manual_seed(seed)
        module = MODULES[name]().to(torch_dtype)
        given = [array.astype(numpy_dtype) if array.dtype == np.float32 else array for array in inputs]
        found[f"dlc {precision}"] = dlc_losses(entry, module, given, target, precision)
        if precision == "f32" and name in IN_JAX:
            found["JAX f32"] = jax_losses(entry, module, given, target)
        found[f"PyTorch {precision}"] = torch_losses(entry, module, given, target)
    return found


def differences(name: str, steps: int, seed: int) -> dict[str, float]:
    """Over all steps, |a / b - 1| for the pairs that are compared; and over the first ones, before most ties."""
    found = curves(name, steps, seed)

    def largest(first: str, second: str, count: int = steps) -> float:
        return float(np.abs(found[first][:count] / found[second][:count] - 1).max())

    in_jax = {
        f"{other}, JAX f32": largest(other, "JAX f32") for other in ("dlc f32", "PyTorch f32") if "JAX f32" in found
    }
    return in_jax | {
        "dlc f32, PyTorch f32": largest("dlc f32", "PyTorch f32"),
        "dlc f32, PyTorch f32, first steps": largest("dlc f32", "PyTorch f32", FIRST_STEPS),
        "dlc f64, PyTorch f64": largest("dlc f64", "PyTorch f64"),
        "dlc f32, PyTorch f64": largest("dlc f32", "PyTorch f64"),
        "PyTorch f32, PyTorch f64": largest("PyTorch f32", "PyTorch f64"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, help=f"of {', '.join(MODELS)}")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    found = {
        name: [differences(name, arguments.steps, seed) for seed in range(arguments.seeds)] for name in arguments.models
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
