"""Whole networks by the kernels of a GPU, run on this processor: weights and moments have the bits of native code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from decoding_models import decoding
from random_networks import random_network

import dlc
from compiler import driver
from compiler.driver import Options, Program
from runtime.analysis.made_up_steps import CompiledSteps
from runtime.inference.decoding import Decoder
from runtime.train.jobs import fresh_tensors

ZOO = Path(__file__).parents[3] / "benchmarks/zoo"
TARGETS = ("native", "gpu-emulator")
STEPS = 2
ROWS = 3

SAMPLER = """
model Auto(code = 2) {
    input image: f32[batch, 8]
    decode = dense(8)
    output restored = image |> dense(code) |> decode
}

sample prior(steps = 3) from Auto {
    z = normal_like(zeros(batch, code))
    walk, z = scan i in 0..steps over 1 carry z = z {
        z = z + 0.1 * normal_like(z)
        emit z
    }
    output image = Auto.decode(z)
    output walk = reshape(walk, batch, steps * code)
}
"""


UPDATES = """
model Pair {
    input point: f32[batch, 2]
    critic = dense(1)
    generator = dense(2)
    output real_score = critic(point)[:, 0]
    output made_score = critic(tanh(generator(random(batch, 3))))[:, 0]
}

train Pair {
    batch = 3
    update critic {
        parameters = "critic.*"
        loss = mean(softplus(made_score)) + mean(softplus(-real_score))
        optimizer = momentum(lr = 1e-2)
    }
    update generator {
        parameters = "generator.*"
        loss = mean(softplus(-made_score))
        optimizer = momentum(lr = 1e-2)
    }
}
"""


def weights(program: Program, target: str, dtype: str, rows: int) -> dict[str, bytes]:
    """All persistent tensors after some updates on made-up rows."""
    options = driver.options_of(program, Options(batch=rows, target=target, dtype=dtype))
    training = CompiledSteps(program, "train", rows, options)
    training(STEPS)
    return {name: training.tensors[name].tobytes() for name in training.tensors.names()}


def expect_equal(program: Program, dtype: str = "f32", rows: int = ROWS) -> None:
    native = weights(program, "native", dtype, rows)
    assert weights(program, "gpu-emulator", dtype, rows) == native
    assert native


@pytest.mark.parametrize("seed", range(4))
def test_random_networks(seed: int) -> None:
    expect_equal(driver.load_text(random_network(seed), "model.dl"))


@pytest.mark.parametrize("model", ["mlp_small", "lstm", "lenet5"])
def test_models_of_the_zoo(model: str) -> None:
    expect_equal(driver.load(ZOO / f"{model}.dl"))


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("model", ["lenet5", "gpt_mini"])
def test_models_of_the_zoo_with_rounded_products_are_near_those_in_f32(model: str, precision: str) -> None:
    """What the first update changes is near what it changes in f32, as far as the digits of factors say."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for chosen, target in zip(("f32", precision), TARGETS, strict=True):
        program = driver.load(ZOO / f"{model}.dl", None, (("precision", chosen),))
        options = driver.options_of(program, Options(batch=ROWS, target=target))
        training = CompiledSteps(program, "train", ROWS, options)
        states = [name for name in training.tensors.names() if ":" in name]
        names = [name for name in states if name.endswith(":m")] or states  # which are gradients behind one step
        training(1)
        found[chosen] = {name: training.tensors[name].copy() for name in names}
    plain, rounded = found["f32"], found[precision]
    off = [np.linalg.norm(rounded[name] - values) / np.linalg.norm(values) for name, values in plain.items()]
    most = {"bf16": 0.1, "tf32": 0.02}[precision]
    assert max(off) < most
    assert max(off) > most / 1000


def test_numbers_of_f64() -> None:
    expect_equal(driver.load(ZOO / "mlp_small.dl"), "f64")


def test_batches_that_are_accumulated() -> None:
    expect_equal(driver.load(ZOO / "mlp_small.dl", None, (("accumulate", "2"), ("batch", "3"))))


def test_several_updates() -> None:
    expect_equal(driver.load_text(UPDATES, "model.dl"))


@pytest.mark.parametrize("name", ["pre-norm blocks", "recurrences"])
def test_generated_tokens(name: str) -> None:
    program = driver.load_text(decoding(name, "top_k(11, temperature = 0.8)"), "model.dl")

    def tokens(target: str) -> list[int]:
        options = driver.options_of(program, Options(target=target))
        decoder, found = Decoder(program, fresh_tensors(program, options), options, seed=3), [1, 2, 3]
        for _ in range(6):
            found.append(int(decoder.next(np.array([found]))[0]))
        return found

    native, emulated = map(tokens, TARGETS)
    assert native == emulated
    assert len(set(native)) > 3


def test_rows_of_a_sampler() -> None:
    first, second = (dlc.loads(SAMPLER, target=target).sample(5) for target in TARGETS)
    assert {name: array.tobytes() for name, array in first.items()} == {
        name: array.tobytes() for name, array in second.items()
    }
