"""`dlc` without what only Linux or POSIX has: it trains, goes on, predicts and lists with the same bits as here."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.cli.main import main

SCRIPT = Path(__file__).parents[2] / "support" / "other_systems.py"
ROOT = Path(__file__).parents[3]
MODEL = """
model Small {
    input x: f32[batch, 2]
    output y = x |> dense(8) |> relu |> dense(1)
}

train Small {
    data = csv("rows.csv")
    target t: f32[batch, 1]
    loss = mse(y, t)
    optimizer = adam(lr = 0.01)
    epochs = 3
    batch = 4
    seed = 1
}
"""


def run(system: str, folder: Path, *words: str) -> str:
    """The standard output of a command there, with a cache in a home of its own."""
    home = {"HOME": str(folder), "XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(SCRIPT), system, *words]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, env={**os.environ, **home})
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def weights(run: Path) -> list[bytes]:
    """The tensors of the newest checkpoint: how many others there are depends on how long they take."""
    newest = max((run / "checkpoints").iterdir())
    return [file.read_bytes() for file in sorted(newest.glob("*.safetensors"))]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model.dl").write_text(MODEL)
    (tmp_path / "rows.csv").write_text("a,b,t\n" + "".join(f"{n % 3},{n % 5},{n % 7}\n" for n in range(16)))
    return tmp_path


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_a_training_there_has_the_same_bits(system: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(system, folder, "train", "model.dl", "--out", "there", "--threads", "2")
    predict = ("predict", "there", "--input", "rows.csv", "--output", "there.npz")
    info = run(system, folder, "train", "--resume", "there", "--epochs", "5", "then", *predict, "then", "cache", "info")
    assert "others may write" not in info
    assert "not below" not in info
    assert any((folder / "cache" / "dlc" / "objects").iterdir())
    monkeypatch.chdir(folder)
    for words in (("train", "model.dl", "--out", "here"), ("train", "--resume", "here", "--epochs", "5")):
        assert main([*words]) == 0
    assert weights(folder / "there") == weights(folder / "here")
    assert "there" in run(system, folder, "runs", ".", "--prune", "--keep", "1")  # the older one
    assert not (folder / "there").exists()


@pytest.mark.parametrize("system", ["windows", "macos"])
def test_every_module_is_imported_there(system: str, tmp_path: Path) -> None:
    run(system, tmp_path, "imports")
