"""Whole networks by the kernels of a GPU, run on this processor: weights and moments have the bits of native code."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_networks import random_network

from compiler import driver
from compiler.driver import Options, Program
from runtime.analysis.made_up_steps import CompiledSteps

ZOO = Path(__file__).parents[3] / "benchmarks/zoo"
STEPS = 2
ROWS = 3


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


def test_numbers_of_f64() -> None:
    expect_equal(driver.load(ZOO / "mlp_small.dl"), "f64")


def test_batches_that_are_accumulated() -> None:
    expect_equal(driver.load(ZOO / "mlp_small.dl", None, (("accumulate", "2"), ("batch", "3"))))
