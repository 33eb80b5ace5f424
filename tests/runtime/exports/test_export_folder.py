"""The folder of `dlc export`: files that the command was given stay as they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.cli.main import main


def test_given_weights_and_runs_are_not_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, text, run = tmp_path / "weights.safetensors", tmp_path / "model.dl", tmp_path / "run"
    weights.write_bytes(b"mine")
    text.write_text("model M {\n    input x: f32[batch, 2]\n    output y = x |> dense(2)\n}\n")
    run.mkdir()
    (run / "run.json").write_text("{}")
    given = ["export", str(text), "--weights", str(weights), "--to", "c", "-o"]
    for folder, message in ((tmp_path, "would replace"), (run / "..", "would replace"), (run, "folder of a run")):
        assert main([*given, str(folder)]) == 2
        assert message in capsys.readouterr().err
    for form in ("python", "onnx"):  # they write no weights.safetensors, so the folder is right and the file damaged
        assert main([*given[:-2], form, "-o", str(tmp_path)]) == 1
        assert "would replace" not in capsys.readouterr().err
    assert weights.read_bytes() == b"mine"
    assert [file.name for file in run.iterdir()] == ["run.json"]
