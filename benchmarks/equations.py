"""A training step of `examples/burgers` or `examples/wave` beside the same program in PyTorch: slopes of slopes.

    python benchmarks/equations.py [--example wave] [--threads 2] [--rounds 9] [--seconds 0.5]

Samples of all alternate, and their medians count. `torch` is what most people write, `torch.autograd.grad` twice with
`create_graph`, and a fused Adam; `torch_compile` is its loss as a function of weights, differentiated by `torch.func`
and compiled, with the same Adam. That all compute the same loss is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compiler import driver
from runtime.data.dimensions import dimensions_if_there
from side_by_side import expect_equal_losses, medians_of, own_step, parser_of, print_medians

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RATE = 5e-3
Tensors = dict[str, torch.Tensor]
vjp: Any = torch.func.vjp


@dataclass(frozen=True)
class Equation:
    """An example: its network, the axes of place in which its equation has second derivatives, and its residual.

    `residual` takes the weights, u, its slopes [rows, 2], and of each such axis the second derivative [rows].
    """

    example: str
    batch: int
    depth: int
    scale: float
    shift: float
    axes: tuple[int, ...]
    weight: float
    residual: Callable[..., torch.Tensor]

    def points(self) -> dict[str, np.ndarray]:
        with np.load(EXAMPLES / self.example / "points.npz") as file:
            return {name: file[name][:: len(file[name]) // self.batch][: self.batch] for name in file}

    def network(self, weights: Tensors, place: torch.Tensor) -> torch.Tensor:
        h = self.scale * place + self.shift
        for layer in range(self.depth):
            h = torch.tanh(h @ weights[f"h.{layer}.dense.W"] + weights[f"h.{layer}.dense.b"])
        return (h @ weights["u.dense.W"] + weights["u.dense.b"])[:, 0]

    def loss(
        self, weights: Tensors, u: torch.Tensor, slope: torch.Tensor, bends: list[torch.Tensor], data: Tensors
    ) -> torch.Tensor:
        known = data["known"]
        misfit = (torch.where(known, u - data["value"], 0) ** 2).sum() / known.sum()
        return (self.residual(weights, u, slope, *bends) ** 2).mean() + self.weight * misfit


EQUATIONS = {
    one.example: one
    for one in (
        Equation(
            "burgers", 2150, 6, 1, 0, (1,), 1,
            lambda _, u, slope, by_x: slope[:, 0] + u * slope[:, 1] - 0.01 / math.pi * by_x,
        ),
        Equation(
            "wave", 1500, 4, 2, -1, (0, 1), 100,
            lambda weights, u, slope, by_t, by_x: by_t - weights["speed"] ** 2 * by_x,
        ),
    )
}  # fmt: skip


def eager(equation: Equation, weights: Tensors, data: Tensors) -> Callable[[], float]:
    place = data["place"].clone().requires_grad_()
    tensors = {name: value.clone().requires_grad_() for name, value in weights.items()}
    adam = torch.optim.Adam(tensors.values(), lr=RATE, fused=True)

    def step() -> float:
        adam.zero_grad()
        u = equation.network(tensors, place)
        (slope,) = torch.autograd.grad(u.sum(), place, create_graph=True)
        bends = [
            torch.autograd.grad(slope[:, axis].sum(), place, create_graph=True)[0][:, axis] for axis in equation.axes
        ]
        loss = equation.loss(tensors, u, slope, bends, data)
        loss.backward()
        adam.step()
        return loss.item()

    return step


def compiled(equation: Equation, weights: Tensors, data: Tensors) -> Callable[[], float]:
    tensors = {name: value.clone().requires_grad_() for name, value in weights.items()}
    adam = torch.optim.Adam(tensors.values(), lr=RATE, fused=True)

    def slope_of(given: Tensors, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        u, back = vjp(lambda at: equation.network(given, at), place)
        return back(torch.ones_like(u))[0], u

    def loss(given: Tensors, data: Tensors) -> torch.Tensor:
        slope, back, u = vjp(lambda at: slope_of(given, at), data["place"], has_aux=True)
        units = torch.eye(2)
        bends = [back(units[axis].expand_as(slope))[0][:, axis] for axis in equation.axes]
        return equation.loss(given, u, slope, bends, data)

    derivative = torch.compile(torch.func.grad_and_value(loss))

    def step() -> float:
        gradients, value = derivative(tensors, data)
        for name, tensor in tensors.items():
            tensor.grad = gradients[name]
        adam.step()
        return value.item()

    return step


def ours(equation: Equation, threads: int, rows: dict[str, np.ndarray]) -> tuple[Callable[[], float], Tensors]:
    """A step, which gives its loss, and the weights before it."""
    batch = equation.batch
    program = driver.load(EXAMPLES / equation.example / "model.dl", "start", (), dimensions_if_there)
    step, tensors = own_step(program, rows, batch, threads)
    return step, {spec.path: torch.tensor(np.array(tensors[spec.path])) for spec in program.parameters}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--example", choices=EQUATIONS, default="burgers")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    equation = EQUATIONS[arguments.example]
    rows = equation.points()
    data = {name: torch.tensor(array) for name, array in rows.items()}
    own, weights = ours(equation, arguments.threads, rows)
    steps: dict[str, Callable[[], float]] = {
        "dlc": own,
        "torch": eager(equation, weights, data),
        "torch_compile": compiled(equation, weights, data),
    }
    expect_equal_losses(steps)
    print_medians(medians_of(steps, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
