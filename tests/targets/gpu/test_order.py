"""Order on a device: each wait is needed, pieces of a call join without a seam, and views see what was computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from comparisons import Array
from fake_cuda import FakeCuda
from fake_device import FakeTarget

from compiler import driver
from compiler.driver import Options, Tensors
from compiler.interface import Executable, Results, Steps
from compiler.programs.kinds import EVALUATION, TRAINING
from compiler.targets.gpu import launches, step_graph
from compiler.targets.gpu.hardware import Gpu
from compiler.targets.registry import TARGETS
from runtime.inference.model import runtime_settings

TEXT = """model M {
    input x: f32[batch, 12]
    h = x |> dense(20) |> layer_norm |> tanh
    g = x |> dense(20) |> sigmoid
    output y = (h * g) |> dense(7)
}
train M {
    target t: f32[batch, 7]
    loss = mse(y, t)
    optimizer = adam(lr = 0.02)
    batch = 8
}
"""
ROWS = 45


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTarget]:
    made = FakeTarget(FakeCuda({}, seed=7))
    monkeypatch.setitem(TARGETS, "fake", lambda: made)
    yield made
    made.close()
    assert not +made.fake.live


def begun(name: str, cache: Path, text: str = TEXT) -> tuple[driver.Program, Options, Tensors]:
    program, options = driver.load_text(text, "m.dl"), Options(name, threads=1, cache=cache, batch=8)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 3, Options("native", threads=1, cache=cache))
    return program, options, tensors


def data() -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {name: random.normal(size=(ROWS, width)).astype(np.float32) for name, width in (("x", 12), ("t", 7))}


def stepped(step: Executable, program: driver.Program, tensors: Tensors, first: int = 0, **words: Any) -> Results:
    rows = np.random.default_rng(1).permutation(ROWS)
    given = words.pop("data", None) or data()
    return step.run(Steps(tensors, given, rows, 8, first, 0, runtime_settings(program), **words))


def trained(name: str, cache: Path, lasting: bool = False) -> list[bytes]:
    program, options, tensors = begun(name, cache)
    results = stepped(driver.compile_program(program, TRAINING, options), program, tensors, lasting=lasting)
    return [results.scalars["loss"].tobytes(), *(tensors[one].tobytes() for one in tensors.names())]


@pytest.mark.parametrize("lasting", [False, True])
def test_pieces_of_a_call_join_without_a_seam(
    lasting: bool, target: FakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "PIECE_BYTES", 1200)
    monkeypatch.setattr(launches, "_RESULT_BYTES", 8)
    assert trained("fake", tmp_path, lasting) == trained("native", tmp_path)


def test_a_step_of_several_graphs(target: FakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_graph, "MOST_NODES", 3)
    assert trained("fake", tmp_path) == trained("native", tmp_path)


def test_each_dependence_is_needed(target: FakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any one of them, some order of the kernels gives other bits: a few orders find most of them."""
    whole, wanted = step_graph.dependences, trained("native", tmp_path)
    assert trained("fake", tmp_path) == wanted
    left_out = [-1]
    counted: list[int] = []

    def without_one(touched: Any) -> list[tuple[int, ...]]:
        found, number = list[tuple[int, ...]](), 0
        for waits in whole(touched):
            found.append(tuple(w for k, w in enumerate(waits, number) if k != left_out[0]))
            number += len(waits)
        counted.append(number)
        return found

    monkeypatch.setattr(step_graph, "dependences", without_one)
    assert trained("fake", tmp_path) == wanted
    seen = 0
    for left_out[0] in range(max(counted)):
        seen += any(trained("fake", tmp_path) != wanted for _ in range(3))
    assert seen > max(counted) / 2


def test_rows_that_are_copied_ahead_are_waited_for(
    target: FakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "PIECE_BYTES", 1200)
    wanted = trained("native", tmp_path)
    for function in ("follow", "wait_for"):
        with monkeypatch.context() as patch:
            patch.setattr(Gpu, function, lambda *_: None)
            assert any(trained("fake", tmp_path) != wanted for _ in range(10)), function
    assert trained("fake", tmp_path) == wanted


def test_data_that_lasts_is_copied_once(target: FakeTarget, tmp_path: Path) -> None:
    program, options, tensors = begun("fake", tmp_path)
    step, given = driver.compile_program(program, TRAINING, options), data()
    stepped(step, program, tensors, data=given, lasting=True)
    before = target.fake.calls.count("cuMemcpyHtoDAsync_v2")
    stepped(step, program, tensors, 6, data=given, lasting=True)
    assert target.fake.calls.count("cuMemcpyHtoDAsync_v2") - before <= 3  # order of the rows, state of a step
    assert target.fake.calls.count("cuMemcpyDtoHAsync_v2") == 2 * 2 * 3  # two results and flags of each phase


def test_n_steps_are_n_launches_without_waiting(target: FakeTarget, tmp_path: Path) -> None:
    program, options, tensors = begun("fake", tmp_path)
    step = driver.compile_program(program, TRAINING, options)
    stepped(step, program, tensors, lasting=True)
    begin = len(target.fake.calls)
    stepped(step, program, tensors, 6, lasting=True)
    calls = target.fake.calls[begin:]
    assert calls.count("cuGraphLaunch") == -(-ROWS // 8)
    assert calls.count("cuStreamSynchronize") + calls.count("cuEventSynchronize") == 1
    assert calls.count("cuGraphInstantiateWithFlags") <= 2  # one for a full batch, one for the short last one


def test_views_of_tensors_see_each_step(target: FakeTarget, tmp_path: Path) -> None:
    program, options, tensors = begun("fake", tmp_path)
    step, name = driver.compile_program(program, TRAINING, options), "y.dense.W"
    held = tensors[name][2:, 1:]
    stepped(step, program, tensors)
    seen = held.copy()
    assert seen.tobytes() == tensors[name][2:, 1:].tobytes()
    stepped(step, program, tensors, 6)
    assert (held != seen).any()
    assert held.tobytes() == tensors[name][2:, 1:].tobytes()


def test_a_tensor_that_is_written_is_used_by_the_next_step(target: FakeTarget, tmp_path: Path) -> None:
    found: list[list[bytes]] = []
    for name in ("fake", "native"):
        program, options, tensors = begun(name, tmp_path)
        step = driver.compile_program(program, TRAINING, options)
        evaluation = driver.compile_program(program, EVALUATION, options)
        stepped(step, program, tensors)
        tensors.write("y.dense.W", np.full((20, 7), 0.25, np.float32))
        loss = stepped(evaluation, program, tensors).scalars["loss"]
        stepped(step, program, tensors, 6)
        found.append([loss.tobytes(), *(tensors[one].tobytes() for one in tensors.names())])
    assert found[0] == found[1]


def test_values_that_are_not_finite_are_reported_alike(
    target: FakeTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launches, "PIECE_BYTES", 1200)
    found: list[tuple[tuple[str, int], ...]] = []
    for name in ("fake", "native"):
        program, options, tensors = begun(name, tmp_path)
        given = data()
        given["x"][11, 3] = np.inf
        step = driver.compile_program(program, TRAINING, options)
        found.append(stepped(step, program, tensors, data=given).nonfinite)
        assert stepped(step, program, tensors, 6, data=given).nonfinite
    assert found[0] == found[1] != ()
