"""Twenty steps of examples beside the same programs in PyTorch: losses and weights, in f64.

Skipped where PyTorch is not installed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

import dlc

torch = pytest.importorskip("torch")

Array: TypeAlias = np.ndarray[Any, Any]
Tensors: TypeAlias = Mapping[str, Any]

EXAMPLES = Path(__file__).parents[3] / "examples"
STEPS = 20


def tensors_of(model: dlc.Model) -> dict[str, Any]:
    """Copies of the parameters of a model, as those of PyTorch."""
    return {name: torch.tensor(np.array(array), requires_grad=True) for name, array in model.parameters.items()}


def expect_equal_steps(
    model: dlc.Model, rows: Mapping[str, Array], loss_of: Callable[[Tensors], Any], optimizer: Any, schedule: Any
) -> Any:
    """Take the steps on the same rows each time; `loss_of` computes what `train` calls its loss.

    `optimizer` and `schedule` make PyTorch's, the one of its tensors, the other of the optimizer.
    """
    tensors = tensors_of(model)
    steps = optimizer(list(tensors.values()))
    rates = schedule(steps)
    losses: list[float] = []
    for _ in range(STEPS):
        steps.zero_grad()
        loss = loss_of(tensors)
        loss.backward()
        steps.step()
        rates.step()
        losses.append(float(loss.detach()))
    result = model.train(rows)
    assert result.steps == STEPS
    assert result.history[-1].scalars["loss"] == pytest.approx(losses[-1], rel=1e-9)
    for name, found in model.parameters.items():
        np.testing.assert_allclose(np.array(found), tensors[name].detach().numpy(), rtol=0, atol=1e-9, err_msg=name)
    return result


def test_burgers() -> None:
    with np.load(EXAMPLES / "burgers" / "points.npz") as file:
        rows = {name: file[name][::100] for name in file}  # inside, at the beginning and at the edges
    count = len(rows["place"])
    model = dlc.load(EXAMPLES / "burgers" / "model.dl", experiment="start", precision="f64", batch=count, steps=STEPS)
    value, known = torch.tensor(rows["value"]).double(), torch.tensor(rows["known"])
    assert 0 < known.sum() < count

    def loss_of(tensors: Tensors) -> Any:
        place = torch.tensor(rows["place"]).double().requires_grad_()
        h = place
        for layer in range(6):
            h = torch.tanh(h @ tensors[f"h.{layer}.dense.W"] + tensors[f"h.{layer}.dense.b"])
        u = (h @ tensors["u.dense.W"] + tensors["u.dense.b"])[:, 0]
        (slope,) = torch.autograd.grad(u.sum(), place, create_graph=True)
        (bend,) = torch.autograd.grad(slope[:, 1].sum(), place, create_graph=True)
        residual = slope[:, 0] + u * slope[:, 1] - 0.01 / math.pi * bend[:, 1]
        return (residual**2).mean() + ((u - value)[known] ** 2).mean()

    expect_equal_steps(
        model,
        rows,
        loss_of,
        lambda tensors: torch.optim.Adam(tensors, lr=5e-3),
        lambda steps: torch.optim.lr_scheduler.CosineAnnealingLR(steps, STEPS),
    )


@pytest.mark.parametrize("weight", [0.1, 0.0])
def test_experts(weight: float) -> None:
    table = np.loadtxt(EXAMPLES / "digits" / "digits.csv.gz", delimiter=",", skiprows=1)[:96]
    rows = {"pixels": table[:, :64], "label": table[:, 64].astype(np.int32)}
    path = EXAMPLES / "experts" / "model.dl"
    weights: dict[str, Any] = {"auxiliary.balance": weight}
    model = dlc.load(path, precision="f64", batch=96, steps=STEPS, test=0, **weights)
    pixels, label = torch.tensor(rows["pixels"]), torch.tensor(rows["label"]).long()
    balances: list[float] = []

    def loss_of(tensors: Tensors) -> Any:
        x = torch.relu(pixels / 16 @ tensors["x.dense.W"] + tensors["x.dense.b"])
        odds = torch.softmax(x @ tensors["logits.experts.odds.dense.W"], dim=1)
        chosen = torch.nn.functional.one_hot(odds.argmax(dim=1), 8)
        balance = 8 * (chosen.double().mean(dim=0) * odds.mean(dim=0)).sum()
        balances.append(float(balance.detach()))
        w, b, v = (tensors[f"logits.experts.{name}"] for name in "WbV")
        inner = torch.relu(torch.einsum("bn,enh->beh", x, w) + b)
        logits = (torch.einsum("beh,ehu->beu", inner, v) * (chosen * odds)[:, :, None]).sum(dim=1)
        return torch.nn.functional.cross_entropy(logits, label) + weight * balance

    result = expect_equal_steps(
        model,
        rows,
        loss_of,
        lambda tensors: torch.optim.Adam(tensors, lr=3e-3),
        lambda steps: torch.optim.lr_scheduler.CosineAnnealingLR(steps, STEPS),
    )
    assert result.history[-1].scalars["balance"] == pytest.approx(balances[-1], rel=1e-9)


def test_byol() -> None:
    """The views are given: two columns of data in place of draws."""
    from byol import follow, loss_of, text_without_views, trained, views

    rows = {name: array[:48] for name, array in views().items()}
    model = dlc.loads(text_without_views(), experiment="Byol", precision="f64", batch=48, steps=STEPS, test=0)
    tensors = {name: torch.tensor(np.array(array)) for name, array in model.parameters.items()}
    for tensor in trained(tensors):
        tensor.requires_grad_()
    adam = torch.optim.AdamW(trained(tensors), lr=2e-3, weight_decay=1e-4)
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(adam, STEPS)
    a, b = (torch.tensor(rows[name]) for name in ("a", "b"))
    losses: list[float] = []
    for step in range(STEPS):
        adam.zero_grad()
        loss = loss_of(tensors, a, b)
        loss.backward()
        adam.step()
        rates.step()
        follow(tensors, step, STEPS)
        losses.append(float(loss.detach()))
    result = model.train(rows)
    assert result.steps == STEPS
    assert result.history[-1].scalars["loss"] == pytest.approx(losses[-1], rel=1e-7)
    last = {name: np.array(array) for name, array in model.parameters.items() if "running" not in name}
    for name, found in last.items():
        np.testing.assert_allclose(found, tensors[name].detach().numpy(), rtol=0, atol=1e-6, err_msg=name)
