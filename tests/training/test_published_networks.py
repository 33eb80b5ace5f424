"""The networks of the examples have as many parameters as the published ones, and their shapes train."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

import dlc
from compiler import driver
from compiler.inspection.forms import flops_of
from compiler.inspection.plan import plan
from compiler.interface import Options
from compiler.ops.contraction import Contraction
from compiler.ops.sources import Constant
from compiler.pipeline import simplified
from compiler.programs.load import complete
from compiler.programs.steps.training_step import prediction_graph
from runtime.inference.model import parameter_count

# Parameters, and millions of multiply-adds of one image: those of convolutions and dense layers.
PUBLISHED = (
    ("lenet", {}, 61_706, 0.41652),
    ("alexnet", {}, 61_100_840, 714.2),
    ("vgg", {"depth": "16"}, 138_357_544, 15_470),
    ("vgg", {"depth": "19"}, 143_667_240, 19_632),
    ("googlenet", {}, 6_624_904, 1_498),
    ("resnet", {"depth": "18"}, 11_689_512, 1_814),
    ("resnet", {"depth": "50"}, 25_557_032, 4_089),
    ("resnet20", {}, 269_722, 40.55),
    ("efficientnet", {}, 5_288_548, 385.8),
)
NAMES = [f"{name}{settings}" for name, settings, *_ in PUBLISHED]


def model_of(name: str) -> Path:
    return ROOT / "examples" / name / "model.dl"


@pytest.mark.parametrize(("name", "settings", "count", "millions"), PUBLISHED, ids=NAMES)
def test_parameters_and_work(name: str, settings: dict[str, str], count: int, millions: float) -> None:
    program = driver.load(str(model_of(name)), overrides=tuple(settings.items()))
    assert parameter_count(program) == count
    nodes = simplified(prediction_graph(complete(program))).nodes
    products = flops_of([node for node in nodes if isinstance(node.op, Contraction)], 1)
    assert products / 2e6 == pytest.approx(millions, rel=1e-3)


# How many batch normalisations there are with which `eps`; all move their averages by a tenth.
NORMS = (
    ("vgg", {}, 0, 1e-5),
    ("googlenet", {}, 57, 1e-3),
    ("resnet", {"depth": "18"}, 20, 1e-5),
    ("resnet", {"depth": "50"}, 53, 1e-5),
    ("efficientnet", {}, 49, 1e-5),
)


@pytest.mark.parametrize(("name", "settings", "count", "eps"), NORMS, ids=[f"{name}{s}" for name, s, *_ in NORMS])
def test_batch_normalisations(name: str, settings: dict[str, str], count: int, eps: float) -> None:
    program = complete(driver.load(str(model_of(name)), overrides=tuple(settings.items())))
    assert sum(spec.path.endswith("running_var") for spec in program.parameters) == count
    used = Counter(node.op.value for node in program.training_graph.nodes if isinstance(node.op, Constant))
    assert (used[eps], used[1e-5] + used[1e-3], used[0.9] // 2) == (count, count, count)


def test_equal_blocks_share_their_kernels() -> None:
    program = driver.load(str(model_of("resnet")), overrides=(("depth", "50"),))
    assert len(plan(program, Options(batch=32)).kernels) <= 150


def test_a_residual_network_learns_pictures_by_heart() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, 3, 32, 32), np.uint8)
    labels = np.arange(8, dtype=np.uint8)
    model = dlc.load(model_of("resnet20"), blocks=1)
    model.train({"image": images, "label": labels}, epochs=60, batch=8)
    found = model.predict({"image": images})["logits"].argmax(axis=1)
    assert np.mean(found == labels) > 0.8  # training also flips and shifts them
