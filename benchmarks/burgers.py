"""A training step of `examples/burgers` beside the same program in PyTorch: derivatives of derivatives.

    python benchmarks/burgers.py [--threads 2] [--rounds 9] [--seconds 0.5]

Samples of all alternate, and their medians count. `torch` is what most people write, `torch.autograd.grad` twice with
`create_graph`, and a fused Adam; `torch_compile` is its loss as a function of weights, differentiated by `torch.func`
and compiled, with the same Adam. That all compute the same loss is checked.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compiler import driver
from compiler.driver import Options, Steps
from compiler.programs.kinds import TRAINING
from runtime.data.dimensions import dimensions_if_there
from runtime.inference.model import runtime_settings
from runtime.runs.position import Length

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "burgers"
BATCH, DEPTH, RATE = 2150, 6, 5e-3
Tensors = dict[str, torch.Tensor]
vjp: Any = torch.func.vjp


def points() -> dict[str, np.ndarray]:
    with np.load(FOLDER / "points.npz") as file:
        return {name: file[name][:: len(file[name]) // BATCH][:BATCH] for name in file}


def network(weights: Tensors, place: torch.Tensor) -> torch.Tensor:
    h = place
    for layer in range(DEPTH):
        h = torch.tanh(h @ weights[f"h.{layer}.dense.W"] + weights[f"h.{layer}.dense.b"])
    return (h @ weights["u.dense.W"] + weights["u.dense.b"])[:, 0]


def loss_of(
    u: torch.Tensor, slope: torch.Tensor, bend: torch.Tensor, value: torch.Tensor, known: torch.Tensor
) -> torch.Tensor:
    residual = slope[:, 0] + u * slope[:, 1] - 0.01 / math.pi * bend[:, 1]
    return (residual**2).mean() + (torch.where(known, u - value, 0) ** 2).sum() / known.sum()


def eager(weights: Tensors, data: Tensors) -> Callable[[], float]:
    place = data["place"].clone().requires_grad_()
    tensors = {name: value.clone().requires_grad_() for name, value in weights.items()}
    adam = torch.optim.Adam(tensors.values(), lr=RATE, fused=True)

    def step() -> float:
        adam.zero_grad()
        u = network(tensors, place)
        (slope,) = torch.autograd.grad(u.sum(), place, create_graph=True)
        (bend,) = torch.autograd.grad(slope[:, 1].sum(), place, create_graph=True)
        loss = loss_of(u, slope, bend, data["value"], data["known"])
        loss.backward()
        adam.step()
        return loss.item()

    return step


def compiled(weights: Tensors, data: Tensors) -> Callable[[], float]:
    tensors = {name: value.clone().requires_grad_() for name, value in weights.items()}
    adam = torch.optim.Adam(tensors.values(), lr=RATE, fused=True)

    def slope_of(given: Tensors, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        u, back = vjp(lambda at: network(given, at), place)
        return back(torch.ones_like(u))[0], u

    def loss(given: Tensors, place: torch.Tensor, value: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        slope, back, u = vjp(lambda at: slope_of(given, at), place, has_aux=True)
        (bend,) = back(torch.tensor([0.0, 1.0]).expand_as(slope))
        return loss_of(u, slope, bend, value, known)

    derivative = torch.compile(torch.func.grad_and_value(loss))

    def step() -> float:
        gradients, value = derivative(tensors, data["place"], data["value"], data["known"])
        for name, tensor in tensors.items():
            tensor.grad = gradients[name]
        adam.step()
        return value.item()

    return step


def ours(threads: int, rows: dict[str, np.ndarray]) -> tuple[Callable[[], float], Tensors]:
    """A step, which gives its loss, and the weights before it."""
    program = driver.load(FOLDER / "model.dl", "start", (), dimensions_if_there)
    options = driver.options_of(program, Options(batch=BATCH, threads=threads))
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    weights = {spec.path: torch.tensor(np.array(tensors[spec.path])) for spec in program.parameters}
    executable = driver.compile_program(program, TRAINING, options)
    order, taken = np.arange(BATCH), 0
    settings = runtime_settings(program, Length(BATCH, BATCH, 10**6))  # so long that the rate hardly changes

    def step() -> float:
        nonlocal taken
        results = executable.run(Steps(tensors, rows, order, BATCH, taken, 0, settings))
        taken += 1
        return float(results.scalars["loss"][0])

    return step, weights


def sampled(step: Callable[[], float], seconds: float) -> float:
    """Milliseconds of a step."""
    count, begun = 0, time.perf_counter()
    while (lasted := time.perf_counter() - begun) < seconds or count < 3:
        step()
        count += 1
    return 1e3 * lasted / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = points()
    data = {name: torch.tensor(array) for name, array in rows.items()}
    own, weights = ours(arguments.threads, rows)
    steps: dict[str, Callable[[], float]] = {
        "dlc": own,
        "torch": eager(weights, data),
        "torch_compile": compiled(weights, data),
    }
    losses = {name: [step() for _ in range(5)] for name, step in steps.items()}
    for name, found in losses.items():
        np.testing.assert_allclose(found, losses["dlc"], rtol=1e-3, err_msg=name)
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(arguments.rounds):
        for name, step in steps.items():
            samples[name].append(sampled(step, arguments.seconds))
    print("| peer | ms a step | of dlc |\n| --- | ---: | ---: |")
    medians = {name: statistics.median(values) for name, values in samples.items()}
    for name, value in medians.items():
        print(f"| {name} | {value:.2f} | {value / medians['dlc']:.2f} |")


if __name__ == "__main__":
    main()
