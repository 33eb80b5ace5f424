"""Tables as series: windows of past values and what comes after them, parts by time, and windows in native code."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_specs import place, source, spec, write

import dlc
from compiler import driver
from compiler.driver import DataQuestion
from compiler.errors.diagnostics import DataError
from compiler.interface import Steps
from compiler.programs.kinds import PREDICTION
from runtime.cli.main import main
from runtime.data.dimensions import dimensions_of
from runtime.data.loading import LoadedData, load_rows, load_training_data
from runtime.data.specs import Cuts, InputSpec


def series(tmp_path: Path, steps: int = 20) -> Path:
    lines = [f"1949-{step:02},{step},{10 * step}" for step in range(steps)]
    return write(tmp_path / "s.csv", "\n".join(["month,level,tens", *lines, ""]))


def load(specs: list[InputSpec], path: Path, validation: float = 0.0, test: float = 0.0, **options: Any) -> LoadedData:
    return load_training_data(specs, source(path, **options), Cuts(validation, test))


def test_a_window_and_what_comes_after_it(tmp_path: Path) -> None:
    path = series(tmp_path)
    data = load([spec("past", row=(4, 2)), spec("level", target=True)], path, window=4)
    assert data.train.arrays["past"][3].tolist() == [[3, 30], [4, 40], [5, 50], [6, 60]]
    assert data.train.arrays["level"][3] == 7
    assert data.train.rows.tolist() == list(range(16))
    one = load([spec("past", row=(4,)), spec("ahead", row=(2,), target=True)], path, window=4, columns="tens", target=1)
    assert one.train.arrays["past"][0].tolist() == [0, 10, 20, 30]
    assert one.train.arrays["ahead"][0].tolist() == [4, 5]
    far = load([spec("past", row=(4, 2)), spec("level", target=True)], path, window=4, horizon=3)
    assert far.train.arrays["level"][0] == 6
    every_third = load([spec("tens", row=(4,)), spec("level", target=True)], path, window=4, stride=3)
    assert every_third.train.rows.tolist() == [0, 3, 6, 9, 12]
    assert every_third.train.slack == 2


def test_parts_follow_one_another_and_look_back(tmp_path: Path) -> None:
    specs = [spec("past", row=(4, 2)), spec("level", target=True)]
    data = load(specs, series(tmp_path), 0.2, 0.1, window=4, normalise=True)
    assert data.validation is not None
    assert data.test is not None
    told = [part.arrays["level"][part.rows].tolist() for part in (data.train, data.validation, data.test)]
    assert told == [list(range(4, 14)), [14, 15, 16, 17], [18, 19]]
    scale = data.preparation.scales["level"]
    assert (scale.centre, scale.spread) == (np.arange(14).mean(), np.arange(14).std())
    rows = load_rows(series(tmp_path, 5), specs, data.preparation, {"window": 4})
    np.testing.assert_allclose(rows.part.arrays["past"][1, :, 0], (np.arange(1, 5) - scale.centre) / scale.spread, 1e-6)
    assert len(rows.part.rows) == 2
    steps = np.arange(5.0)
    np.save(tmp_path / "windows.npy", np.stack([steps[:4], 10 * steps[:4]], axis=1)[None])
    window = load_rows(tmp_path / "windows.npy", specs, data.preparation, {"window": 4}).part.arrays["past"]
    np.testing.assert_array_equal(window, rows.part.arrays["past"][:1])


def test_mistakes_about_series(tmp_path: Path) -> None:
    path = series(tmp_path)
    target = spec("level", target=True)
    cases: tuple[tuple[list[InputSpec], dict[str, Any], str], ...] = (
        ([spec("past", row=(5, 2)), target], {"window": 4}, "does not fit 4 steps of `level`, `tens`"),
        ([spec("past", row=(4, 2)), spec("x", target=True)], {"window": 4}, "no column for `x`"),
        ([spec("past", row=(4, 2)), target], {"horizon": 4}, "`horizon` is about windows"),
        ([spec("past", row=(20, 2)), target], {"window": 20}, "the train part has 20 steps, and a window takes 21"),
        ([spec("past", row=(4, 2)), target], {"window": 4, "missing": "drop"}, "has gaps"),
    )
    for specs, options, message in cases:
        with pytest.raises(DataError, match=message):
            load(specs, path, **options)


def test_the_data_says_the_dimensions_of_a_window(tmp_path: Path) -> None:
    past = replace(spec("past", row=(1, 1)), dimension_names=("batch", "time", "columns"))
    asked = DataQuestion(("time", "columns"), (past,), source(series(tmp_path), window=4))
    assert dimensions_of(None)(asked) == {"time": 4, "columns": 2}


def test_native_code_gathers_windows_that_overlap() -> None:
    text = """
model M {
    input x: f32[batch, 6, 2]
    input tokens: i32[batch, 3] padded by kept
    output y = sum(x, axis = [1, 2]) + sum(tokens, axis = 1, where = kept)
}
"""
    program = driver.load_text(text, str(place().source.name))
    tensors = driver.allocate(program, driver.Options())
    steps, numbers = np.random.default_rng(0).random((80, 2), np.float32), np.arange(80, dtype=np.int32)
    windows = np.lib.stride_tricks.as_strided
    data = {
        "x": windows(steps, (75, 6, 2), (8, 8, 4)),
        "tokens": windows(numbers, (75, 3), (4, 4)),
        "kept": windows(np.array([True, False, True]), (75, 3), (0, 1)),
    }
    dense = {name: array.copy() for name, array in data.items()}
    for target in ("native", "reference"):
        executable = driver.compile_program(program, PREDICTION, driver.Options(target=target, batch=8, threads=2))
        for rows in (np.arange(10), np.array([74, 3, 3, 60]), np.arange(75)):
            for batch in (1, 7, 80):
                found = executable.run(Steps(tensors, data, rows, batch)).arrays["y"]
                assert found.tobytes() == executable.run(Steps(tensors, dense, rows, batch)).arrays["y"].tobytes()
                expected = data["x"][rows].sum(axis=(1, 2)) + (2 * rows + 2)
                np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_forecast_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    series(tmp_path, 60)
    write(
        tmp_path / "m.dl",
        """model M {
    input past: f32[batch, time]
    output ahead = (past |> dense(1))[:, 0]
}

train M {
    data = csv("s.csv", window = 3, columns = "level", target = "level")
    validation = 0.2
    target next: f32[batch]
    loss = mse(ahead / 60, next / 60)
    optimizer = adam(lr = 0.05)
    epochs = 60
    batch = 8
}
""",
    )
    assert main(["train", "m.dl", "--out", "run"]) == 0
    assert dlc.load("run").parameters["ahead.dense.W"].shape == (3, 1)
    capsys.readouterr()
    series(tmp_path, 63)
    assert main(["predict", "run", "--input", "s.csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 61
    assert float(lines[-1].split(": ")[1].rstrip("}")) == pytest.approx(63, abs=3)
