"""`dlc train` on a device that stands for a GPU: checkpoints, going on elsewhere, and a device that fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fake_cuda import FakeCuda
from fake_device import FakeTarget

from compiler.targets.registry import TARGETS
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
    arrays = {name: random.normal(size=(60, width)).astype(np.float32) for name, width in (("x", 6), ("t", 3))}
    np.savez(tmp_path / "data.npz", **arrays)
    (tmp_path / "model.dl").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    return lambda target: monkeypatch.setitem(TARGETS, "fake", lambda: target)


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
    launches = [number for number, name in enumerate(whole.fake.calls, 1) if name == "cuGraphLaunch"]
    capsys.readouterr()
    for number in (launches[2], launches[len(launches) // 2], launches[-1], launches[-1] + 1):
        run, target = f"run{number}", FakeTarget(FakeCuda({}, seed=number))
        target.fake.fails_at, target.fake.code, target.fake.lost = number, 719, True
        use(target)
        assert train("model.dl", "--target", "fake", "--out", run) == 1
        said = capsys.readouterr().err
        assert "a kernel broke off" in said
        assert "dlc train --resume" in said
        assert "Traceback" not in said
        target.close()
        assert not +target.fake.live
        if any(Path(run, "checkpoints").iterdir()):
            assert train("--resume", run) == 0
            assert checkpoint(run) == checkpoint("whole")
            capsys.readouterr()
