"""A loop as one kernel has the bits of native code, in whatever order its blocks go on, and however much one sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_cuda import FakeCuda
from fake_device import FakeTarget
from scan_models import MODELS, trained

from compiler.driver import Options
from compiler.targets.registry import TARGETS

Used = Callable[..., FakeTarget]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[Used]:
    """Makes targets whose device has three places for blocks."""
    made: list[FakeTarget] = []

    def use(**words: int) -> FakeTarget:
        made.append(FakeTarget(FakeCuda({}, **{"processors": 3, **words})))
        monkeypatch.setitem(TARGETS, "fake", lambda: made[-1])
        return made[-1]

    yield use
    for target in made:
        target.close()
        assert not +target.fake.live


def options(target: str, cache: Path, persistent: bool = True) -> Options:
    return Options(target, threads=2, cache=cache, batch=48, persistent_loops=persistent)


@pytest.mark.parametrize("name", MODELS)
def test_the_emulator_has_the_bits_of_native_code(name: str, tmp_path: Path) -> None:
    wanted, _ = trained(MODELS[name], options("native", tmp_path, False))
    assert trained(MODELS[name], options("gpu-emulator", tmp_path))[0] == wanted


@pytest.mark.parametrize("name", MODELS)
def test_blocks_that_see_each_other_behind_fences_alone_have_the_bits_of_native_code(
    name: str, used: Used, tmp_path: Path
) -> None:
    wanted, _ = trained(MODELS[name], options("native", tmp_path, False), 2)
    for seed in range(3):
        target = used(seed=seed)
        assert trained(MODELS[name], options("fake", tmp_path), 2)[0] == wanted
        assert max(target.fake.grids) == 3
