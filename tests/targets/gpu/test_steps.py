"""Trainings on a device that stands for a GPU have the bits of native code, whatever order it takes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from comparisons import Array
from fake_cuda import FakeCuda
from fake_device import FakeTarget

from compiler import driver
from compiler.driver import Options
from compiler.interface import Results, Steps
from compiler.programs.kinds import EVALUATION, PREDICTION, TRAINING
from compiler.targets.registry import TARGETS
from runtime.inference.model import runtime_settings

TEXT = """model M {
    input x: f32[batch, 12]
    h = x |> dense(20) |> batch_norm |> relu |> dropout(0.3)
    output y = h |> dense(7)
}
train M {
    target t: f32[batch, 7]
    loss = mse(y, t)
    optimizer = adam(lr = 0.02)
    batch = 16
}
"""
SCAN = """model M {
    input x: f32[batch, 9, 5]
    output y = x |> lstm(6, output = "last") |> dense(7)
}
train M {
    target t: f32[batch, 7]
    loss = mse(y, t)
    optimizer = momentum(lr = 0.02)
    batch = 16
}
"""

Trained: TypeAlias = "tuple[dict[str, Array], list[Results]]"  # the tensors behind it, and what the calls gave


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTarget]:
    target = FakeTarget(FakeCuda({}, seed=5))
    monkeypatch.setitem(TARGETS, "fake", lambda: target)
    yield target
    target.close()
    assert not +target.fake.live


def data_for(text: str, rows: int) -> dict[str, Array]:
    random = np.random.default_rng(0)
    shape = (rows, 12) if text is TEXT else (rows, 9, 5)
    return {"x": random.normal(size=shape).astype(np.float32), "t": random.normal(size=(rows, 7)).astype(np.float32)}


def trained(text: str, target: str, cache: Path, lasting: bool = False, calls: int = 3) -> Trained:
    program = driver.load_text(text, "m.dl")
    options = Options(target, threads=1, cache=cache, batch=16)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 3, Options("native", threads=1, cache=cache))
    data, random = data_for(text, 70), np.random.default_rng(1)
    training = driver.compile_program(program, TRAINING, options)
    evaluation = driver.compile_program(program, EVALUATION, options)
    prediction = driver.compile_program(program, PREDICTION, options)
    found: list[Results] = []
    settings = runtime_settings(program)
    for call in range(calls):
        rows = random.permutation(70)
        found.append(training.run(Steps(tensors, data, rows, 16, 5 * call, 9, settings, lasting=lasting)))
        found.append(evaluation.run(Steps(tensors, data, np.arange(70), 32, settings=settings, lasting=lasting)))
        found.append(prediction.run(Steps(tensors, data, np.arange(40), 32, settings=settings, lasting=lasting)))
    return {name: tensors[name].copy() for name in tensors.names()}, found


def expect_same(one: Trained, other: Trained) -> None:
    for name, array in one[0].items():
        assert array.tobytes() == other[0][name].tobytes(), name
    for first, second in zip(one[1], other[1], strict=True):
        for part in ("scalars", "arrays", "stacks"):
            assert getattr(first, part).keys() == getattr(second, part).keys()
            for name, array in getattr(first, part).items():
                wanted = getattr(second, part)[name]
                assert (array.shape, array.dtype) == (wanted.shape, wanted.dtype)
                assert array.tobytes() == wanted.tobytes(), name
        assert first.nonfinite == second.nonfinite


@pytest.mark.parametrize("lasting", [False, True])
@pytest.mark.parametrize("text", [TEXT, SCAN])
def test_a_training_has_the_bits_of_native_code(text: str, lasting: bool, fake: FakeTarget, tmp_path: Path) -> None:
    expect_same(trained(text, "fake", tmp_path, lasting), trained(text, "native", tmp_path))
