"""A model that does not fit into memory is told with figures, before any of it is taken."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from decoding_models import CAUSAL

import dlc
from compiler import driver
from compiler.errors.diagnostics import DlcError, ResourceError
from compiler.inspection.plan import plan
from compiler.interface import Steps
from compiler.targets import available_memory
from compiler.targets.cpu import executable
from compiler.targets.memory import reserve
from runtime.cli.main import main
from runtime.runs.tensor_files import read_tensors

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
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))
    Path("model.dl").write_text(TEXT)
    np.savez("data.npz", x=np.zeros((8, 4), np.float32), label=np.zeros(8, np.uint8))


def with_memory(monkeypatch: pytest.MonkeyPatch, available: int | None) -> None:
    monkeypatch.setattr(available_memory, "_LIMITS", ())
    monkeypatch.setattr(available_memory, "_of_the_machine", lambda: available)


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


@pytest.mark.parametrize(
    ("command", "needed"),
    [
        (["eval", "run"], "parameters 4.0 MB"),
        (["eval", "model.dl", "--weights", "weights.safetensors"], "parameters 4.0 MB"),
        (["predict", "run", "--input", "data.npz"], "parameters 4.0 MB"),
        (["replay", "run", "--step", "1"], "states of the optimizer 8.1 MB"),
    ],
)
def test_a_trained_model_that_does_not_fit_is_told(
    command: list[str], needed: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", "model.dl", "--out", "run"]) == 0
    (weights,) = Path("run/checkpoints").glob("*-best/weights.safetensors")
    shutil.copy(weights, ".")
    with_memory(monkeypatch, 3_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(driver, "allocate", lambda *_: pytest.fail("memory was taken"))
        capsys.readouterr()
        assert main(command) == 1
    told = capsys.readouterr().err
    assert "error: Wide needs" in told
    assert needed in told
    with_memory(monkeypatch, 1 << 40)
    assert main(command) == 0


def test_weights_that_cannot_be_read_beside_what_is_there_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with_memory(monkeypatch, 1000)
    Path("weights.safetensors").write_bytes(bytes(600))
    with pytest.raises(ResourceError, match=r"reading weights.safetensors needs 1.2 KB of memory, and 1000 B are"):
        read_tensors(Path("weights.safetensors"))


def test_rows_that_do_not_fit_are_told_by_every_program(monkeypatch: pytest.MonkeyPatch) -> None:
    program, options = driver.load("model.dl"), driver.Options(batch=4)
    prediction, tensors = driver.compile_prediction(program, options), driver.allocate(program, options)
    data = {"x": np.zeros((20_000, 4), np.float32)}
    with_memory(monkeypatch, 10_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(executable, "reserve", lambda *_: pytest.fail("memory was taken"))
        with pytest.raises(ResourceError, match=r"a step of 20000 rows needs .*: values of the rows") as refused:
            prediction.run(Steps(tensors, data, np.arange(20_000), 20_000))
    assert refused.value.fix == "use a smaller batch"
    prediction.run(Steps(tensors, data, np.arange(4), 4))
    with_memory(monkeypatch, None)
    prediction.run(Steps(tensors, data, np.arange(20_000), 20_000))


def test_sequences_whose_states_do_not_fit_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    program, options = driver.load_text(CAUSAL["rotary positions"], "m.dl"), driver.Options()
    tensors = driver.allocate(program, options)
    with_memory(monkeypatch, 100_000)
    driver.compile_decoding(program, tensors, 1, options)
    with pytest.raises(ResourceError, match=r"generating 1000 sequences with .* needs"):
        driver.compile_decoding(program, tensors, 1000, options)


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
    planned = plan(program, options).memory
    assert needed[driver.VALUES] >= planned["static_bytes"] + planned["batch_bytes"]


def test_a_container_limits_what_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(available_memory, "_CGROUP", tmp_path)
    whole = available_memory.available_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("70000\n")
    (tmp_path / "memory.stat").write_text("anon 50000\ninactive_file 20000\n")
    if whole is not None:
        assert available_memory.available_memory() == pytest.approx(whole, rel=0.5)
    (tmp_path / "memory.max").write_text("100000\n")
    assert available_memory.available_memory() == 50_000


def test_more_than_any_machine_has_is_no_traceback() -> None:
    with pytest.raises(MemoryError):
        reserve(1 << 60)
