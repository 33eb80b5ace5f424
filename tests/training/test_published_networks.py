"""The networks of the examples have as many parameters as the published ones, and their shapes train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from repository import ROOT

import dlc
from compiler import driver
from runtime.model import parameter_count

PUBLISHED = (
    ("lenet", {}, 61_706),
    ("alexnet", {}, 61_100_840),
    ("vgg", {"depth": "16"}, 138_357_544),
    ("vgg", {"depth": "19"}, 143_667_240),
    ("googlenet", {}, 6_624_904),
    ("resnet", {"depth": "18"}, 11_689_512),
    ("resnet", {"depth": "50"}, 25_557_032),
    ("resnet20", {}, 269_722),
    ("efficientnet", {}, 5_288_548),
)


def model_of(name: str) -> Path:
    return ROOT / "examples" / name / "model.dl"


@pytest.mark.parametrize(("name", "settings", "count"), PUBLISHED, ids=[f"{n}{s}" for n, s, _ in PUBLISHED])
def test_parameters(name: str, settings: dict[str, str], count: int) -> None:
    program = driver.load(str(model_of(name)), overrides=tuple(settings.items()))
    assert parameter_count(program) == count


def test_a_residual_network_learns_pictures_by_heart() -> None:
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (8, 3, 32, 32), np.uint8)
    labels = np.arange(8, dtype=np.uint8)
    model = dlc.load(model_of("resnet20"), blocks=1)
    model.train({"image": images, "label": labels}, epochs=60, batch=8)
    found = model.predict({"image": images})["logits"].argmax(axis=1)
    assert np.mean(found == labels) > 0.8  # training also flips and shifts them
