"""Imports from outside the folder of a model: refused, unless the user trusts them; runs keep their copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import dlc
from runtime.cli.main import main
from runtime.runs.tensor_files import write_tensors

TEXT = """import "../shared/parts.dl"

model M {
    input x: f32[batch, 3]
    output y = x |> doubled |> dense(1)
}
train M {
    data = npz("data.npz")
    target t: f32[batch, 1]
    loss = mse(y, t)
    optimizer = adam()
    epochs = 1
    batch = 4
}
"""


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "parts.dl").write_text("fn doubled(x) = 2 * x\n")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    Path("model.dl").write_text(TEXT)
    np.savez("data.npz", x=np.ones((8, 3), np.float32), t=np.ones((8, 1), np.float32))


COMMANDS = (
    "check model.dl",
    "train model.dl",
    "test model.dl",
    "lr model.dl --steps 4",
    "lr model.dl --schedule",
    "sweep model.dl --set optimizer.lr=0.1..0.2 --trials 1",
    "eval model.dl --weights weights.safetensors --data data.npz",
    "predict model.dl --weights weights.safetensors --input data.npz --output y.npz",
    "data preview model.dl",
    "show model.dl",
    "plan model.dl",
    "bench model.dl --seconds 0.01",
)
"""One of each command that reads what a model file imports."""


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_refuses_them_unless_the_user_trusts_them(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {"y.dense.W": np.ones((3, 1), np.float32), "y.dense.b": np.zeros(1, np.float32)}
    write_tensors(Path("weights.safetensors"), weights)
    assert main(command.split()) == 1
    output = capsys.readouterr()
    assert "E0123" in output.out + output.err
    assert "--allow-imports-outside" in output.out + output.err
    assert main([*command.split(), "--allow-imports-outside"]) == 0


def test_from_python() -> None:
    with pytest.raises(dlc.SourceError):
        dlc.load("model.dl")
    model = dlc.load("model.dl", allow_imports_outside=True)
    assert model.predict(np.ones((2, 3), np.float32))["y"].shape == (2, 1)


def test_they_are_read_where_the_user_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time from the cache
        assert main(["check", "model.dl", "--allow-imports-outside"]) == 0
    assert main(["check", "model.dl"]) == 1  # what was kept is no permission
    assert main(["train", "model.dl", "--allow-imports-outside", "--out", "run"]) == 0
    capsys.readouterr()
    Path("../shared/parts.dl").unlink()
    assert main(["eval", "run", "--part", "train"]) == 0
    assert main(["train", "--resume", "run", "--epochs", "2"]) == 0
    assert main(["report", "run"]) == 0


def test_a_run_reads_nothing_outside_of_its_copies() -> None:
    assert main(["train", "model.dl", "--allow-imports-outside", "--out", "run"]) == 0
    copy = next(Path("run/source").rglob("model.dl"))
    Path("secret.dl").write_text("fn doubled(x) = 3 * x\n")
    copy.write_text(copy.read_text().replace("../shared/parts.dl", "../../../secret.dl"))
    assert main(["eval", "run", "--part", "train"]) == 1
