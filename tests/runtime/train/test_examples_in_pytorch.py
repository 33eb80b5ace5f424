"""Twenty steps of examples beside the same programs in PyTorch: losses and weights, in f64.

Skipped where PyTorch is not installed.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import pytest

import dlc
from compiler import driver

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
        if "running_" in name:  # a state of the model, which no gradient moves
            continue
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


def test_wave() -> None:
    with np.load(EXAMPLES / "wave" / "points.npz") as file:
        rows = {name: file[name][::50] for name in file}  # where it was measured, and where not
    count = len(rows["place"])
    model = dlc.load(EXAMPLES / "wave" / "model.dl", experiment="start", precision="f64", batch=count, steps=STEPS)
    value, known = torch.tensor(rows["value"]).double(), torch.tensor(rows["known"])
    assert 0 < known.sum() < count

    def loss_of(tensors: Tensors) -> Any:
        place = torch.tensor(rows["place"]).double().requires_grad_()
        h = 2 * place - 1
        for layer in range(4):
            h = torch.tanh(h @ tensors[f"h.{layer}.dense.W"] + tensors[f"h.{layer}.dense.b"])
        u = (h @ tensors["u.dense.W"] + tensors["u.dense.b"])[:, 0]
        (slope,) = torch.autograd.grad(u.sum(), place, create_graph=True)
        by_t, by_x = (torch.autograd.grad(slope[:, k].sum(), place, create_graph=True)[0][:, k] for k in (0, 1))
        residual = by_t - tensors["speed"] ** 2 * by_x
        return (residual**2).mean() + 100 * ((u - value)[known] ** 2).mean()

    start = float(model.parameters["speed"][0])
    expect_equal_steps(
        model,
        rows,
        loss_of,
        lambda tensors: torch.optim.Adam(tensors, lr=5e-3),
        lambda steps: torch.optim.lr_scheduler.CosineAnnealingLR(steps, STEPS),
    )
    assert float(model.parameters["speed"][0]) != start


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


def without_augment(example: str, folder: Path) -> Path:
    """The text of an example without `augment`, for PyTorch to see the same inputs."""
    lines = (EXAMPLES / example / "model.dl").read_text().replace("../digits", str(EXAMPLES / "digits")).splitlines()
    path = folder / "model.dl"
    path.write_text("\n".join(line for line in lines if not line.strip().startswith("augment")) + "\n")
    return path


def unit(x: Any) -> Any:
    return x / x.norm(dim=1, keepdim=True)


def test_simclr(tmp_path: Path) -> None:
    table = np.loadtxt(EXAMPLES / "digits" / "digits.csv.gz", delimiter=",", skiprows=1)[:96]
    random = np.random.default_rng(0)
    views = {name: table[:, :64] + random.integers(-2, 3, (96, 64)) for name in "ab"}
    model = dlc.load(without_augment("simclr", tmp_path), precision="f64", batch=96, steps=STEPS, test=0)
    a, b = (torch.tensor(views[name]) for name in "ab")
    label = torch.tensor(table[:, 64]).long()

    def dense(tensors: Tensors, name: str, x: Any) -> Any:
        return x @ tensors[f"{name}.W"] + tensors[f"{name}.b"]

    def loss_of(tensors: Tensors) -> Any:
        codes: list[Any] = []
        for x in (b, a):
            h = torch.relu(dense(tensors, "encode.dense", x / 16))
            h = torch.relu(dense(tensors, "encode.dense_2", h))
            projected = torch.relu(dense(tensors, "project.dense", h))
            codes.append(unit(dense(tensors, "project.dense_2", projected)))
        scores = torch.cat(codes) @ torch.cat(codes).T / 0.5
        scores = scores.masked_fill(torch.eye(192, dtype=torch.bool), -math.inf)
        contrast = torch.nn.functional.cross_entropy(scores, (torch.arange(192) + 96) % 192)
        h = h.detach()
        normal = (h - h.mean(dim=0)) / torch.sqrt(h.var(dim=0, unbiased=False) + 1e-5)
        normal = normal * tensors["logits.batch_norm.gamma"] + tensors["logits.batch_norm.beta"]
        return contrast + torch.nn.functional.cross_entropy(dense(tensors, "logits.dense", normal), label)

    expect_equal_steps(
        model,
        {**views, "label": table[:, 64].astype(np.int32)},
        loss_of,
        lambda tensors: torch.optim.Adam(tensors, lr=2e-3),
        lambda steps: torch.optim.lr_scheduler.CosineAnnealingLR(steps, STEPS),
    )


def test_clip(tmp_path: Path) -> None:
    with np.load(EXAMPLES / "clip" / "pairs.npz") as file:
        rows = {name: file[name][:80] for name in file}
    model = dlc.load(without_augment("clip", tmp_path), precision="f64", batch=80, steps=STEPS, test=0)
    image, caption = torch.tensor(rows["image"]).double() / 255, torch.tensor(rows["caption"]).long()

    def loss_of(tensors: Tensors) -> Any:
        kernels = tensors["drawn.conv2d.W"].permute(3, 2, 0, 1)
        drawn = torch.nn.functional.conv2d(image.permute(0, 3, 1, 2), kernels, tensors["drawn.conv2d.b"])
        drawn = torch.nn.functional.max_pool2d(torch.relu(drawn), 2).flatten(1)
        words = tensors["text.embedding.W"][caption].flatten(1)
        codes: list[Any] = []
        for name, x in (("picture", drawn), ("text", words)):
            h = torch.relu(x @ tensors[f"{name}.dense.W"] + tensors[f"{name}.dense.b"])
            codes.append(unit(h @ tensors[f"{name}.dense_2.W"] + tensors[f"{name}.dense_2.b"]))
        scores, own = codes[0] @ codes[1].T * tensors["warmth"].exp(), torch.arange(80)
        entropy = torch.nn.functional.cross_entropy
        return (entropy(scores, own) + entropy(scores.T, own)) / 2

    expect_equal_steps(
        model,
        rows,
        loss_of,
        lambda tensors: torch.optim.Adam(tensors, lr=2e-3),
        lambda steps: torch.optim.lr_scheduler.CosineAnnealingLR(steps, STEPS),
    )


def measured(name: str) -> ModuleType:
    """The module of a benchmark, which has the example in PyTorch."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", EXAMPLES.parent / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_diffusion() -> None:
    """Both get the same draws, which are those of the steps of a training."""
    peer = measured("diffusion")
    program, rows = peer.load(("precision", "f64"), ("schedule", "constant")), peer.rows_of(100)
    step, tensors = peer.ours(program, driver.Options(batch=100), rows)
    weights = {spec.path: torch.tensor(np.array(tensors[spec.path])).requires_grad_() for spec in program.parameters}
    averages = {name: value.detach().clone() for name, value in weights.items()}
    data = {"pixels": torch.tensor(rows["pixels"]).double(), "label": torch.tensor(rows["label"]).long()}
    adam = torch.optim.Adam(weights.values(), lr=peer.RATE)
    for number in range(STEPS):
        adam.zero_grad()
        loss = peer.loss_of(weights, data, peer.draws_of(program, number, 100, torch.float64))
        loss.backward()
        adam.step()
        for name, average in averages.items():
            average.lerp_(weights[name].detach(), 1 - peer.EMA)
        assert step() == pytest.approx(loss.item(), rel=1e-9)
    for name, value in weights.items():
        np.testing.assert_allclose(np.array(tensors[name]), value.detach(), rtol=0, atol=1e-8, err_msg=name)
        average = np.array(tensors[f"{name}:{driver.AVERAGE}"])
        np.testing.assert_allclose(average, averages[name], rtol=0, atol=1e-8, err_msg=name)
