"""`examples/vae` and `examples/diffusion`: what they learn soon, judged by the classifier of the digits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dlc

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def judge() -> dlc.Model:
    """The classifier of `examples/digits`."""
    model = dlc.load(EXAMPLES / "digits" / "model.dl", epochs=10)
    assert model.train().test["accuracy"] > 0.93
    return model


def odds_of(judge: dlc.Model, pictures: Any) -> Any:
    """The probability of each digit for pictures [rows, 8, 8]."""
    scores = judge.predict({"pixels": pictures.reshape(len(pictures), 64)})["logits"].astype(np.float64)
    odds = np.exp(scores - scores.max(1, keepdims=True))
    return odds / odds.sum(1, keepdims=True)


def test_the_ways_of_a_pixel_are_binomial_coefficients() -> None:
    text = (EXAMPLES / "vae" / "model.dl").read_text()
    written = text[text.index("[") + 1 : text.index("]")].split(",")
    ways = [float(number) for number in written if number.strip()]
    np.testing.assert_allclose(ways, [math.log(math.comb(16, k)) for k in range(17)], atol=1e-6)


def test_codes_of_the_prior_become_digits(judge: dlc.Model) -> None:
    model = dlc.load(EXAMPLES / "vae" / "model.dl", epochs=25)
    before = model.evaluate()["elbo"]
    result = model.train()
    assert before < -400
    assert result.test["elbo"] > -140
    pictures = model.sample(300)["pixels"]
    odds = odds_of(judge, pictures)
    assert np.bincount(odds.argmax(1), minlength=10).min() >= 5  # every digit is among them
    assert odds.max(1).mean() > 0.7
    noise = np.random.default_rng(0).uniform(0, 16, pictures.shape).astype(np.float32)
    assert np.abs(pictures - pictures.mean(0)).mean() < np.abs(noise - noise.mean(0)).mean()


def test_noise_becomes_the_digit_that_is_asked_for(judge: dlc.Model) -> None:
    model = dlc.load(EXAMPLES / "diffusion" / "model.dl", epochs=30)
    before = odds_of(judge, model.sample(100, sampler="ddim", steps=5)["pixels"])
    result = model.train()
    assert result.history[-1].validation["loss"] < 0.5
    asked = np.arange(200) % 10
    few = model.sample(200, sampler="ddim", steps=10, guidance=2.0)["pixels"]
    many = model.sample(200, sampler="ddpm", steps=50, guidance=2.0)["pixels"]
    assert (before.argmax(1) == asked[:100]).mean() < 0.4
    for pictures in (few, many):
        assert (odds_of(judge, pictures).argmax(1) == asked).mean() > 0.9
    assert np.array_equal(few[:30], model.sample(30, sampler="ddim", steps=10, guidance=2.0)["pixels"])
    alike = few[::10].std(0).mean()  # of one digit, whose pictures differ all the same
    assert alike > 0.5
