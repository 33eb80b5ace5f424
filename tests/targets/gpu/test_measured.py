"""`profile`, `bench` and `plan` of a GPU: times by the clock of the device, and the memory that a step takes there."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_cuda import ADVANCE, KERNEL_MS
from fake_device import PtxTarget, gpu_at_hand

from compiler import driver
from compiler.driver import Options
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from compiler.targets.gpu import opened
from runtime.cli.main import main
from runtime.inference.model import runtime_settings
from runtime.reporting.profile_text import profile_text

TEXT = """model M {
    input x: f32[batch, 40]
    output y = x |> dense(70) |> tanh |> dense(7)
}
train M {
    target t: f32[batch, 7]
    loss = mse(y, t)
    optimizer = adam(lr = 0.02)
    batch = 64
}
"""


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PtxTarget]:
    """`--target gpu` with a driver that stands for libcuda, and a model in this folder."""
    folder = tmp_path_factory.mktemp("gpu")
    with gpu_at_hand() as target, pytest.MonkeyPatch.context() as patch:
        patch.setenv("DLC_CACHE_DIR", str(folder / "cache"))
        patch.chdir(folder)
        Path("model.dl").write_text(TEXT)
        yield target


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    assert main([*words, "model.dl", "--target", "gpu", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_profile_has_the_times_of_the_device(gpu: PtxTarget, capsys: pytest.CaptureFixture[str]) -> None:
    planned = said(capsys, "plan")
    found = said(capsys, "profile", "--seconds", "0.1")
    assert (found["device"], found["clock"]) == ("Fake 9000", "events")
    launches, calls = Counter[str](), Counter[str]()
    for row in planned["kernels"]:
        launches[re.sub(r"^k\d+_", "", row["name"])] += row["launches"]
    for row in found["kernels"]:
        calls[row["name"]] += row["calls"]
    assert calls == launches
    for row in found["kernels"]:
        kernel = gpu.fake.spent[row["symbol"]]
        assert row["ms"] >= KERNEL_MS * row["calls"]
        assert row["symbol"].startswith("dlc_") or row["ms"] < kernel
    whole = sum(row["ms"] for row in found["kernels"]) + found["runner_ms"] + found["call_ms"]
    assert found["step_ms"] == pytest.approx(whole)
    assert found["runner_ms"] == pytest.approx(KERNEL_MS, rel=0.1)  # the kernel that counts, of one block
    assert found["peak_gflops"] > 0
    assert gpu.fake.spent[ADVANCE] > 0
    text = profile_text(found, "kernel", 20, 80)
    assert "one kernel after the other" in text
    assert "barriers" not in text
    assert "tun" not in text
    assert "thread" not in text


def test_the_profiled_steps_are_those_of_a_training(gpu: PtxTarget) -> None:
    """One with events changes the tensors as one without."""
    from compiler.profiling.step import profiled_step

    program = driver.load(Path("model.dl"))
    options = Options("gpu", batch=64)
    step = profiled_step(program, TRAINING, options)
    data = {n: np.random.default_rng(0).normal(size=(64, w)).astype(np.float32) for n, w in (("x", 40), ("t", 7))}
    bits: list[list[bytes]] = []
    for executable in (step.plain, step.stamped):
        tensors = driver.allocate(program, options)
        driver.initialise(program, tensors, 3, options)
        executable.run(Steps(tensors, data, np.tile(np.arange(64), 3), 64, settings=runtime_settings(program)))
        bits.append([tensors[name].tobytes() for name in tensors.names()])
    assert bits[0] == bits[1]
    ((recording,),) = step.take()
    assert recording.made == len(recording.steps) == 3


def test_a_bench_says_which_device_it_measured(gpu: PtxTarget, capsys: pytest.CaptureFixture[str]) -> None:
    found = said(capsys, "bench", "--seconds", "0.05")
    assert found["device"] == "Fake 9000"
    assert found["device_mb"] == pytest.approx(gpu.fake.held / 2**20, rel=1e-4)


def test_a_plan_has_the_memory_that_a_step_takes(gpu: PtxTarget, capsys: pytest.CaptureFixture[str]) -> None:
    planned = said(capsys, "plan")
    program, options = driver.load(Path("model.dl")), Options("gpu", batch=64)
    tensors = driver.allocate(program, options)
    data = {n: np.zeros((64, w), np.float32) for n, w in (("x", 40), ("t", 7))}
    step = driver.compile_program(program, TRAINING, options)
    opened.device_memory().close()  # the workspace of other tests, which this one would use
    before = gpu.fake.held
    settings = runtime_settings(program)
    step.run(Steps(tensors, data, np.arange(64), 64, settings=settings, lasting=True))
    assert gpu.fake.held - before == planned["memory"]["peak_bytes"]
    product = next(row for row in planned["kernels"] if row["shared_bytes"])
    assert (product["kind"], product["threads"]) == ("tiles", 256)
    main(["plan", "model.dl", "--target", "gpu-emulator", "--json"])
    assert json.loads(capsys.readouterr().out)["memory"] == planned["memory"]
