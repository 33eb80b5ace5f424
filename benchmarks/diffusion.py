"""A training step of `examples/diffusion` beside the same program in PyTorch, on the same draws.

    python benchmarks/diffusion.py [--threads 2] [--rounds 9] [--seconds 0.5]

Samples of all alternate, and their medians count. `torch` is what most people write, with a fused Adam and an average
of the weights by `torch._foreach_lerp_`; `torch_compile` is the same with its loss compiled. In the samples PyTorch
draws its own numbers; before, all take five steps on the draws of ours, and that they compute the same loss is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compiler import driver
from compiler.driver import Program
from compiler.ops.sources import RandomUniform, uniform
from compiler.types import at_batch
from runtime.data.dimensions import dimensions_if_there
from side_by_side import medians_of, own_step, parser_of, print_medians

FOLDER = Path(__file__).resolve().parents[1] / "examples"
BATCH, RATE, EMA = 64, 2e-3, 0.995
Tensors = dict[str, torch.Tensor]
Draws = Sequence[torch.Tensor]


def rows_of(count: int) -> dict[str, np.ndarray]:
    table = np.loadtxt(FOLDER / "digits" / "digits.csv.gz", delimiter=",", skiprows=1)[:count]
    return {"pixels": table[:, :64].astype(np.float32), "label": table[:, 64].astype(np.int32)}


def load(*overrides: tuple[str, str]) -> Program:
    return driver.complete(driver.load(FOLDER / "diffusion" / "model.dl", None, overrides, dimensions_if_there))


def draws_of(program: Program, step: int, rows: int, dtype: torch.dtype) -> list[torch.Tensor]:
    """The uniform numbers of a step of training with the seed 0, in the order of the text."""
    found: list[torch.Tensor] = []
    for node in program.training_graph.nodes:
        if isinstance(node.op, RandomUniform):
            shape = at_batch(node.op.shape, rows)
            drawn = uniform(0, step, node.op.stream, np.arange(math.prod(shape)))
            found.append(torch.tensor(drawn.reshape(shape)).to(dtype))
    return found


def own_draws(rows: int) -> list[torch.Tensor]:
    return [torch.rand(shape) for shape in ((rows,), (rows, 64), (rows, 64), (rows,))]


def loss_of(weights: Tensors, data: Tensors, draws: Draws) -> torch.Tensor:
    """The loss of the text: the mean square of what the network misses of the noise."""
    t, u, v, dropped = draws
    noise = torch.sqrt(-2 * torch.log1p(-u)) * torch.cos(2 * math.pi * v)
    a = torch.cos(0.99 * t * math.pi / 2)[:, None]
    x = a * (data["pixels"] / 8 - 1) + torch.sqrt(1 - a**2) * noise
    angles = t[:, None] * 2.0 ** torch.arange(8) * math.pi / 2
    digit = torch.where(dropped < 0.1, 10, data["label"])

    def dense(name: str, given: torch.Tensor) -> torch.Tensor:
        return given @ weights[f"denoise.{name}.W"] + weights[f"denoise.{name}.b"]

    def norm(name: str, given: torch.Tensor) -> torch.Tensor:
        scale, shift = (weights[f"denoise.{name}.{part}"] for part in ("gamma", "beta"))
        return torch.nn.functional.layer_norm(given, given.shape[-1:], scale, shift, eps=1e-5)

    told = dense("told.dense", torch.cat([angles.sin(), angles.cos()], dim=1))
    told = told + weights["denoise.told.embedding.W"][digit]
    h = dense("h.dense", x)
    for block in range(3):
        inner = torch.relu(dense(f"h.{block}.dense_2", norm(f"h.{block}.layer_norm", h + told)))
        h = h + dense(f"h.{block}.dense_3", inner)
    return ((dense("dense", norm("layer_norm", h)) - noise) ** 2).mean()


def theirs(weights: Tensors, data: Tensors, loss: Any) -> Callable[[Draws], float]:
    tensors = {name: value.clone().requires_grad_() for name, value in weights.items()}
    averages = [value.clone() for value in weights.values()]
    adam = torch.optim.Adam(tensors.values(), lr=RATE, fused=True)

    def step(draws: Draws) -> float:
        adam.zero_grad()
        value = loss(tensors, data, draws)
        value.backward()
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(averages, list(tensors.values()), 1 - EMA)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage]
        return value.item()

    return step


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    program, rows = load(), rows_of(BATCH)
    data = {"pixels": torch.tensor(rows["pixels"]), "label": torch.tensor(rows["label"]).long()}
    own, tensors = own_step(program, rows, BATCH, arguments.threads)
    weights = {spec.path: torch.tensor(np.array(tensors[spec.path])) for spec in program.parameters}
    others = {"torch": theirs(weights, data, loss_of), "torch_compile": theirs(weights, data, torch.compile(loss_of))}
    for number in range(5):
        expected, draws = own(), draws_of(program, number, BATCH, torch.float32)
        for name, step in others.items():
            np.testing.assert_allclose(step(draws), expected, rtol=1e-3, err_msg=name)
    steps: dict[str, Callable[[], object]] = {"dlc": own}
    steps |= {name: lambda step=step: step(own_draws(BATCH)) for name, step in others.items()}
    print_medians(medians_of(steps, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
