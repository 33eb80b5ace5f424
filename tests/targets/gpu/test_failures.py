"""A driver that fails at any of its calls: a clear error, nothing leaks, and what was saved is whole."""

from __future__ import annotations

import gc
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from comparisons import Array
from fake_cuda import GIVES_BACK, FakeCuda
from fake_device import FakeTarget

from compiler import driver
from compiler.driver import Options, Tensors
from compiler.errors.diagnostics import DeviceError, DlcError, ResourceError, UsageError
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from compiler.targets.registry import TARGETS
from runtime.inference.model import runtime_settings

TEXT = """model M {
    input x: f32[batch, 6]
    output y = x |> dense(5) |> tanh |> dense(3)
}
train M {
    target t: f32[batch, 3]
    loss = mse(y, t)
    optimizer = adam(lr = 0.02)
    batch = 8
}
"""
ROWS = 30


def data() -> dict[str, Array]:
    random = np.random.default_rng(0)
    shapes = {"x": (ROWS, 6), "t": (ROWS, 3)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


@cache
def program_and_start() -> tuple[driver.Program, dict[str, Array]]:
    program = driver.load_text(TEXT, "m.dl")
    tensors = driver.allocate(program, Options())
    driver.initialise(program, tensors, 3, Options(threads=1))
    return program, {name: tensors[name].copy() for name in tensors.names()}


def train(
    target: FakeTarget, folder: Path, monkeypatch: pytest.MonkeyPatch, calls: int = 2, looks: bool = True
) -> list[dict[str, bytes]]:
    """The tensors behind each call, or only behind the last one; after a failure, those of the last call that ended."""
    monkeypatch.setitem(TARGETS, "fake", lambda: target)
    program, first = program_and_start()
    options = Options("fake", threads=1, cache=folder, batch=8)
    tensors = driver.allocate(program, options)
    for name, array in first.items():
        tensors.write(name, array)
    seen = [content(tensors)]
    given, settings = data(), runtime_settings(program)
    step = driver.compile_program(program, TRAINING, options)
    for call in range(calls):
        try:
            step.run(Steps(tensors, given, np.arange(ROWS), 8, 4 * call, 0, settings, lasting=call == 1))
        except DlcError:
            expect_kept(tensors, seen[-1] if looks else {})
            raise
        if looks or call == calls - 1:
            seen.append(content(tensors))
    return seen


def content(tensors: Tensors) -> dict[str, bytes]:
    return {name: tensors[name].tobytes() for name in tensors.names()}


def expect_kept(tensors: Tensors, wanted: dict[str, bytes]) -> None:
    """The tensors are as before the call that failed; those that only the device had may be lost, which is an error."""
    for name in tensors.names():
        try:
            found = tensors[name].tobytes()
        except DeviceError as lost:
            if not wanted:
                continue
            raise AssertionError(name) from lost
        assert found == wanted.get(name, found), name
    tensors.write("y.dense.b", np.zeros(5, np.float32))
    assert not tensors["y.dense.b"].any()


def calls_of_a_training(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[dict[str, bytes]]]:
    target = FakeTarget(FakeCuda({}))
    seen = train(target, folder, monkeypatch)
    target.close()
    assert not +target.fake.live
    return len(target.fake.calls), seen


GIVE_BACK = (*GIVES_BACK, "cuCtxSetCurrent")  # whose failure loses nothing


@pytest.mark.parametrize(("code", "lost"), [(700, True), (1, False), (2, False)])
def test_a_failure_of_any_call_is_told(code: int, lost: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the code 2, which is that of too little memory, a training may go on in another way, with the same bits."""
    calls_of_a_training(tmp_path, monkeypatch)
    count, wanted = calls_of_a_training(tmp_path, monkeypatch)
    messages: set[str] = set()
    for number in range(1, count + 1):
        target = FakeTarget(FakeCuda({}, seed=number))
        target.fake.fails_at, target.fake.code, target.fake.lost = number, code, lost
        looks = number % 2 == 0
        try:
            found = train(target, tmp_path, monkeypatch, looks=looks)
        except (DeviceError, ResourceError, UsageError) as error:
            messages.add(str(error).partition(" (")[0] + error.fix)
        else:
            name = target.fake.calls[number - 1] if number <= len(target.fake.calls) else ""
            assert found[-1] == wanted[-1], name
            assert not name or code == 2 or name in GIVE_BACK, name
        target.close()
        gc.collect()
        assert not +target.fake.live
    assert messages
    assert all("; " in message or "`" in message for message in messages)  # there is something to do
