"""A model that does not fit into memory is told with figures, before any of it is taken."""

from __future__ import annotations

from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

import dlc
from compiler import driver
from compiler.diagnostics import DlcError
from compiler.targets.cpu.memory import reserve
from runtime import memory
from runtime.cli.main import main

TEXT = """model Wide(width = 1024) {
    input x: f32[batch, 4]
    output y = x |> dense(width) |> relu |> dense(width, bias = false) |> dense(2)
}

train Wide {
    data = npz("data.npz")
    target label: u8[batch] in 0..2
    loss = cross_entropy(y, label)
    optimizer = adam
    epochs = 1
    batch = 4
}
"""
PARAMETERS = 4 * (1024 * 1024 + (4 + 1 + 2) * 1024 + 2)


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    Path("model.dl").write_text(TEXT)
    np.savez("data.npz", x=np.zeros((8, 4), np.float32), label=np.zeros(8, np.uint8))


def with_memory(monkeypatch: pytest.MonkeyPatch, available: int | None) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: available)


@pytest.mark.parametrize("command", [["train"], ["train", "--dry-run"], ["bench", "--seconds", "0.01"]])
def test_what_does_not_fit_is_told_before_memory_is_taken(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def allocate(program: object, options: object) -> NoReturn:
        raise AssertionError("memory was taken")

    with_memory(monkeypatch, 10_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(driver, "allocate", allocate)
        assert main([command[0], "model.dl", *command[1:]]) == 1
    told = capsys.readouterr().err
    assert "error: Wide needs" in told
    assert "9.5 MB are available: parameters 4.0 MB, states of the optimizer 8.1 MB, gradients and values of a" in told
    assert "hint: use a smaller model, or an optimizer with fewer states" in told
    assert not Path("runs").exists()
    for enough in (1 << 40, None):
        with_memory(monkeypatch, enough)
        assert main([command[0], "model.dl", *command[1:]]) == 0


def test_large_batches_are_told_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with_memory(monkeypatch, 100_000_000)
    assert main(["bench", "model.dl", "--batch", "20000"]) == 1
    assert "hint: use a smaller batch, with `accumulate`" in capsys.readouterr().err


def test_training_from_python_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = dlc.load("model.dl")
    with_memory(monkeypatch, 10_000_000)
    with pytest.raises(DlcError, match=r"needs .* of memory"):
        model.train()


def test_what_is_needed_is_what_is_taken() -> None:
    program = driver.load("model.dl")
    options = driver.Options(batch=4)
    driver.compile_ahead(program, ["training"], options)
    needed = driver.memory_needed(program, ["training"], options)
    tensors = driver.allocate(program, options)
    assert needed["parameters"] == PARAMETERS
    assert needed["parameters"] + needed["states of the optimizer"] == sum(
        tensors[name].nbytes for name in tensors.names()
    )
    planned = driver.plan(program, options).memory
    assert needed[driver.VALUES] >= planned["static_bytes"] + planned["batch_bytes"]


def test_a_container_limits_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    whole = memory.available_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("70000\n")
    (tmp_path / "memory.stat").write_text("anon 50000\ninactive_file 20000\n")
    if whole is not None:
        assert memory.available_memory() == pytest.approx(whole, rel=0.5)
    (tmp_path / "memory.max").write_text("100000\n")
    assert memory.available_memory() == 50_000


def test_more_than_any_machine_has_is_no_traceback() -> None:
    with pytest.raises(MemoryError):
        reserve(1 << 60)
