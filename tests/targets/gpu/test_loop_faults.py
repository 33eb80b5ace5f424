"""Whatever is left out of a loop's kernel is found: a barrier, a fence, a wait of a block, room for all blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import fake_cuda
import fake_device
import numpy as np
import pytest
from blocks_apart import WaitsForEver, run_blocks
from fake_cuda import FakeCuda
from fake_device import FakeTarget

from compiler import driver
from compiler.driver import Options
from compiler.interface import Steps
from compiler.programs.kinds import PREDICTION
from compiler.support.record import mutable_record
from compiler.targets.gpu import loop_text
from compiler.targets.gpu.emulated_loops import HOST_WAITING, host_loop_text
from compiler.targets.gpu.grid_barrier import Waiting, grid_barrier
from compiler.targets.llvm.host import machine_of
from compiler.targets.registry import TARGETS
from runtime.inference.model import runtime_settings

ROWS, PLACES, SEEDS = 48, 3, 6
MIXING = """model M {
    input x: f32[batch, 5]
    mix = dense(608)
    start = dense(608)(x)
    h = scan i in 0..3 over 1 carry h = start {
        shares = softmax(h, axis = 1)
        h = tanh(mix(shares) + h - mean(h, axis = 0, keepdims = true))
    }
    output y = h |> dense(3)
}
"""


@mutable_record
class LeavingOut:
    """Writes all but one of the things of a kind, which are counted."""

    number: int | None = None
    count: int = 0

    def write(self, writer: Callable[..., None], *given: object) -> None:
        if self.count != self.number:
            writer(*given)
        self.count += 1


@mutable_record
class Device:
    """A device with a few places for blocks, and the text of loops that it is given."""

    folder: Path
    patch: pytest.MonkeyPatch
    waiting: Waiting = HOST_WAITING

    def result(self, seed: int) -> bytes:
        """What a model gives whose rows depend on each other in each step."""
        target = FakeTarget(FakeCuda({}, seed=seed, processors=PLACES))
        text_of = partial(host_loop_text, machine=machine_of(None), waiting=self.waiting)
        self.patch.setattr(FakeTarget, "loop_text_of", lambda _, plan: text_of(plan))
        self.patch.setitem(TARGETS, "fake", lambda: target)
        program = driver.load_text(MIXING, "m.dl")
        options = Options("fake", threads=1, cache=self.folder, batch=ROWS, persistent_loops=True)
        tensors = driver.allocate(program, options)
        driver.initialise(program, tensors, 3, Options("native", threads=1, cache=self.folder))
        made = driver.compile_program(program, PREDICTION, options)
        data = {"x": np.random.default_rng(0).normal(size=(ROWS, 5)).astype(np.float32)}
        try:
            settings = runtime_settings(program)
            found = made.run(Steps(tensors, data, np.arange(ROWS), ROWS, settings=settings)).arrays["y"]
            assert target.fake.grids == [PLACES]
        finally:
            target.close()
        return found.tobytes()

    def shows(self, wanted: bytes) -> bool:
        """Whether some order of blocks gives other results, or none."""
        self.patch.setattr(fake_device, "_COMPILED", {})
        try:
            return any(self.result(seed) != wanted for seed in range(SEEDS))
        except WaitsForEver:
            return True


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(tmp_path, monkeypatch)


@pytest.fixture
def wanted(device: Device) -> bytes:
    found = device.result(0)
    assert not device.shows(found)
    return found


def found_faults(leaving: Callable[[LeavingOut], None], shows: Callable[[], bool], least: int) -> list[bool]:
    """For each thing that the kernel has, whether it is found that it was left out."""
    leaving(whole := LeavingOut())
    assert not shows()
    assert whole.count >= least
    found: list[bool] = []
    for number in range(whole.count):
        leaving(LeavingOut(number))
        found.append(shows())
    return found


def test_each_barrier(device: Device, wanted: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    def leaving(out: LeavingOut) -> None:
        monkeypatch.setattr(loop_text, "grid_barrier", partial(out.write, grid_barrier))

    found = found_faults(leaving, lambda: device.shows(wanted), 3)
    assert all(found), repr(found)


def test_each_fence(device: Device, wanted: bytes) -> None:
    def leaving(out: LeavingOut) -> None:
        device.waiting = with_writer("fence", out)

    found = found_faults(leaving, lambda: device.shows(wanted), 6)
    assert all(found), repr(found)


def test_each_wait_of_a_block(device: Device, wanted: bytes) -> None:
    def leaving(out: LeavingOut) -> None:
        device.waiting = with_writer("meet", out)

    found = found_faults(leaving, lambda: device.shows(wanted), 6)
    assert all(found), repr(found)


def with_writer(name: str, out: LeavingOut) -> Waiting:
    parts = {part: getattr(HOST_WAITING, part) for part in ("meet", "fence", "pause", "leave")}
    return Waiting(**{**parts, name: partial(out.write, parts[name])}, scope=HOST_WAITING.scope)


def test_blocks_that_are_not_all_there(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_too_few_places(*given: object) -> None:
        *others, resident, random = given
        run_blocks(*others, resident - 1, random)  # type: ignore[arg-type]

    monkeypatch.setattr(fake_cuda, "run_blocks", with_too_few_places)
    with pytest.raises(WaitsForEver):
        device.result(0)
