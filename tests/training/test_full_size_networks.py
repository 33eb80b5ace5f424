"""The networks for pictures of 224 × 224 pixels take steps at that size: their loss and their gradients are right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest
from repository import ROOT

from compiler import driver
from compiler.driver import Options, Program, Tensors
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.interface import Steps
from compiler.pipeline import simplified
from compiler.programs.kinds import TRAINING
from compiler.programs.load import complete
from compiler.targets.reference import ReferenceExecutable
from runtime.analysis.made_up_steps import synthetic
from runtime.inference.model import runtime_settings
from runtime.runs.position import Length

Array: TypeAlias = np.ndarray[Any, Any]

BATCH, STEPS = 2, 2
ROWS = np.arange(BATCH)
PLAIN = {"optimizer.momentum": "0.0"}  # so that `v` is the gradient
CERTAIN = {"rate": "0.0"}  # dropout would draw another loss for each step
# Rates at which the loss falls by about a hundredth. VGG-19 is made of the same stages as VGG-16.
NETWORKS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("alexnet", "1e-6", PLAIN | CERTAIN),
    ("vgg", "1e-6", PLAIN | CERTAIN),
    ("googlenet", "1e-6", PLAIN | CERTAIN),
    ("resnet", "1e-4", PLAIN | {"depth": "18"}),
    ("resnet", "1e-7", PLAIN | {"depth": "50"}),
    ("efficientnet", "1e-6", CERTAIN | {"drop": "0.0", "optimizer.rho": "0.0"}),  # so that `s` is its square
)
NAMES = [name + settings.get("depth", "") for name, _, settings in NETWORKS]


@pytest.mark.parametrize(("name", "rate", "settings"), NETWORKS, ids=NAMES)
def test_steps_at_full_size(name: str, rate: str, settings: Mapping[str, str]) -> None:
    overrides = (("optimizer.lr", rate), *settings.items())
    program = driver.load(ROOT / "examples" / name / "model.dl", overrides=overrides)
    options = Options(batch=BATCH)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    data = synthetic(program.inputs, BATCH, 0)
    numbers = runtime_settings(program, Length(BATCH, BATCH, 10_000))
    expected = reference_loss(program, tensors, data, numbers)
    step = driver.compile_program(program, TRAINING, options)
    paths = [spec.path for spec in program.parameters if spec.role.value == "parameter"]
    losses: list[float] = []
    falls: list[float] = []  # what the gradients before and after each step say of it, by the trapezoidal rule
    moves: dict[str, Array] = {}
    for number in range(STEPS):
        before = {path: np.array(tensors[path]) for path in paths}
        found = step.run(Steps(tensors, data, ROWS, BATCH, number, 0, numbers))
        assert not found.nonfinite
        losses.append(float(found.scalars["loss"][0]))
        falls.append(0.0)
        for path in paths:
            slope = gradient(tensors, path, before[path])
            if number:
                falls[-2] -= dot(moves[path], slope) / 2
            moves[path] = np.subtract(tensors[path], before[path], out=before[path])
            falls[-1] -= dot(moves[path], slope) / 2
    assert losses[0] == pytest.approx(expected, rel=1e-5)
    for first, second, fall in zip(losses, losses[1:], falls, strict=False):
        assert 1e-4 * first < first - second < 0.05 * first
        assert first - second == pytest.approx(fall, rel=0.02)
    del moves
    before = {path: np.array(tensors[path]) for path in paths}
    step.run(Steps(tensors, data, ROWS, BATCH, STEPS, 0, {**numbers, "optimizer.lr": 0.1}))
    assert [path for path in paths if np.array_equal(tensors[path], before[path])] == []


def reference_loss(
    program: Program, tensors: Tensors, data: Mapping[str, Array], settings: Mapping[str, float]
) -> float:
    """The loss of the training graph by NumPy, without gradients and without any pass that lays out or fuses."""
    graph = complete(program).training_graph
    outputs = tuple(output for output in graph.outputs if output.name == "loss")
    graph = eliminate_dead(simplified(replace(graph, outputs=outputs)))
    return float(
        ReferenceExecutable(graph).run(Steps(tensors, data, ROWS, BATCH, settings=settings)).scalars["loss"][0]
    )


def gradient(tensors: Tensors, path: str, before: Array) -> Array:
    """Of a parameter in the last step, from the state of its optimizer."""
    if f"{path}:v" in tensors.names():
        return tensors[f"{path}:v"]
    return np.sign(before - tensors[path]) * np.sqrt(tensors[f"{path}:s"])


def dot(left: Array, right: Array) -> float:
    return float(np.dot(left.ravel(), right.ravel()))
