"""Imports from outside the folder of a model: refused, unless the user trusts them; runs keep their copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.cli.main import main

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
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DLC_CACHE_DIR", str(tmp_path / "cache"))
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "parts.dl").write_text("fn doubled(x) = 2 * x\n")
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    Path("model.dl").write_text(TEXT)
    np.savez("data.npz", x=np.ones((8, 3), np.float32), t=np.ones((8, 1), np.float32))


@pytest.mark.parametrize("command", ["check", "train"])
def test_they_are_refused(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "model.dl"]) == 1
    output = capsys.readouterr()
    assert "E0123" in output.out + output.err
    assert "--allow-imports-outside" in output.out + output.err


def test_they_are_read_where_the_user_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):  # the second time from the cache
        assert main(["check", "model.dl", "--allow-imports-outside"]) == 0
    assert main(["check", "model.dl"]) == 1  # what was kept is no permission
    assert main(["train", "model.dl", "--allow-imports-outside", "--out", "run"]) == 0
    capsys.readouterr()
    Path("../shared/parts.dl").unlink()
    assert main(["eval", "run", "--part", "train"]) == 0
    assert main(["train", "--resume", "run", "--epochs", "2"]) == 0


def test_a_run_reads_nothing_outside_of_its_copies() -> None:
    assert main(["train", "model.dl", "--allow-imports-outside", "--out", "run"]) == 0
    copy = next(Path("run/source").rglob("model.dl"))
    Path("secret.dl").write_text("fn doubled(x) = 3 * x\n")
    copy.write_text(copy.read_text().replace("../shared/parts.dl", "../../../secret.dl"))
    assert main(["eval", "run", "--part", "train"]) == 1
