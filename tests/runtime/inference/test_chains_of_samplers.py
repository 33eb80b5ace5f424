"""Samplers that go on step by step, beside NumPy from the same draws: Langevin dynamics, pictures pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import dlc
from compiler.errors.diagnostics import SourceError

_LANGEVIN = """\
layer energy(width: int)(x: [batch, n]) -> [batch] {
    h = x |> dense(width) |> tanh
    return (h |> dense(1))[:, 0] + sum(x ^ 2, axis = 1) / 2
}

model Energy {
    input x: f32[batch, 2]
    of = energy(5)
    output y = of(x)
}

## x <- x - rate dE/dx + sqrt(2 rate) z, the unadjusted Langevin algorithm of Roberts & Tweedie, 1996.
sample langevin(steps = 40, rate = 0.05) from Energy {
    noise, xs, x = scan i in 0..steps over 1 carry x = normal_like(zeros(batch, 2)) {
        z = normal_like(x)
        x = x - rate * gradient(Energy.of(x), x) + sqrt(2 * rate) * z
        emit z
        emit x
    }
    output z = noise
    output chain = xs
    output x = x
}
"""
_PIXELS = """\
## Pixel k from those before it.
layer before(pixels: int)(x: [batch, pixels]) -> [batch, pixels] {
    param W: [pixels, pixels] = normal
    param b: [pixels] = normal
    earlier = where(arange(pixels)[:, None] < arange(pixels)[None, :], W, 0)
    return x @ earlier + b
}

model Picture(side = 3) {
    input x: f32[batch, side, side]
    odds = before(side * side)
    output logits = x |> flatten |> odds
}

sample pixels(heat = 1.0) from Picture {
    n = side * side
    drawn, x = scan k in 0..n over 1 carry x = zeros(batch, n) {
        u = random(batch)
        chance = sigmoid(Picture.odds(x) / heat)
        x = where(arange(n)[None, :] == k, where(u[:, None] < chance, 1.0, 0.0), x)
        emit u
    }
    output u = drawn
    output image = reshape(x, batch, side, side)
}
"""


def _slope(tensors: dict[str, Any], x: Any) -> Any:
    """The gradient of the energy, by the rule for tanh."""
    h = np.tanh(x @ tensors["of.h.dense.W"] + tensors["of.h.dense.b"])
    return (1 - h**2) * tensors["of.dense.W"][:, 0] @ tensors["of.h.dense.W"].T + x


@pytest.mark.parametrize("target", ["native", "reference"])
def test_langevin_dynamics_follow_the_gradient(target: str) -> None:
    model = dlc.loads(_LANGEVIN, dtype="f64", target=target)
    found = model.sample(7, seed=2, rate=0.1)
    tensors = {name: np.asarray(array, np.float64) for name, array in model.parameters.items()}
    chain, z = found["chain"], found["z"]
    assert chain.shape == z.shape == (7, 40, 2)
    steps = np.moveaxis(chain, 1, 0)
    expected, noise = steps[0], np.moveaxis(z, 1, 0)
    for step in range(1, 40):
        expected = expected - 0.1 * _slope(tensors, expected) + np.sqrt(0.2) * noise[step]
        np.testing.assert_allclose(steps[step], expected, rtol=1e-9, atol=1e-9)
    assert np.array_equal(found["x"], steps[-1])
    assert abs(noise.std() - 1) < 0.1


def test_langevin_dynamics_come_to_the_distribution_of_the_energy() -> None:
    """Of an energy |x|^2 / 2 that is N(0, I), but for the size of a step: the variance is 1 / (1 - rate / 2)."""
    model = dlc.loads(_LANGEVIN.replace("(h |> dense(1))", "0 * (h |> dense(1))"))
    rows = model.sample(4000, steps=120, rate=0.1)["x"]
    assert np.abs(rows.mean(axis=0)).max() < 0.06
    np.testing.assert_allclose(np.cov(rows.T), np.eye(2) / 0.95, atol=0.08)


@pytest.mark.parametrize("target", ["native", "reference"])
@pytest.mark.parametrize("heat", [1.0, 0.4])
def test_a_picture_pixel_by_pixel(heat: float, target: str) -> None:
    model = dlc.loads(_PIXELS, target=target)
    found = model.sample(50, heat=heat)
    W, b = (np.asarray(model.parameters[f"odds.{name}"], np.float64) for name in "Wb")
    x = np.zeros((50, 9))
    for k in range(9):
        chance = 1 / (1 + np.exp(-(x[:, :k] @ W[:k, k] + b[k]) / heat))
        x[:, k] = found["u"][:, k] < chance
    assert np.array_equal(found["image"].reshape(50, 9), x)
    assert 0 < x.mean() < 1


_CLASSES = """\
model M {
    input x: f32[batch, 3]
    input label: i32[batch] in 0..10
    table = embedding(10, 3)
    output y = x + table(label)
}

sample classes(labels = [0, 1]) from M {
    wanted = tensor(labels)
    label = wanted[row % extent(wanted, 0)]
    output q = M.table(label)
    output label_of = label
}
"""


def test_a_list_says_which_classes_rows_are_made_for() -> None:
    model = dlc.loads(_CLASSES)
    table = np.asarray(model.parameters["table.W"])
    assert model.sample(3)["label_of"].tolist() == [0, 1, 0]
    found = model.sample(5, labels=[7, 2, 9])
    assert found["label_of"].tolist() == [7, 2, 9, 7, 2]
    assert np.array_equal(found["q"], table[[7, 2, 9, 7, 2]])
    with pytest.raises(SourceError, match="chooses number 10 among 10"):
        model.sample(5, labels=[3, 10])


@pytest.mark.parametrize("text", [_LANGEVIN, _PIXELS], ids=["langevin", "pixels"])
def test_a_row_of_a_chain_has_the_same_bits_alone(text: str) -> None:
    model = dlc.loads(text)
    many, few = model.sample(70, seed=4), model.sample(3, seed=4)
    for name, values in few.items():
        assert np.array_equal(values, many[name][:3])
