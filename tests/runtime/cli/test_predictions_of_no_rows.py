"""`dlc predict` of a table or arrays without rows: an empty result of the right shapes; other commands want rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from runtime.cli.main import main

TEXT = """
model M {
    input x: f32[batch, 2]
    output logits = x |> dense(3)
    output total = sum(x)
}
train M {
    data = csv("rows.csv", target = "kind")
    target kind: i32[batch] in 0..3
    loss = cross_entropy(logits, kind)
    optimizer = adam(lr = 0.01)
    epochs = 1
    batch = 4
}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.dl").write_text(TEXT)
    rows = "".join(f"{k},{k + 1},{'abc'[k % 3]}\n" for k in range(6))
    (tmp_path / "rows.csv").write_text("one,two,kind\n" + rows)
    assert main(["train", "model.dl", "--out", "run"]) == 0
    return tmp_path / "run"


@pytest.mark.parametrize("header", ["one,two,kind", "one,two"])
def test_a_table_without_rows(run: Path, header: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("none.csv").write_text(header + "\n")
    capfd.readouterr()
    assert main(["predict", str(run), "--input", "none.csv"]) == 0
    assert capfd.readouterr().out == ""
    assert main(["predict", str(run), "--input", "none.csv", "-o", "found.npz"]) == 0
    with np.load("found.npz") as found:
        assert {name: found[name].shape for name in found} == {"logits": (0, 3), "kind": (0,)}
        assert found["logits"].dtype == np.float32


def test_an_evaluation_wants_rows(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("none.csv").write_text("one,two,kind\n")
    assert main(["eval", str(run), "--data", "none.csv"]) == 1
    assert "none.csv: the file has a header but no rows" in capsys.readouterr().err


def test_a_file_without_content_is_a_mistake(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("none.csv").write_text("")
    assert main(["predict", str(run), "--input", "none.csv"]) == 1
    assert "the file is empty" in capsys.readouterr().err
