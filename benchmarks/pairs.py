"""Training steps of `examples/simclr` and `examples/clip` beside the same programs in PyTorch: losses over pairs.

    python benchmarks/pairs.py [--threads 2] [--rounds 9] [--seconds 0.5] [--batch 128 256 512]

Samples of all alternate, and their medians count. `torch` is what most people write, with a fused Adam; `torch_compile`
is its loss compiled. Views are inputs, so that nothing is drawn. That all compute the same losses is checked.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compiler import driver
from runtime.data.dimensions import dimensions_if_there
from side_by_side import expect_equal_losses, medians_of, own_step, parser_of

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
RATE = 2e-3
Tensors = dict[str, torch.Tensor]
Loss = Callable[[Tensors, Tensors], torch.Tensor]
functional: Any = torch.nn.functional


def dense(weights: Tensors, name: str, x: torch.Tensor) -> torch.Tensor:
    return x @ weights[f"{name}.W"] + weights[f"{name}.b"]


def simclr(weights: Tensors, data: Tensors) -> torch.Tensor:
    h = torch.cat([data["a"], data["b"]]) / 16
    for name in ("encode.dense", "encode.dense_2"):
        h = torch.relu(dense(weights, name, h))
    code = dense(weights, "project.dense_2", torch.relu(dense(weights, "project.dense", h)))
    code = functional.normalize(code)
    count = len(code)
    own = torch.eye(count, dtype=torch.bool)
    scores = (code @ code.T / 0.5).masked_fill(own, -torch.inf)
    contrast = functional.cross_entropy(scores, torch.arange(count).roll(count // 2))
    seen = h[: count // 2].detach()
    gamma, beta = weights["logits.batch_norm.gamma"], weights["logits.batch_norm.beta"]
    normal = functional.batch_norm(seen, None, None, gamma, beta, training=True)
    return contrast + functional.cross_entropy(dense(weights, "logits.dense", normal), data["label"].long())


def clip(weights: Tensors, data: Tensors) -> torch.Tensor:
    image = data["image"].float().permute(0, 3, 1, 2) / 255
    drawn = functional.conv2d(image, weights["drawn.conv2d.W"].permute(3, 2, 0, 1), weights["drawn.conv2d.b"])
    drawn = functional.max_pool2d(torch.relu(drawn), 2).flatten(1)
    words = functional.embedding(data["caption"], weights["text.embedding.W"]).flatten(1)
    codes = [
        functional.normalize(dense(weights, f"{name}.dense_2", torch.relu(dense(weights, f"{name}.dense", x))))
        for name, x in (("picture", drawn), ("text", words))
    ]
    scores, own = codes[0] @ codes[1].T * weights["warmth"].exp(), torch.arange(len(drawn))
    return (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2


def rows_of(name: str, batch: int) -> dict[str, np.ndarray]:
    if name == "clip":
        with np.load(EXAMPLES / "clip" / "pairs.npz") as file:
            return {field: file[field][:batch] for field in file}
    table = np.loadtxt(EXAMPLES / "digits" / "digits.csv.gz", delimiter=",", skiprows=1, dtype=np.float32)[:batch]
    noise = np.random.default_rng(0).normal(size=(2, len(table), 64)).astype(np.float32)
    return {"a": table[:, :64] + noise[0], "b": table[:, :64] + noise[1], "label": table[:, 64].astype(np.int32)}


def torch_step(loss_of: Loss, weights: Tensors, data: Tensors) -> Callable[[], float]:
    tensors = {name: value.clone().requires_grad_() for name, value in weights.items()}
    adam = torch.optim.Adam(tensors.values(), lr=RATE, fused=True)

    def step() -> float:
        adam.zero_grad()
        loss = loss_of(tensors, data)
        loss.backward()
        adam.step()
        return loss.item()

    return step


def ours(name: str, rows: Mapping[str, np.ndarray], batch: int, threads: int) -> tuple[Callable[[], float], Tensors]:
    """A step of the text without its `augment`, which gives its loss, and the weights before it."""
    path = EXAMPLES / name / "model.dl"
    lines = [line for line in path.read_text().splitlines() if not line.strip().startswith("augment")]
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "model.dl"
        plain.write_text("\n".join(lines) + "\n")
        program = driver.load(plain, None, (("batch", str(batch)),), dimensions_if_there)
    step, tensors = own_step(program, rows, batch, threads)
    weights = {s.path: torch.tensor(np.array(tensors[s.path])) for s in program.parameters if "running" not in s.path}
    return step, weights


def measured(name: str, loss_of: Loss, batch: int, arguments: argparse.Namespace) -> dict[str, float]:
    """The median milliseconds of a step of each peer."""
    rows = rows_of(name, batch)
    data = {field: torch.tensor(array) for field, array in rows.items()}
    own, weights = ours(name, rows, batch, arguments.threads)
    steps = {
        "dlc": own,
        "torch": torch_step(loss_of, weights, data),
        "torch_compile": torch_step(torch.compile(loss_of), weights, data),
    }
    expect_equal_losses(steps)
    return medians_of(steps, arguments.rounds, arguments.seconds)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[128, 256, 512])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print("| example | batch | peer | ms a step | of dlc |\n| --- | ---: | --- | ---: | ---: |")
    for name, loss_of in (("simclr", simclr), ("clip", clip)):
        for batch in arguments.batch:
            medians = measured(name, loss_of, batch, arguments)
            for peer, value in medians.items():
                print(f"| {name} | {batch} | {peer} | {value:.3f} | {value / medians['dlc']:.2f} |")


if __name__ == "__main__":
    main()
