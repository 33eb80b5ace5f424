"""The folder of `dlc export`: files that the command was given stay as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.cli.main import main
from runtime.runs.tensor_files import replace_tensors


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


TEXT = "model M {\n    input x: f32[batch, 2]\n    output y = x |> dense(2)\n}\n"


@pytest.mark.parametrize("form", ["c", "onnx"])
def test_files_of_others_stay_unless_they_are_to_be_replaced(
    form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if form == "onnx":
        pytest.importorskip("onnx", reason="onnx is not installed")
    (tmp_path / "model.dl").write_text(TEXT)
    arrays = {"y.dense.W": np.ones((2, 2), np.float32), "y.dense.b": np.zeros(2, np.float32)}
    replace_tensors(tmp_path / "w.safetensors", arrays)
    folder, name = tmp_path / "library", {"c": "example.c", "onnx": "model.onnx"}[form]
    folder.mkdir()
    (folder / name).write_text("mine")
    (folder / "notes.txt").write_text("mine")
    given = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors"), "--to", form]
    given += ["-o", str(folder)]
    assert main(given) == 2
    assert f"has `{name}` already, which no earlier command like this one wrote there" in capsys.readouterr().err
    assert {file.name: file.read_text() for file in folder.iterdir()} == {name: "mine", "notes.txt": "mine"}
    for command in ([*given, "--force"], given):  # what an export wrote, another one replaces
        assert main(command) == 0
        assert (folder / name).read_bytes()[:4] != b"mine"
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(("form", "name"), [("c", "example.c"), ("c", "CMakeLists.txt"), ("web", "index.html")])
def test_an_adapted_example_stays(form: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text(TEXT)
    arrays = {"y.dense.W": np.ones((2, 2), np.float32), "y.dense.b": np.zeros(2, np.float32)}
    replace_tensors(tmp_path / "w.safetensors", arrays)
    given = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors"), "--to", form]
    folder = tmp_path / "library"
    given += ["-o", str(folder)]
    assert main(given) == 0
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert main(given) == 0
    assert "--force" not in capsys.readouterr().err
    adapted = first[name] + b"mine"
    (folder / name).write_bytes(adapted)
    for _ in range(2):
        assert main(given) == 0
        assert f"`{name}` in {folder} stays, as changed since" in capsys.readouterr().err
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == {**first, name: adapted}
    assert main([*given, "--force"]) == 0
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first
    (folder / name).unlink()
    assert main(given) == 0
    assert "--force" not in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first


def test_forms_stand_side_by_side_in_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text(TEXT)
    arrays = {"y.dense.W": np.ones((2, 2), np.float32), "y.dense.b": np.zeros(2, np.float32)}
    replace_tensors(tmp_path / "w.safetensors", arrays)
    given = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors"), "-o"]
    folder = tmp_path / "library"
    for form in ("c", "wasm", "c"):
        assert main([*given, str(folder), "--to", form]) == 0, capsys.readouterr().err
    assert json.loads((folder / "manifest.json").read_text())["files"] == sorted(f.name for f in folder.iterdir())


def test_imported_weights_replace_only_those_of_an_import(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model.dl").write_text(TEXT)
    arrays = {"fc.weight": np.ones((2, 2), np.float32), "fc.bias": np.zeros(2, np.float32)}
    replace_tensors(tmp_path / "theirs.safetensors", arrays)
    folder = tmp_path / "imported"
    folder.mkdir()
    (folder / "weights.safetensors").write_text("mine")
    given = ["import", str(tmp_path / "theirs.safetensors"), "--into", str(tmp_path / "model.dl"), "-o", str(folder)]
    assert main(given) == 2
    assert "has `weights.safetensors` already" in capsys.readouterr().err
    assert (folder / "weights.safetensors").read_text() == "mine"
    assert main([*given, "--force"]) == 0
    assert main(given) == 0
