"""A loop as one kernel has the bits of native code, in whatever order its blocks go on, whatever the driver refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_cuda import FakeCuda
from fake_device import FakeTarget
from scan_models import LSTM, MODELS, trained

from compiler.driver import Options
from compiler.errors.diagnostics import DeviceError
from compiler.targets.gpu import cooperative
from compiler.targets.registry import TARGETS
from runtime.cli.main import main

Used = Callable[..., FakeTarget]


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> Iterator[Used]:
    """Makes targets whose device has three places for blocks."""
    made: list[FakeTarget] = []

    def use(seed: int = 0, processors: int = 3, occupancy: int = 1, cooperative: int = 1) -> FakeTarget:
        words = {"seed": seed, "processors": processors, "occupancy": occupancy, "cooperative": cooperative}
        made.append(FakeTarget(FakeCuda({}, **words)))  # type: ignore[arg-type]
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


# the driver

NODE, ATTRIBUTE, FITTING = (
    "cuGraphAddKernelNode",
    "cuGraphKernelNodeSetAttribute",
    "cuOccupancyMaxActiveBlocksPerMultiprocessor",
)


@pytest.fixture
def wanted(tmp_path: Path) -> dict[str, bytes]:
    return trained(LSTM, options("native", tmp_path, False))[0]


def test_a_loop_is_one_cooperative_node(used: Used, wanted: dict[str, bytes], tmp_path: Path) -> None:
    target = used()
    assert trained(LSTM, options("fake", tmp_path))[0] == wanted
    calls = target.fake.calls
    assert calls.count(FITTING) == 2  # a loop of the forward pass, and one of the backward pass
    assert calls.count(ATTRIBUTE) == 4  # for a full batch, and the short last one
    assert all(calls[k - 1] == NODE for k, name in enumerate(calls) if name == ATTRIBUTE)
    unrolled = used()
    assert trained(LSTM, options("fake", tmp_path, False))[0] == wanted
    assert not {ATTRIBUTE, FITTING} & {*unrolled.fake.calls}
    assert calls.count(NODE) < unrolled.fake.calls.count(NODE) / 2


@pytest.mark.parametrize(("processors", "occupancy"), [(1, 1), (2, 2), (132, 2)])
def test_a_grid_has_the_blocks_that_fit_and_no_more_than_have_something_to_do(
    processors: int, occupancy: int, used: Used, wanted: dict[str, bytes], tmp_path: Path
) -> None:
    target = used(processors=processors, occupancy=occupancy)
    assert trained(LSTM, options("fake", tmp_path))[0] == wanted
    assert len(target.fake.grids) == 4
    assert max(target.fake.grids) == min(processors * occupancy, 18)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == cooperative.__name__]


@pytest.mark.parametrize("device", [{"cooperative": 0}, {"occupancy": 0}])
def test_a_device_that_cannot_run_all_blocks_at_once_unrolls_loops_and_says_so_once(
    device: dict[str, int],
    used: Used,
    wanted: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cooperative, "_told", set())
    for _ in range(2):
        target = used(**device)
        assert trained(LSTM, options("fake", tmp_path))[0] == wanted
        assert ATTRIBUTE not in target.fake.calls
        assert not target.fake.grids
    (said,) = told(caplog)
    assert "the same results" in said


@pytest.mark.parametrize("function", [ATTRIBUTE, "cuGraphInstantiateWithFlags", "cuGraphLaunch"])
@pytest.mark.parametrize("code", [720, 801])
def test_a_driver_that_refuses_a_loop_is_given_it_unrolled(
    function: str,
    code: int,
    used: Used,
    wanted: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cooperative, "_told", set())
    plain = used()
    trained(LSTM, options("fake", tmp_path))
    before = plain.fake.calls[: plain.fake.calls.index(ATTRIBUTE)].count("cuGraphInstantiateWithFlags")
    target = used()
    target.fake.code, target.fake.fails_in = code, (function, 1 if function == ATTRIBUTE else before + 1)
    assert trained(LSTM, options("fake", tmp_path))[0] == wanted
    assert target.fake.has_failed
    assert len(target.fake.grids) < len(plain.fake.grids)
    (said,) = told(caplog)
    assert function in said


@pytest.mark.parametrize("function", [FITTING, ATTRIBUTE, "cuGraphInstantiateWithFlags", "cuGraphLaunch"])
@pytest.mark.parametrize(("code", "lost"), [(700, True), (1, False)])
def test_any_other_failure_is_told(function: str, code: int, lost: bool, used: Used, tmp_path: Path) -> None:
    plain = used()
    trained(LSTM, options("fake", tmp_path))
    for number in range(1, plain.fake.calls.count(function) + 1):
        target = used()
        target.fake.fails_in, target.fake.code, target.fake.lost = (function, number), code, lost
        with pytest.raises(DeviceError):
            trained(LSTM, options("fake", tmp_path))


# the command line


def test_a_plan_and_a_listing_have_kernels_of_loops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "m.dl"
    model.write_text(LSTM)
    plan = ["plan", str(model), "--target", "gpu"]
    assert main(plan) == 0
    assert "loop of 6 steps" not in capsys.readouterr().out
    assert main([*plan, "--persistent-loops"]) == 0
    assert "loop of 6 steps" in capsys.readouterr().out
    assert main(["show", str(model), "--target", "gpu", "--persistent-loops", "--mode", "infer", "--stage", "ptx"]) == 0
    shown = capsys.readouterr().out
    assert "// a loop of 6 steps, from " in shown
    assert "fence.acq_rel.gpu" in shown


def test_a_processor_has_no_kernels_of_loops(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m.dl").write_text(LSTM)
    assert main(["plan", str(tmp_path / "m.dl"), "--persistent-loops"]) == 2
    assert "--target gpu" in capsys.readouterr().err
