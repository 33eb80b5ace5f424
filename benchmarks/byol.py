"""A training step of `examples/byol` beside the same program in PyTorch: a student, its average and two views.

    python benchmarks/byol.py [--threads 2] [--rounds 9] [--seconds 0.5]

Samples of all alternate, and their medians count. The views are drawn before and are the same for all. `torch` has a
fused AdamW and `torch._foreach_lerp_`; `torch_compile` compiles its loss. All must compute the same loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from torch.nn import functional

from compiler import driver
from side_by_side import expect_equal_losses, medians_of, own_step, parser_of, print_medians

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "examples" / "byol"
BATCH, RATE, DECAY, UPDATES = 128, 2e-3, 1e-4, 10**6
FOLLOWERS = (("teacher.", "encode."), ("target.", "project."))
Tensors: TypeAlias = "Mapping[str, torch.Tensor]"
_AUGMENT = ("    augment {", "    loss")


def text_without_views() -> str:
    """The example for data that holds both views."""
    text = (FOLDER / "model.dl").read_text()
    begin = text.index(_AUGMENT[0])
    return text[:begin] + text[text.index(_AUGMENT[1], begin) :]


def views() -> dict[str, np.ndarray[Any, Any]]:
    """Two views of the first digits: the pixels, and these a place further."""
    table = np.loadtxt(ROOT / "examples" / "digits" / "digits.csv.gz", delimiter=",", skiprows=1)[:BATCH, :64]
    return {"a": table, "b": np.roll(table.reshape(BATCH, 8, 8), 1, axis=2).reshape(BATCH, 64)}


def _normalised(tensors: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return functional.batch_norm(x, None, None, tensors[f"{name}.gamma"], tensors[f"{name}.beta"], training=True)


def encoded(tensors: Tensors, name: str, pixels: torch.Tensor) -> torch.Tensor:
    x = (pixels / 16).reshape(-1, 1, 8, 8)
    for number in ("", "_2"):
        weights = tensors[f"{name}.x.conv2d{number}.W"].permute(3, 2, 0, 1)
        x = functional.conv2d(x, weights, tensors[f"{name}.x.conv2d{number}.b"], padding=1)
        x = torch.relu(_normalised(tensors, f"{name}.x.batch_norm{number}", x))
    x = functional.max_pool2d(x, 2).flatten(1) @ tensors[f"{name}.dense.W"] + tensors[f"{name}.dense.b"]
    return torch.relu(_normalised(tensors, f"{name}.batch_norm", x))


def headed(tensors: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    x = x @ tensors[f"{name}.dense.W"] + tensors[f"{name}.dense.b"]
    x = torch.relu(_normalised(tensors, f"{name}.batch_norm", x))
    return x @ tensors[f"{name}.dense_2.W"] + tensors[f"{name}.dense_2.b"]


def loss_of(tensors: Tensors, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    def apart(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        guess = headed(tensors, "predict", headed(tensors, "project", encoded(tensors, "encode", x)))
        with torch.no_grad():
            goal = headed(tensors, "target", encoded(tensors, "teacher", y))
        return 2 - 2 * functional.cosine_similarity(guess, goal).mean()

    return apart(a, b) + apart(b, a)


def follow(tensors: Tensors, step: int, updates: int) -> None:
    """Move the averages behind an update; `step` counts those before it."""
    share = 0.01 * (math.cos(math.pi * min(step / updates, 1)) + 1)
    with torch.no_grad():
        for own, other in FOLLOWERS:
            names = [name for name in tensors if name.startswith(own) and "running" not in name]
            averages = [tensors[name] for name in names]
            torch._foreach_lerp_(averages, [tensors[name.replace(own, other)] for name in names], share)


def trained(tensors: Tensors) -> list[torch.Tensor]:
    return [t for n, t in tensors.items() if "running" not in n and not n.startswith(("teacher.", "target."))]


def peer(weights: Tensors, rows: Tensors, compiles: bool) -> Callable[[], float]:
    tensors = {name: value.clone() for name, value in weights.items()}
    for tensor in trained(tensors):
        tensor.requires_grad_()
    adam = torch.optim.AdamW(trained(tensors), lr=RATE, weight_decay=DECAY, fused=True)
    loss: Any = torch.compile(loss_of) if compiles else loss_of
    taken = 0

    def step() -> float:
        nonlocal taken
        adam.zero_grad()
        value = loss(tensors, rows["a"], rows["b"])
        value.backward()
        adam.step()
        follow(tensors, taken, UPDATES)
        taken += 1
        return float(value.item())

    return step


def ours(threads: int, rows: Mapping[str, np.ndarray[Any, Any]]) -> tuple[Callable[[], float], dict[str, torch.Tensor]]:
    """A step, which gives its loss, and the weights before it."""
    program = driver.load_text(text_without_views(), "byol.dl", "Byol")
    step, tensors = own_step(program, rows, BATCH, threads, UPDATES)
    return step, {spec.path: torch.tensor(np.array(tensors[spec.path])) for spec in program.parameters}


def main() -> None:
    parser = parser_of(__doc__)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = {name: array.astype(np.float32) for name, array in views().items()}
    data = {name: torch.tensor(array) for name, array in rows.items()}
    own, weights = ours(arguments.threads, rows)
    steps = {"dlc": own, "torch": peer(weights, data, False), "torch_compile": peer(weights, data, True)}
    expect_equal_losses(steps, 2e-3)
    print_medians(medians_of(steps, arguments.rounds, arguments.seconds))


if __name__ == "__main__":
    main()
