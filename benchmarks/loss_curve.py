"""The same weights and batches in `dlc` and PyTorch: the largest relative difference of their losses, as JSON.

In f32 the curve of a network with ReLU and Adam is not always determined to within rounding: an activation that is
zero up to rounding counts in one program and not in the other, and Adam makes full steps of the smallest gradient.
Between PyTorch's own f32 and f64 about every second seed gives differences of 1e-4 to 1e-3. So several seeds are
compared, where a fault of the program would show in each, and f64, where such a tie does not happen.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from catalogue import CATALOGUE, Array, Entry, make_batch
from compiler import driver
from peers.torch_peer import optimizer_for
from torch_zoo import MODULES

PRECISIONS = {"f32": (torch.float32, np.float32), "f64": (torch.float64, np.float64)}


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
    for path, given in zip(parameters, module.parameters(), strict=True):
        weights = given.detach().numpy()
        tensors.write(path, weights.T if weights.ndim == 2 else weights)  # PyTorch keeps dense weights as [out, in]
    data = {spec.name: array for spec, array in zip(program.inputs, [*inputs, target], strict=True)}
    settings = {s.name: float(s.value) for s in program.settings if s.is_runtime and isinstance(s.value, int | float)}
    executable = driver.compile_training(program, options)
    rows = np.arange(len(target), dtype=np.int64)
    return executable.run(tensors, data, rows, entry.batch, settings=settings).scalars["loss"]


def largest_difference(name: str, precision: str, steps: int, seed: int) -> float:
    """Over all steps, |dlc / PyTorch - 1|."""
    entry = CATALOGUE[name]
    torch_dtype, numpy_dtype = PRECISIONS[precision]
    torch.manual_seed(seed)
    module = MODULES[name]().to(torch_dtype)
    inputs, target = make_batch(entry, steps * entry.batch, seed)
    inputs = [array.astype(numpy_dtype) if array.dtype == np.float32 else array for array in inputs]
    ours = dlc_losses(entry, module, inputs, target, precision)
    theirs = torch_losses(entry, module, inputs, target)
    return float(np.abs(ours / theirs - 1).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=list(CATALOGUE), help=f"of {', '.join(CATALOGUE)}")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    found = {
        name: {
            precision: [largest_difference(name, precision, arguments.steps, seed) for seed in range(arguments.seeds)]
            for precision in PRECISIONS
        }
        for name in arguments.models
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
