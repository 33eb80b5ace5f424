"""Twenty steps of examples with `update` blocks beside the same programs in PyTorch: losses, weights, states, in f64.

Where an example draws, the draws are inputs here. Skipped where PyTorch is not installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from compiler import driver
from compiler.driver import Array, Options
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from runtime.inference.model import length_of, runtime_settings
from runtime.inference.model import training_of as plan_of

torch = pytest.importorskip("torch")

Batch: TypeAlias = Mapping[str, Any]
EXAMPLES = Path(__file__).parents[2] / "examples"
STEPS, ROWS = 20, 12
RANDOM = np.random.default_rng(5)
F64 = Options(dtype="f64")


class Step:
    """The tensors of an example as those of PyTorch, and an Adam for each part of them."""

    def __init__(self, start: Mapping[str, Array], rates: Mapping[str, dict[str, Any]]) -> None:
        self.tensors = {name: torch.tensor(array, requires_grad=True) for name, array in start.items()}
        self._adams = {part: torch.optim.Adam(self.of(part), **given) for part, given in rates.items()}

    def of(self, part: str) -> list[Any]:
        return [t for name, t in self.tensors.items() if name.startswith(f"{part}.") and "running" not in name]

    def update(self, part: str, loss: Any, clip: float | None = None) -> float:
        adam = self._adams[part]
        for tensor in self.tensors.values():
            tensor.grad = None
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self.of(part), clip)
        adam.step()
        return float(loss.detach())

    def dense(self, path: str, x: Any) -> Any:
        return x @ self.tensors[f"{path}.W"] + self.tensors[f"{path}.b"]


def compare(
    name: str,
    drawn: Mapping[str, tuple[str, str]],
    data: Mapping[str, Array],
    rates: Mapping[str, dict[str, Any]],
    step_of: Callable[[Step, Sequence[Batch]], Mapping[str, float]],
) -> None:
    """`drawn` are the inputs in place of draws: the text that each replaces, and its declaration."""
    path = EXAMPLES / name / "model.dl"
    model, experiment = path.read_text().split("\ntrain ")
    for given, (draw, declaration) in drawn.items():
        assert draw in model
        model = model.replace(draw, given).replace("    input ", f"    input {given}: {declaration}\n    input ", 1)
    text = f"{model}\ntrain {experiment}"
    program = driver.load_text(text, str(path), None, (("batch", str(ROWS)),))
    plan = plan_of(program)
    whole = ROWS * plan.batches * STEPS
    tensors = driver.allocate(program, F64)
    driver.initialise(program, tensors, 0, F64)
    known = Step({spec.path: tensors[spec.path].copy() for spec in program.parameters}, rates)
    length = length_of(plan, whole)
    step = driver.compile_program(program, TRAINING, F64)
    order = np.arange(whole)
    found = step.run(Steps(tensors, data, order, length.batch, settings=runtime_settings(program, length)))
    told: list[Mapping[str, float]] = []
    for rows in order.reshape(STEPS, plan.batches, ROWS):
        batches = [{name: torch.tensor(array[batch]) for name, array in data.items()} for batch in rows]
        told.append(step_of(known, batches))
    for loss in told[0]:
        np.testing.assert_allclose(found.scalars[loss], [one[loss] for one in told], rtol=0, atol=1e-9, err_msg=loss)
    for path_, tensor in known.tensors.items():
        np.testing.assert_allclose(tensors[path_], tensor.detach().numpy(), rtol=0, atol=1e-8, err_msg=path_)


def test_gan() -> None:
    rows = ROWS * STEPS
    data = {"point": RANDOM.normal(size=(rows, 2)), "z": RANDOM.uniform(-1, 1, (rows, 8))}

    def network(step: Step, path: str, x: Any) -> Any:
        for layer in ("dense", "dense_2"):
            x = torch.nn.functional.leaky_relu(step.dense(f"{path}.{layer}", x), 0.2)
        return step.dense(f"{path}.dense_3", x)

    def step_of(step: Step, batches: Sequence[Batch]) -> Mapping[str, float]:
        (batch,) = batches
        soft = torch.nn.functional.softplus
        point = batch["point"].clone().requires_grad_()
        real = network(step, "critic", point)
        (slope,) = torch.autograd.grad(real.sum(), point, create_graph=True)
        made = network(step, "critic", network(step, "generator", batch["z"]))
        loss = soft(-real).mean() + soft(made).mean() + 0.05 * (slope**2).sum(dim=1).mean()
        critic = step.update("critic", loss)
        made = network(step, "critic", network(step, "generator", batch["z"]))
        return {"critic.loss": critic, "generator.loss": step.update("generator", soft(-made).mean())}

    rates = {"lr": 1e-3, "betas": (0.5, 0.999)}
    draws = {"z": ("2 * random(batch, noise) - 1", "f32[batch, 8]")}
    compare("gan", draws, data, {"critic": rates, "generator": rates}, step_of)


def test_wgan() -> None:
    rows = ROWS * STEPS * 5
    data = {
        "image": RANDOM.uniform(0, 16, (rows, 64)),
        "label": RANDOM.integers(0, 10, rows).astype(np.int32),
        "z": RANDOM.uniform(-1, 1, (rows, 32)),
        "cut": RANDOM.random((rows, 1)),
    }

    def draw(step: Step, batch: Batch, moves: bool) -> Any:
        x = torch.cat([batch["z"], one_hot(batch)], dim=1)
        for layer, norm in (("dense", "batch_norm"), ("dense_2", "batch_norm_2")):
            p = {n: step.tensors[f"generator.{norm}.{n}"] for n in ("gamma", "beta", "running_mean", "running_var")}
            x = step.dense(f"generator.{layer}", x)
            if moves:
                with torch.no_grad():
                    p["running_mean"].mul_(0.9).add_(0.1 * x.mean(dim=0))
                    p["running_var"].mul_(0.9).add_(0.1 * x.var(dim=0, unbiased=False))
            x = torch.nn.functional.batch_norm(x, None, None, p["gamma"], p["beta"], training=True, eps=1e-5).relu()
        return torch.tanh(step.dense("generator.dense_3", x))

    def one_hot(batch: Batch) -> Any:
        return torch.nn.functional.one_hot(batch["label"].long(), 10).double()

    def judge(step: Step, x: Any, batch: Batch) -> Any:
        x = torch.cat([x, one_hot(batch)], dim=1)
        for layer in ("h.dense", "h.dense_2"):
            x = torch.nn.functional.leaky_relu(step.dense(f"critic.{layer}", x), 0.2)
        return step.dense("critic.dense", x)[:, 0]

    def step_of(step: Step, batches: Sequence[Batch]) -> Mapping[str, float]:
        told: dict[str, float] = {}
        for batch in batches:
            real, fake = batch["image"] / 8 - 1, draw(step, batch, moves=True)
            between = batch["cut"] * real + (1 - batch["cut"]) * fake
            (slope,) = torch.autograd.grad(judge(step, between, batch).sum(), between, create_graph=True)
            norm = torch.sqrt((slope**2).sum(dim=1) + 1e-12)
            distance = judge(step, real, batch).mean() - judge(step, fake, batch).mean()
            told["critic.loss"] = step.update("critic", 10 * ((norm - 1) ** 2).mean() - distance)
        fake = draw(step, batches[-1], moves=False)
        told["generator.loss"] = step.update("generator", -judge(step, fake, batches[-1]).mean())
        return told

    rates = {"lr": 3e-4, "betas": (0.0, 0.9)}
    draws = {"z": ("2 * random(batch, noise) - 1", "f32[batch, 32]"), "cut": ("random(batch, 1)", "f32[batch, 1]")}
    compare("wgan", draws, data, {"critic": rates, "generator": rates}, step_of)


def test_dcgan() -> None:
    rows = ROWS * STEPS
    data = {"image": RANDOM.uniform(0, 16, (rows, 64)), "z": RANDOM.uniform(-1, 1, (rows, 32))}
    functional = torch.nn.functional

    def normed(step: Step, path: str, x: Any, moves: bool) -> Any:
        p = {n: step.tensors[f"{path}.{n}"] for n in ("gamma", "beta", "running_mean", "running_var")}
        if moves:
            with torch.no_grad():
                p["running_mean"].mul_(0.9).add_(0.1 * x.mean(dim=(0, 2, 3)))
                p["running_var"].mul_(0.9).add_(0.1 * x.var(dim=(0, 2, 3), unbiased=False))
        return functional.batch_norm(x, None, None, p["gamma"], p["beta"], training=True, eps=1e-5)

    def convolved(step: Step, path: str, x: Any, transposed: bool) -> Any:
        convolution = functional.conv_transpose2d if transposed else functional.conv2d
        weights = step.tensors[f"{path}.W"].permute((2, 3, 0, 1) if transposed else (3, 2, 0, 1))
        return convolution(x, weights, step.tensors[f"{path}.b"], stride=2, padding=1)

    def draw(step: Step, z: Any, moves: bool) -> Any:
        x = step.dense("generator.x.dense", z).reshape(ROWS, 64, 2, 2)
        x = normed(step, "generator.x.batch_norm", x, moves).relu()
        x = convolved(step, "generator.x.conv_transpose2d", x, transposed=True)
        x = normed(step, "generator.x.batch_norm_2", x, moves).relu()
        return torch.tanh(convolved(step, "generator.conv_transpose2d", x, transposed=True))

    def judge(step: Step, x: Any, moves: bool) -> Any:
        x = functional.leaky_relu(convolved(step, "critic.x.conv2d", x, transposed=False), 0.2)
        x = normed(step, "critic.x.batch_norm", convolved(step, "critic.x.conv2d_2", x, transposed=False), moves)
        return step.dense("critic.dense", functional.leaky_relu(x, 0.2).flatten(1))[:, 0]

    def step_of(step: Step, batches: Sequence[Batch]) -> Mapping[str, float]:
        (batch,) = batches
        soft = functional.softplus
        made = draw(step, batch["z"], moves=True)
        real_score = judge(step, (batch["image"] / 8 - 1).reshape(ROWS, 1, 8, 8), moves=True)
        made_score = judge(step, made, moves=True)
        critic = step.update("critic", soft(-real_score).mean() + soft(made_score).mean())
        made_score = judge(step, draw(step, batch["z"], moves=False), moves=False)
        return {"critic.loss": critic, "generator.loss": step.update("generator", soft(-made_score).mean())}

    rates = {"lr": 5e-4, "betas": (0.5, 0.999)}
    draws = {"z": ("2 * random(batch, noise) - 1", "f32[batch, 32]")}
    compare("dcgan", draws, data, {"critic": rates, "generator": rates}, step_of)


def test_actor_critic() -> None:
    rows = ROWS * STEPS * 2
    data = {
        "state": RANDOM.uniform(-1, 1, (rows, 2)),
        "after": RANDOM.uniform(-1, 1, (rows, 2)),
        "action": RANDOM.integers(0, 3, rows).astype(np.int32),
        "reward": RANDOM.normal(size=rows),
    }

    def network(step: Step, path: str, x: Any) -> Any:
        for layer in ("dense", "dense_2"):
            x = torch.tanh(step.dense(f"{path}.{layer}", x))
        return step.dense(f"{path}.dense_3", x)

    def step_of(step: Step, batches: Sequence[Batch]) -> Mapping[str, float]:
        told: dict[str, float] = {}
        for batch in batches:
            values, after = network(step, "critic", batch["state"]), network(step, "critic", batch["after"])
            worth = (torch.softmax(network(step, "actor", batch["after"]), dim=1) * after).sum(dim=1)
            taken = values[torch.arange(ROWS), batch["action"].long()]
            wanted = (batch["reward"] + 0.9 * worth).detach()
            told["critic.loss"] = step.update("critic", ((taken - wanted) ** 2).mean())
        odds = torch.softmax(network(step, "actor", batches[-1]["state"]), dim=1)
        value = (odds * network(step, "critic", batches[-1]["state"])).sum(dim=1).mean()
        entropy = -(odds * torch.log(odds + 1e-7)).sum(dim=1).mean()
        told["actor.loss"] = step.update("actor", -value - 0.01 * entropy, clip=1.0)
        return told

    compare("actor_critic", {}, data, {"critic": {"lr": 1e-3}, "actor": {"lr": 1e-3}}, step_of)
