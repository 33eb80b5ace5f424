"""`dlc test`: what it prints, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.cli.main import main

RIGHT = "2 * x * dy"
TEXT = """fn square(x) = x ^ 2 gradient(x, y, dy) = {slope}

model M {{
    input x: f32[batch, 3]
    output y = x |> dense(2) |> square
}}
train first: M {{
    target t: f32[batch, 2]
    loss = mse(y, t)
    optimizer = adam()
    batch = 4
}}
train second: M {{
    target t: f32[batch, 2]
    loss = mean_absolute_error(y, t)
    optimizer = adam()
    batch = 4
}}
test squares {{
    near(square(tensor([1.0, 2])), tensor([1.0, {value}]))
}}
test other {{
    1 < 2
}}
"""


@pytest.fixture(autouse=True)
def _in_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DLC_CACHE_DIR", str(code_cache))


def run(slope: str, value: str, *arguments: str) -> int:
    Path("model.dl").write_text(TEXT.format(slope=slope, value=value))
    return main(["test", "model.dl", *arguments])


def test_all_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(RIGHT, "4") == 0
    out, err = capsys.readouterr()
    assert "model.dl: first, derivatives in f64, 4 rows of made-up data" in out
    assert "model.dl: second" in out
    assert "y.dense" in out
    assert err == "derivatives of 2 models checked: no mistakes; 2 tests: passed\n"


def test_a_wrong_derivative_and_a_false_test(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("x * dy", "5", "-e", "first") == 1
    out, err = capsys.readouterr()
    assert "warning[W1001]: the `gradient` of `x` is wrong" in out
    assert "--> model.dl:1:43" in out
    assert "error[E1001]: this does not hold at [1]" in out
    assert err == "derivatives of 1 model checked: 1 with mistakes; 2 tests: 1 failed\n"


def test_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("x * dy", "5", "--json", "--full") == 1
    (file,) = json.loads(capsys.readouterr().out)
    assert file["file"] == "model.dl"
    assert [one["name"] for one in file["derivatives"]] == ["first", "second"]
    checks = {check["layer"]: check for check in file["derivatives"][0]["checks"]}
    assert checks["y.dense"]["right"] is True
    assert checks["y.dense"]["elements"] == 4 * 3 + 3 * 2 + 2
    assert checks[""]["right"] is False
    assert {finding["line"] for finding in file["derivatives"][0]["findings"]} == {1}
    assert [(test["name"], len(test["failures"])) for test in file["tests"]] == [("squares", 1), ("other", 0)]


def test_only_some_tests(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("x * dy", "5", "--only", "o*") == 0
    assert capsys.readouterr().err == "1 test: passed\n"


TIES = """fn biggest(x: [batch, c, n]) = max(x, axis = -1) gradient(x, y, dy) = {slope}
model M {{
    input x: u8[batch, 4, 3]
    h = rearrange(x / 2 |> dense(5), "b n c -> b c n")
    output y = biggest(h) |> dense(2)
}}
train M {{
    data = npz("rows.npz")
    target t: f32[batch, 2]
    loss = mse(y, t)
    optimizer = adam(lr = 0.01)
    epochs = 1
    batch = 4
}}
"""
FIRST = "where(arange(n) == argmax(x, axis = -1)[..., None], dy[..., None], 0)"


@pytest.mark.parametrize(("slope", "code"), [(FIRST, 0), (f"2 * {FIRST}", 1), (f"-{FIRST}", 1)])
def test_every_slope_between_those_on_both_sides_is_right_where_elements_are_equal(
    slope: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in the windows of a pool over the edge of a picture."""
    np.savez("rows.npz", x=np.ones((6, 4, 3), np.uint8), t=np.ones((6, 2), np.float32))
    Path("model.dl").write_text(TIES.format(slope=slope))
    assert main(["test", "model.dl"]) == code
    assert ("warning[W1001]: the `gradient` of `x` is wrong" in capsys.readouterr().out) == bool(code)


def test_rows_of_the_data_are_used_where_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    np.savez("rows.npz", x=np.ones((6, 3), np.float32), t=np.arange(12, dtype=np.float32).reshape(6, 2))
    assert run(RIGHT, "4", "-e", "first", "--data", "rows.npz", "--batch", "2") == 0
    assert "2 rows of the data" in capsys.readouterr().out
    assert run(RIGHT, "4", "--data", "missing.csv") == 1
    assert "missing.csv" in capsys.readouterr().err
