"""Two runs line by line: texts aligned, settings, metrics, weights, and the values of the same row."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import ROOT
from view_pages import browser, data_in, opened

from compiler.interface import Options
from runtime.cli.main import main
from runtime.view.comparison import AlignedLine, Side, aligned, comparison_to_json, side_of, sides_of
from runtime.view.viewed import viewed_run

NAMES = "dense.W", "dense.b", "dense_2.W", "dense_2.b"
VALUE = "value", "logits"
DIGITS = ROOT / "examples" / "digits"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two runs of one text with different rates, and one of another text with fewer units."""
    folder = tmp_path_factory.mktemp("runs")
    shutil.copy(DIGITS / "digits.csv.gz", folder)
    text = (DIGITS / "model.dl").read_text("utf-8")
    changed = text.replace("hidden = 128", "hidden = 96").replace("train Digits", "# other\ntrain Digits")
    (folder / "other.dl").write_text(changed)
    for name, file, more in (
        ("first", DIGITS / "model.dl", []),
        ("second", DIGITS / "model.dl", ["--set", "optimizer.lr=0.01"]),
        ("third", folder / "other.dl", []),
    ):
        command = ["train", str(file), "--epochs", "1", "--threads", "1", "--out", str(folder / name), *more]
        assert main(command) == 0
    return folder / "first", folder / "second", folder / "third"


def side(folder: Path) -> Side:
    return side_of(viewed_run(folder, Options(threads=1), ()))


def of_line(found: Any, text: str) -> list[Any]:
    return next(line["differences"] for line in found["lines"] if line["first"] and text in line["text"])


def test_runs_of_one_text_differ_in_a_setting_the_metrics_weights_and_values(runs: tuple[Path, Path, Path]):
    first, second = side(runs[0]), side(runs[1])
    found: Any = json.loads(json.dumps(comparison_to_json(first, second, 3), allow_nan=False))
    assert found["parts"] == []
    assert found["same_row"]
    assert all(line["first"] == line["second"] for line in found["lines"])
    assert found["settings"] == [["optimizer.lr", 0.003, 0.01]]
    assert {"kind": "setting", "name": "optimizer.lr", "pair": [0.003, 0.01]} in of_line(found, "optimizer =")
    assert {one["name"] for one in of_line(found, "loss =") if one["kind"] == "metric"} >= {"loss", "test_loss"}
    differences = {(one["kind"], one["name"]): one for one in of_line(found, "output logits")}
    weight = differences["parameter", "logits.dense.W"]
    one, other = (each.watching.weights()["logits.dense.W"].astype(np.float64) for each in (first, second))
    assert weight["relative"] == pytest.approx(np.linalg.norm(one - other) / np.linalg.norm(one))
    assert weight["largest"] == pytest.approx(np.abs(one - other).max())
    one, other = ({n.name: a for n, a in each.watching.values(3).items()}["logits"] for each in (first, second))
    assert differences["value", "logits"]["relative"] == pytest.approx(
        np.linalg.norm(one - other) / np.linalg.norm(one), rel=1e-5
    )
    assert [one["relative"] for one in of_line(found, "input pixels")] == [0]


def test_a_run_does_not_differ_from_itself(runs: tuple[Path, Path, Path]):
    found: Any = comparison_to_json(side(runs[0]), side(runs[0]), 0)
    every = [one for line in found["lines"] for one in line["differences"]]
    assert found["settings"] == found["metrics"] == []
    assert len(every) > 8
    assert all(one["relative"] == one["largest"] == one["changed"] == 0 for one in every)


def test_a_setting_of_both_command_lines_stands_at_the_line_that_it_replaces(
    runs: tuple[Path, Path, Path], tmp_path: Path
):
    more = ["--epochs", "2", "--threads", "1", "--out", str(tmp_path / "longer")]
    assert main(["train", str(DIGITS / "model.dl"), *more]) == 0
    found: Any = comparison_to_json(side(runs[0]), side(tmp_path / "longer"), 0)
    assert of_line(found, "epochs =") == [{"kind": "setting", "name": "epochs", "pair": [1, 2]}]
    told = [one["name"] for line in found["lines"] for one in line["differences"] if one["kind"] == "setting"]
    assert sorted(told) == sorted(name for name, *_ in found["settings"])


