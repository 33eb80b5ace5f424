"""Rows to predict for a model of which only text and weights are known."""

from pathlib import Path

import numpy as np
import pytest
from data_specs import spec, write

from compiler.errors.diagnostics import UsageError
from runtime.data.loading import load_rows
from runtime.data.preparation import Preparation
from runtime.data.specs import SettingValue


@pytest.mark.parametrize(
    ("content", "options"),
    [
        ("z;x\n8;9\n", {"separator": ";", "target": "y", "columns": ("x", "z")}),
        ("w,z,x,y\n7,8,9,1\n", {"target": "y", "columns": ("x", "z")}),
        ("9,8,1\n", {"header": False, "target": -1}),
        ("7,8,9,1\n", {"names": ("w", "z", "x", "y"), "target": "y", "columns": ("x", "z")}),
        ("9,8\n", {"names": ("w", "z", "x", "y"), "columns": ("x", "z")}),
        ("9\t8\n", {"separator": "\\t", "header": False, "target": "y"}),
    ],
)
def test_without_a_run_a_table_is_read_as_the_text_says(
    content: str, options: dict[str, SettingValue], tmp_path: Path
) -> None:
    specs = [spec("features", row=(2,)), spec("y", target=True)]
    rows = load_rows(write(tmp_path / "p.csv", content), specs, None, options)
    assert rows.part.arrays["features"].tolist() == [[9, 8]]


def test_arrays_that_no_input_takes_are_told(tmp_path: Path) -> None:
    specs = [spec("x", row=(2,)), spec("y", target=True)]
    x = np.ones((3, 2), np.float32)
    np.savez(tmp_path / "in.npz", x=x, y=x[:, 0], mask=x, lables=x)
    assert load_rows(tmp_path / "in.npz", specs, None, {}).notes == ("in.npz: not used: `lables`, `mask`",)
    preparation = Preparation({"x": ("x",), "y": ("lables",)})
    assert load_rows(tmp_path / "in.npz", specs, preparation, {}).notes == ("in.npz: not used: `mask`",)
    np.savez(tmp_path / "in.npz", x=x, y=x[:, 0])
    assert load_rows(tmp_path / "in.npz", specs, None, {}).notes == ()


def test_without_a_run_a_series_is_cut_into_windows(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "power\n1\n2\n3\n4\n")
    part = load_rows(path, [spec("power", row=(3,))], None, {"window": 3, "horizon": 1}).part
    assert part.arrays["power"][part.rows].tolist() == [[1, 2, 3], [2, 3, 4]]


def test_without_a_run_numbers_of_categories_are_not_guessed(tmp_path: Path) -> None:
    path = write(tmp_path / "p.csv", "zip,y\n8001,1\n")
    specs = [spec("zip", "i32"), spec("y", "i32", target=True)]
    with pytest.raises(UsageError, match="must be prepared as the training data was"):
        load_rows(path, specs, None, {"categories": ("zip", "y")})
    assert load_rows(path, specs, None, {"categories": "y"}).part.arrays["zip"].tolist() == [8001]
