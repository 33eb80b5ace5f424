"""What a device must be, and what is told where it is not, or has too little memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from comparisons import Array
from fake_cuda import FakeCuda
from fake_device import FakeTarget

from compiler import driver as compiler
from compiler.driver import Options
from compiler.errors.diagnostics import DlcError, ResourceError, UsageError
from compiler.interface import Steps
from compiler.programs.kinds import PREDICTION
from compiler.targets.gpu import driver, opened
from compiler.targets.gpu.driver import Driver, begun
from compiler.targets.gpu.hardware import Gpu
from compiler.targets.registry import TARGETS, why_no_gpu
from runtime.cli.main import main

MIB = 1 << 20
TEXT = """model M {
    input x: f32[batch, 512]
    output y = x |> dense(512) |> relu |> dense(4)
}
"""


def gpu_of(fake: FakeCuda) -> Gpu:
    return Gpu(begun(Driver(fake)))


@pytest.mark.parametrize(
    ("fake", "message", "fix"),
    [
        (FakeCuda({}, devices=0), "there is no NVIDIA GPU (cuInit: CUDA_ERROR_NO_DEVICE", "CUDA_VISIBLE_DEVICES"),
        (FakeCuda({}, version=11_020), "driver is too old: it has CUDA 11.2, and 11.4 is needed", "version 470"),
        (FakeCuda({}, capability=(6, 1)), "too old: it has compute capability 6.1, and 7.5", "--target gpu"),
    ],
)
def test_a_device_that_cannot_be_used_is_told(fake: FakeCuda, message: str, fix: str) -> None:
    with pytest.raises(UsageError) as caught:
        gpu_of(fake)
    assert message in str(caught.value)
    assert fix in caught.value.fix
    gc.collect()
    assert not +fake.live


def test_a_device_that_is_taken_is_told() -> None:
    fake = FakeCuda({})
    fake.fails_in, fake.code = ("cuDevicePrimaryCtxRetain", 1), 46
    with pytest.raises(DlcError, match="another process has the GPU for itself alone"):
        gpu_of(fake)


def test_without_a_driver_the_processor_computes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-that-nobody-has.so")
    opened.device_memory.cache_clear()
    assert why_no_gpu() == "this machine has no driver of NVIDIA GPUs: there is no libcuda-that-nobody-has.so"
    model = tmp_path / "m.dl"
    model.write_text(TEXT)
    assert main(["bench", str(model), "--mode", "infer", "--target", "gpu", "--seconds", "0.01"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: this machine has no driver of NVIDIA GPUs")
    assert "hint: leave out --target gpu" in said
    assert main(["bench", str(model), "--mode", "infer", "--target", "auto", "--seconds", "0.01"]) == 0
    said = capsys.readouterr().err
    assert said.count("note: this processor computes, as no GPU does: this machine has no driver") == 1


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeTarget]:
    target = FakeTarget(FakeCuda({}, total=64 * MIB))
    monkeypatch.setitem(TARGETS, "fake", lambda: target)
    yield target
    target.close()
    assert not +target.fake.live


def predicted(rows: int, batch: int, target: str = "fake", lasting: bool = False) -> Array:
    program, options = compiler.load_text(TEXT, "m.dl"), Options(target, threads=1, batch=32)
    tensors = compiler.allocate(program, options)
    random = np.random.default_rng(0)
    for name in tensors.names():
        tensors.write(name, random.normal(size=tensors[name].shape).astype(np.float32))
    data = {"x": random.normal(size=(rows, 512)).astype(np.float32)}
    made = compiler.compile_program(program, PREDICTION, options)
    return made.run(Steps(tensors, data, np.arange(rows), batch, lasting=lasting)).arrays["y"]


def test_too_little_memory_is_told_with_figures(small: FakeTarget) -> None:
    with pytest.raises(ResourceError) as caught:
        predicted(30_000, 30_000)
    message = str(caught.value)
    assert "a step of 30000 rows on the GPU Fake 9000 needs " in message
    assert "values of the rows " in message
    assert "are available" in message
    assert caught.value.fix == "use a smaller batch"


def test_memory_of_another_process_is_told(small: FakeTarget) -> None:
    small.fake.held_by_others = 60 * MIB
    with pytest.raises(ResourceError) as caught:
        predicted(3000, 3000)
    assert "another process holds 60.0 MB of its 64.0 MB" in caught.value.fix
    assert "CUDA_VISIBLE_DEVICES" in caught.value.fix


def test_data_that_does_not_fit_is_copied_ahead(small: FakeTarget) -> None:
    rows, small.fake.total = 6000, 8 * MIB  # of 12 MiB
    found = predicted(rows, 32, lasting=True)
    assert small.fake.most_memory <= 8 * MIB
    assert found.tobytes() == predicted(rows, 32, "native").tobytes()


def test_what_a_step_needs_grows_with_its_rows_alone(small: FakeTarget) -> None:
    taken: list[int] = []
    for rows in (32, 256):
        predicted(rows, rows)
        taken.append(small.fake.most_memory)
        small.close()
        small.fake.most_memory = 0
    assert taken[0] < 4 * MIB
    assert taken[0] < taken[1] < taken[0] + 4 * MIB