def test_a_run_of_another_seed_is_given_the_rows_of_the_first(runs: tuple[Path, Path, Path], tmp_path: Path):
    more = ["--epochs", "1", "--threads", "1", "--set", "seed=5", "--out", str(tmp_path / "other")]
    assert main(["train", str(DIGITS / "model.dl"), *more]) == 0
    one, other = (viewed_run(folder, Options(threads=1), ()) for folder in (runs[0], tmp_path / "other"))
    first, second = sides_of(replace(one, other=other))
    own = side(tmp_path / "other").watching
    assert not np.array_equal(own.examples.part.rows, first.watching.examples.part.rows)
    found: Any = comparison_to_json(first, second, 3)
    assert found["same_row"]
    assert [one["relative"] for one in of_line(found, "input pixels")] == [0]
    assert "with the rows of first" in found["said"][1]
    value = next(one for one in of_line(found, "output logits") if (one["kind"], one["name"]) == VALUE)
    digit = first.watching.row(3)["pixels"].astype(np.float64) / 16
    w, b, w2, b2 = (array.astype(np.float64) for array in (own.weights()[f"logits.{name}"] for name in NAMES))
    mine = {n.name: a for n, a in first.watching.values(3).items()}["logits"].astype(np.float64)
    logits = np.maximum(digit @ w + b, 0) @ w2 + b2
    assert value["relative"] == pytest.approx(np.linalg.norm(mine - logits) / np.linalg.norm(mine), rel=1e-4)


def test_texts_that_differ_are_aligned(runs: tuple[Path, Path, Path]):
    found: Any = comparison_to_json(side(runs[0]), side(runs[2]), 0)
    assert found["parts"] == ["program"]
    assert {"kind": "setting", "name": "hidden", "pair": [128, 96]} in of_line(found, "model Digits")
    last = found["lines"][-1]
    assert last["second"] == last["first"] + 1
    assert [line["text"] for line in found["lines"] if not line["first"]][1] == "# other"
    differences = {one["name"]: one for one in of_line(found, "output logits") if one["kind"] == "parameter"}
    assert differences["logits.dense.W"]["shapes"] == [[64, 128], [64, 96]]
    assert differences["logits.dense_2.b"]["relative"] > 0


def test_lines_are_aligned_by_file():
    rows, pairs = aligned({"a.dl": ["x", "y", "z"], "part.dl": ["p"]}, {"b.dl": ["x", "w", "z", "v"], "part.dl": ["p"]})
    assert rows == [
        AlignedLine("a.dl", 1, 1, "x"),
        AlignedLine("a.dl", 2, 0, "y"),
        AlignedLine("a.dl", 0, 2, "w"),
        AlignedLine("a.dl", 3, 3, "z"),
        AlignedLine("a.dl", 0, 4, "v"),
        AlignedLine("part.dl", 1, 1, "p"),
    ]
    assert pairs["a.dl", 2] == ("b.dl", 2)
    assert ("a.dl", 4) not in pairs


def test_a_browser_shows_the_comparison(runs: tuple[Path, Path, Path], tmp_path: Path):
    out = tmp_path / "page.html"
    assert main(["view", str(runs[0]), str(runs[2]), "--html", str(out)]) == 0
    assert data_in(out.read_text("utf-8"), "document")["comparison"]["runs"] == ["first", "third"]
    with browser() as running, opened(running, out.as_uri()) as tab:
        tab.keyboard.press("c")
        tab.locator(".compared .gone", has_text="hidden = 128").wait_for()
        assert "hidden 128 → 96" in tab.inner_text(".compared")
        assert "loss, test" in tab.inner_text(".compare")
        assert "test_loss" not in tab.inner_text(".compare")
        assert tab.locator(".difference", has_text="other shapes").count() == 2
        tab.locator(".compared .t", has_text="loss = cross_entropy").click()
        assert "loss =" in tab.inner_text(".row.chosen")


def test_only_runs_are_compared(runs: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]):
    assert main(["view", str(DIGITS / "model.dl"), str(runs[0])]) == 2
    assert main(["view", str(runs[0]), str(DIGITS / "model.dl"), "--html", "never.html"]) == 2
    assert "is no run" in capsys.readouterr().err
