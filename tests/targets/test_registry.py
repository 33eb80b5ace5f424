"""The list of targets: each one loads a program, gives it memory and runs it; names outside the list are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from comparisons import Array

from compiler import driver
from compiler.driver import Options
from compiler.errors.diagnostics import UsageError
from compiler.graph.ir import Role
from compiler.interface import Steps
from compiler.programs.executables import load_program
from compiler.programs.kinds import PREDICTION, TRAINING
from compiler.targets.manifest import TensorSpec
from compiler.targets.registry import KERNEL_TARGETS, TARGETS, kernel_target_of, target_of
from compiler.types import DType
from runtime.inference.model import runtime_settings

HERE = [name for name in TARGETS if name != "gpu"]  # which needs a device
MODEL = """model M {
    input x: f32[batch, 4]
    output y = x |> dense(3)
}
"""


@pytest.mark.parametrize("name", HERE)
def test_every_target_runs_a_program_and_knows_its_tensors(name: str, tmp_path: Path) -> None:
    program, options = driver.load_text(MODEL, "m.dl"), Options(name, threads=1, cache=tmp_path)
    prediction = load_program(program, PREDICTION, options)
    assert {spec.name: spec.shape for spec in prediction.tensors} == {"y.dense.W": (4, 3), "y.dense.b": (3,)}
    assert prediction.threads == 1
    tensors = driver.allocate(program, options)
    tensors.write("y.dense.b", np.array([1, 2, 3], np.float32))
    results = prediction.run(Steps(tensors, {"x": np.ones((5, 4), np.float32)}, np.arange(5), 5))
    np.testing.assert_array_equal(results.arrays["y"], np.tile(np.array([1, 2, 3], np.float32), (5, 1)))


TRAINED = (
    MODEL
    + """train M {
    target t: f32[batch, 3]
    loss = mse(y, t)
    optimizer = adam(lr = 0.1)
    batch = 4
}
"""
)


@pytest.mark.parametrize("name", HERE)
def test_every_target_trains_as_the_reference_does(name: str, tmp_path: Path) -> None:
    program = driver.load_text(TRAINED, "m.dl")
    found, wanted = (trained(program, Options(one, threads=1, cache=tmp_path)) for one in (name, "reference"))
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-4, atol=1e-6)


def trained(program: driver.Program, options: Options) -> tuple[Array, Array]:
    """The losses of five steps and the weights behind them; start values are drawn by the target."""
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 3, options)
    random = np.random.default_rng(0)
    data = {"x": random.normal(size=(20, 4)).astype(np.float32), "t": random.normal(size=(20, 3)).astype(np.float32)}
    steps = Steps(tensors, data, np.arange(20), 4, settings=runtime_settings(program))
    losses = driver.compile_program(program, TRAINING, options).run(steps).scalars["loss"]
    return losses, tensors["y.dense.W"].copy()


def test_programs_in_the_cache_are_of_their_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one target has compiled, another does not take for its own."""
    monkeypatch.setitem(TARGETS, "twin", TARGETS["native"])
    program = driver.load_text(MODEL, "m.dl")
    made = [
        driver.compile_ahead(program, [PREDICTION], Options(name, cache=tmp_path))
        for name in ("native", "native", "twin")
    ]
    assert made == [1, 0, 1]


@pytest.mark.parametrize("name", HERE)
def test_tensors_beside_others_share_them(name: str) -> None:
    target = TARGETS[name]()
    first = target.allocate([TensorSpec("a", Role.STATE, DType.F32, (2,))])
    both = target.allocate([TensorSpec("b", Role.STATE, DType.F32, (3,))], beside=first)
    first.write("a", np.array([4, 5], np.float32))
    assert both.names() == ("b", "a")
    assert both["a"].tolist() == [4, 5]
    assert both["b"].tolist() == [0, 0, 0]


def test_a_target_outside_the_list_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no target `abacus`"):
        target_of(Options("abacus"))
    with pytest.raises(UsageError) as caught:
        target_of(Options("refrence"))
    assert caught.value.fix == "did you mean `reference`?"


def test_kernels_are_shown_whatever_runs_the_program() -> None:
    assert KERNEL_TARGETS.keys() < TARGETS.keys()
    assert kernel_target_of(Options("reference")).machine(Options()) == kernel_target_of(Options()).machine(Options())
