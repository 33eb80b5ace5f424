"""`dlc train` on a device that stands for a GPU: checkpoints, going on elsewhere, and a device that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_cuda import FakeCuda
from fake_device import FakeTarget

from compiler.targets.registry import KERNEL_TARGETS, TARGETS
from runtime.cli.main import main

TEXT = """model M {
    input x: f32[batch, 6]
    output y = x |> dense(5) |> tanh |> dropout(0.2) |> dense(3)
}
train M {
    target t: f32[batch, 3]
    data = npz("data.npz")
    validation = 0.2
    loss = mse(y, t)
    optimizer = adam(lr = 0.02)
    ema = 0.9
    batch = 8
    epochs = 3
}
"""
Use = Callable[[FakeTarget], None]


@pytest.fixture
def use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Use:
    """Makes a device the target `fake`, in a folder with a model and data."""
    random = np.random.default_rng(0)
    x, t = (random.normal(size=(60, width)).astype(np.float32) for width in (6, 3))
    np.savez(tmp_path / "data.npz", x=x, t=t)
    (tmp_path / "model.dl").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))

    def begin(target: FakeTarget) -> None:
        for targets in (TARGETS, KERNEL_TARGETS):
            monkeypatch.setitem(targets, "fake", lambda: target)

    return begin


def train(*words: str) -> int:
    return main(["train", *words, "--threads", "1"])


def checkpoint(run: str) -> dict[str, bytes]:
    """The files of the last checkpoint with tensors, by their names."""
    newest = sorted(Path(run, "checkpoints").iterdir())[-1]
    return {file.name: file.read_bytes() for file in newest.iterdir() if file.suffix == ".safetensors"}


def test_checkpoints_are_those_of_native_code(use: Use) -> None:
    target = FakeTarget(FakeCuda({}, seed=1))
    use(target)
    assert train("model.dl", "--target", "fake", "--out", "A") == 0
    target.close()
    assert train("model.dl", "--out", "B") == 0
    assert checkpoint("A") == checkpoint("B")
    assert len(checkpoint("A")) > 0
    assert not +target.fake.live


@pytest.mark.parametrize("key", ["accumulate = 2", "shards = 4"])
def test_updates_of_several_batches_have_the_bits_of_native_code(key: str, use: Use) -> None:
    """Tensors of sums are changed by several programs, and by nobody's version."""
    Path("model.dl").write_text(TEXT.replace("ema = 0.9", key))
    target = FakeTarget(FakeCuda({}, seed=4))
    use(target)
    assert train("model.dl", "--target", "fake", "--epochs", "2", "--out", "A") == 0
    target.close()
    assert train("model.dl", "--epochs", "2", "--out", "B") == 0
    assert checkpoint("A") == checkpoint("B")
    assert not +target.fake.live


@pytest.mark.parametrize(("first", "second"), [("native", "fake"), ("fake", "native")])
def test_a_training_goes_on_elsewhere(first: str, second: str, use: Use) -> None:
    target = FakeTarget(FakeCuda({}, seed=2))
    use(target)
    assert train("model.dl", "--target", first, "--epochs", "1", "--out", "A") == 0
    assert train("--resume", "A", "--epochs", "3", "--target", second) == 0
    assert train("model.dl", "--out", "B") == 0
    assert checkpoint("A") == checkpoint("B")
    target.close()
    assert not +target.fake.live


def test_a_device_that_fails_loses_nothing_that_was_saved(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    whole = FakeTarget(FakeCuda({}))
    use(whole)
    assert train("model.dl", "--target", "fake", "--out", "whole") == 0
    launches = whole.fake.calls.count("cuGraphLaunch")
    capsys.readouterr()
    for number in (1, launches // 2, launches):
        run, target = f"run{number}", FakeTarget(FakeCuda({}, seed=number))
        target.fake.fails_in, target.fake.code, target.fake.lost = ("cuGraphLaunch", number), 719, True
        use(target)
        assert train("model.dl", "--target", "fake", "--out", run) == 1
        said = capsys.readouterr().err
        assert "a kernel broke off" in said
        assert "dlc train --resume" in said
        assert "Traceback" not in said
        target.close()
        assert not +target.fake.live
        if checkpoints := sorted(Path(run).glob("checkpoints/*")):
            assert number > 1, checkpoints
            assert train("--resume", run, "--target", "native") == 0
            assert checkpoint(run) == checkpoint("whole")
            capsys.readouterr()
