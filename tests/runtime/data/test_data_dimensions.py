"""Dimensions that the data decides: what is asked of it, and what a run remembers when the data is gone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from data_specs import place, source, write

import dlc
from compiler.driver import DataQuestion, InputSpec
from compiler.errors.diagnostics import DataError, SourceError
from compiler.types import BatchExtent, DType, TensorType
from runtime.cli.main import main
from runtime.data.dimensions import dimensions_of

MODEL = """model M {
    input x: f32[batch, width]
    output y = x |> dense(2)
}

train M {
    data = csv("rows.csv", target = "kind")
    target label: u8[batch] in 0..2
    loss = cross_entropy(y, label)
    optimizer = adam(lr = 0.01)
    batch = 4
    epochs = 1
}
"""


def table(columns: int, rows: int = 12) -> str:
    names = [f"c{i}" for i in range(columns)]
    lines = [",".join([*(str(row * i) for i in range(columns)), str(row % 2)]) for row in range(rows)]
    return "\n".join([",".join([*names, "kind"]), *lines, ""])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text(table(3))
    (tmp_path / "model.dl").write_text(MODEL)
    return tmp_path


def named(name: str, *dimensions: str | None, extents: tuple[int, ...] = (), target: bool = False) -> InputSpec:
    sizes = extents or (1,) * len(dimensions)
    type_ = TensorType(DType.F32, (BatchExtent(), *sizes))
    return InputSpec(name, type_, target, None, None, place(), ("batch", *dimensions))


def test_fields_of_arrays_say_their_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((5, 6, 7), np.float32), y=np.zeros((5, 6), np.float32))
    inputs = (named("y", "n"), named("x", "n", "m"))
    question = DataQuestion(("n", "m"), inputs, source(tmp_path / "a.npz"))
    assert dimensions_of(None)(question) == {"n": 6, "m": 7}
    for wrong in (named("z", "n"), named("x", "n")):
        with pytest.raises(DataError) as caught:
            dimensions_of(None)(DataQuestion(("n",), (wrong,), source(tmp_path / "a.npz")))
        assert "--set" in caught.value.fix


def test_columns_left_over_say_a_dimension(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "a,b,c,d,e,name\n1,2,3,4,5,x\n")
    other = named("a")

    def found(inputs: tuple[InputSpec, ...], **options: object) -> dict[str, int]:
        return dict(dimensions_of(None)(DataQuestion(("n",), inputs, source(path, **options))))

    assert found((named("x", "n"), other)) == {"n": 4}
    assert found((named("x", "n"), named("t", target=True)), target="e") == {"n": 4}
    assert found((named("x", None, "n", extents=(2, 1)), other)) == {"n": 2}
    assert found((named("x", "n"), named("z", None, extents=(2,))), columns=("a", "b", "c")) == {"n": 1}
    assert found((named("x", None, extents=(2,)), named("t", "n", target=True)), target=("d", "e")) == {"n": 2}
    for inputs in ((named("x", None, "n", extents=(3, 1)), other), (named("x", "n"), named("z", "n"))):
        with pytest.raises(DataError):
            found(inputs)


def test_a_run_remembers_what_the_data_decided(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "model.dl", "--out", "run"]) == 0
    settings = json.loads((project / "run/settings.json").read_text())
    assert settings["choices"]["dimensions"] == {"width": 3}
    assert settings["settings"]["width"] == {"value": 3, "from": "data"}
    assert main(["eval", "run"]) == 0
    (project / "rows.csv").rename(project / "other.csv")
    (project / "new.csv").write_text("c0,c1,c2\n1,2,3\n")
    capsys.readouterr()
    assert main(["predict", "run", "--input", "new.csv"]) == 0
    assert len(json.loads(capsys.readouterr().out)["y"]) == 2
    assert main(["eval", "run", "--data", "other.csv"]) == 0
    assert dlc.load("run").parameters["y.dense.W"].shape == (3, 2)
    dlc.load("run").save("w.safetensors")
    assert main(["eval", "model.dl", "--weights", "w.safetensors", "--data", "other.csv"]) == 0
    assert main(["plan", "model.dl", "--set", "width=5"]) == 0


def test_other_data_makes_another_program(project: Path) -> None:
    assert [dlc.load("model.dl").parameters["y.dense.W"].shape for _ in range(2)] == [(3, 2)] * 2
    (project / "rows.csv").write_text(table(5))
    assert dlc.load("model.dl").parameters["y.dense.W"].shape == (5, 2)
    assert dlc.load("model.dl", width=4).parameters["y.dense.W"].shape == (4, 2)
    (project / "wide.csv").write_text(table(7))
    assert main(["train", "model.dl", "--data", "wide.csv", "--out", "wide"]) == 0
    assert dlc.load("wide").parameters["y.dense.W"].shape == (7, 2)
    assert main(["train", "--resume", "wide", "--epochs", "2"]) == 0


def test_without_the_data(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model.dl"]) == 0
    assert capsys.readouterr().out == ""
    (project / "rows.csv").unlink()
    assert main(["check", "model.dl"]) == 0
    assert "W0105" in capsys.readouterr().out
    assert main(["train", "model.dl"]) == 1
    assert "rows.csv: there is no such file" in capsys.readouterr().err
    with pytest.raises(SourceError, match="E0415"):
        dlc.load("model.dl")


def test_a_table_of_categories_is_not_taken_for_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "goods.csv").write_text("colour,price\n" + "red,1.0\nblue,2.0\ngreen,3.0\n" * 4)
    model = tmp_path / "model.dl"
    model.write_text(
        "model Prices {\n    input colour: i32[batch] in 0..colours\n"
        "    output y = (colour |> embedding(colours, 4) |> dense(1))[:, 0]\n}\n\n"
        'train Prices {\n    data = csv("goods.csv")\n    target price: f32[batch]\n    loss = mse(y, price)\n'
        "    optimizer = adam\n    epochs = 1\n    batch = 4\n}\n"
    )
    assert main(["train", str(model)]) == 1
    error = capsys.readouterr().err
    assert "`colours` is how many categories `colour` has, which a table does not decide" in error
    assert "its column has 3: write `input colour: i32[batch] in 0..3`" in error
    assert "lines(" not in error
