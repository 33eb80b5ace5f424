"""`dlc plot` and `dlc report`: what is drawn is what was trained, and the page needs nothing but itself."""

from __future__ import annotations

import errno
import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from killing import write_project
from view_pages import data_in

from compiler import driver
from compiler.driver import Options
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from runtime.analysis.evaluation_data import evaluation_data
from runtime.analysis.examined.examination import confusion
from runtime.analysis.examined.measures import Confusion
from runtime.cli.main import main
from runtime.inference.model import length_of, runtime_settings, training_of
from runtime.plots.runs import confusion_figure, curves_figure, filters_figure, gradient_flow
from runtime.reporting.charts import line_chart, powers, round_ticks
from runtime.reporting.elements import scalar_heading
from runtime.reporting.units import heading
from runtime.runs.directory import create_run, open_run
from runtime.runs.listing import curves_of, epochs_of
from runtime.runs.trained import open_trained_run
from runtime.support.shares import share


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("project")
    write_project(folder, epochs=4)
    before = Path.cwd()
    os.chdir(folder)
    assert main(["train", "model.dl", "--out", "run", "--json"]) == 0
    yield folder / "run"
    os.chdir(before)


def test_curves_have_a_line_for_training_and_one_for_validation(run: Path) -> None:
    epochs = epochs_of(open_run(run))
    curves = curves_of(epochs)
    assert list(curves) == ["loss", "accuracy", "rate"]
    assert curves["loss"]["validation"] == [(n, epoch["val_loss"]) for n, epoch in enumerate(epochs, 1)]
    assert len(curves["rate"]["training"]) == 4


def test_a_confusion_matrix_counts_every_row_once(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = open_trained_run(run, False, (), Options())
    chosen = evaluation_data(trained, None, None)
    found = confusion(trained, chosen.part)
    assert found.counts.sum() == len(chosen.part.rows) == 100
    known = chosen.part.arrays["kind"][chosen.part.rows]
    assert found.counts.sum(axis=1).tolist() == np.bincount(known, minlength=3).tolist()
    capsys.readouterr()
    assert main(["eval", str(run), "--json"]) == 0
    assert found.accuracy == pytest.approx(json.loads(capsys.readouterr().out)["accuracy"])


def test_gradient_flow_has_each_trained_parameter(run: Path) -> None:
    trained = open_trained_run(run, False, (), Options())
    part = evaluation_data(trained, None, "train").part
    flow = gradient_flow(trained, part)
    assert list(flow) == ["h.dense.W", "h.dense.b", "h.batch_norm.gamma", "h.batch_norm.beta", "logits.dense.W",
                          "logits.dense.b"]  # fmt: skip
    assert all(size > 0 for path, size in flow.items() if path != "h.dense.b")
    # The batch norm behind it takes a shift away.
    assert flow["h.dense.b"] < 1e-6


def test_the_size_of_a_gradient_is_that_of_finite_differences(run: Path) -> None:
    trained = open_trained_run(run, False, (), Options())
    part = evaluation_data(trained, None, "train").part
    part = replace(part, rows=part.rows[:8])
    found = gradient_flow(trained, part)["logits.dense.b"]
    start = {name: trained.tensors[name].copy() for name in trained.tensors.names()}
    step = driver.compile_program(trained.program, TRAINING, replace(trained.options, batch=8))
    settings = runtime_settings(trained.program, length_of(training_of(trained.program), 400))

    def loss(element: int, distance: float) -> float:
        for name, values in start.items():
            trained.tensors.write(name, values)
        trained.tensors.write(
            "logits.dense.b", start["logits.dense.b"] + distance * np.eye(3, dtype=np.float32)[element]
        )
        return float(step.run(Steps(trained.tensors, part.arrays, part.rows, 8, 0, 0, settings)).scalars["loss"][0])

    slopes = [(loss(element, 0.01) - loss(element, -0.01)) / 0.02 for element in range(3)]
    assert found == pytest.approx(np.sqrt(np.mean(np.square(slopes))), rel=1e-3)


def test_all_plots_that_there_are(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["plot", str(run), "--what", "all"]) == 0
    errors = capsys.readouterr().err
    assert "note: no plot of filters: the model has no convolution over images" in errors
    drawn = {path.stem: path.read_text() for path in (run / "plots").iterdir()}
    assert sorted(drawn) == ["activations", "confusion", "curves", "gradients", "weights"]
    for text in drawn.values():
        ElementTree.fromstring(text)
    assert "accuracy</text>" in drawn["curves"]
    assert "predicted kind</text>" in drawn["confusion"]
    assert "logits.dense.W [24, 3]" in drawn["weights"]
    assert "h.batch_norm.gamma</text>" in drawn["gradients"]
    assert "logits.dense [" in drawn["activations"]


def test_one_plot_goes_to_a_file_and_several_to_a_folder(run: Path, tmp_path: Path) -> None:
    assert main(["plot", str(run), "--out", str(tmp_path / "curves.png")]) == 0
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert main(["plot", str(run), "--what", "curves,weights", "--out", str(tmp_path / "many")]) == 0
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == ["curves.svg", "weights.svg"]


def test_filters_of_the_first_convolution() -> None:
    draw = np.random.default_rng(0)
    grey = {"conv.W": draw.normal(size=(3, 3, 1, 8)), "later.W": draw.normal(size=(3, 3, 8, 4))}
    assert len(filters_figure(grey).axes) == 8
    many = filters_figure({"a.b": np.zeros(3), "conv.W": draw.normal(size=(5, 5, 3, 80))})
    assert len(many.axes) == 64
    shown = many.axes[0].images[0].get_array()
    assert shown is not None
    assert shown.shape == (5, 5, 3)
    assert "64 of 80 filters of 5 × 5" in many.get_suptitle()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["plot", "{run}", "--what", "curve"], 2, "hint: did you mean `curves`?"),
        (["plot", "{run}", "--what", "filters"], 2, "the model has no convolution over images"),
        (["plot", "{run}", "--what", "curves,weights", "--out", "x.svg"], 2, "2 plots do not fit in x.svg"),
        (["plot", "{run}x"], 1, "there is no such run"),
        (["plot", "{run}", "--out", "x.gif"], 2, "the format of x.gif is not known"),
        (["report", "{run}x"], 1, "there is no such run"),
        (["report", "{run}", "--out", "nowhere/x.html"], 2, "nowhere/x.html: there is no folder nowhere"),
        (["report", "{run}", "--out", "."], 2, ".: this is a folder"),
    ],
)
def test_mistakes_have_a_hint(
    run: Path, arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([word.replace("{run}", str(run)) for word in arguments]) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("command", "file"), [("report", "report.html"), ("plot", "curves.svg")])
def test_a_full_disk_is_no_misuse(
    command: str, file: str, monkeypatch: pytest.MonkeyPatch, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*arguments: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert main([command, str(run)]) == 1
    errors = capsys.readouterr().err
    assert f"{file}: the disk is full" in errors
    assert "hint: free some space" in errors


def test_a_read_only_file_system_is_told_of_the_file_itself(
    monkeypatch: pytest.MonkeyPatch, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(path: Path, *arguments: Any, **named: Any) -> Any:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    with monkeypatch.context() as patch:
        patch.setattr("runtime.support.files.write_bytes", refuse)
        patch.setattr(Path, "unlink", refuse)
        assert main(["report", str(run)]) == 1
    assert "run/report.html: the file system is read-only" in capsys.readouterr().err


def test_long_names_of_classes_leave_room_for_the_matrix() -> None:
    found = Confusion("kind", "logits", ("a" * 100_000, "b"), np.array([[0, 0, 3], [1, 0, 1]]))
    figure = confusion_figure(found)
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["a" * 30 + "…", "b"]


def test_a_run_without_epochs_has_no_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_run("x", tmp_path / "run", ()).close()
    assert main(["plot", str(tmp_path / "run")]) == 2
    assert "the run has no epochs yet" in capsys.readouterr().err


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    """The text of a report, and the data in it."""
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert main(["report", str(run), "--out", str(out)]) == 0
    text = out.read_text()
    return text, data_in(text, "document")


def test_a_report_needs_nothing_but_itself(report: tuple[str, Any]) -> None:
    text, _ = report
    assert "Content-Security-Policy\" content=\"default-src 'none'" in text
    before_script = text[: text.index('<script type="application/json"')] if "application/json" in text else text
    assert not re.search(r"(?:src|href)=|url\((?!#)|@import|<script[^>]+src", before_script)
    assert len(text) < 400_000


def test_a_report_has_what_the_run_and_its_model_are(run: Path, report: tuple[str, Any]) -> None:
    _, document = report
    found = document["report"]
    (shown,) = found["runs"]
    assert list(shown["curves"]) == ["loss", "accuracy", "rate"]
    assert sum(len(lines) for lines in shown["curves"].values()) == 5, "two lines each for loss and accuracy"
    values = {epoch["epoch"]: epoch["val_loss"] for epoch in epochs_of(open_run(run))}
    assert dict(map(tuple, shown["curves"]["loss"]["validation"])) == values
    assert {name for name, _, _ in found["result"]} >= {"accuracy, validation", "state", "time", "best epoch"}
    assert len(found["weights"]) == 8
    assert ["optimizer.lr", "0.01", "train"] in found["settings"]
    plan = next(table["rows"] for table in found["tables"] if table["title"] == "plan")
    assert [name for name, _ in plan][-2:] == ["FLOPs forward", "FLOPs of a step"]
    assert sum(sum(row) for row in found["evaluation"]["classes"][0]["matrix"]) == 100
    assert "input x: f32[batch, 4]" in document["sources"][0]["text"]
    assert document["kernels"]
    assert document["graph"]["parts"]


def test_a_report_of_two_runs_has_the_curves_of_both_and_what_differs(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert main(["train", "model.dl", "--out", str(other), "--epochs", "2", "--set", "optimizer.lr=0.5", "--json"]) == 0
    assert main(["report", str(run), str(other), "--out", str(tmp_path / "both.html")]) == 0
    found = data_in((tmp_path / "both.html").read_text(), "document")["report"]
    assert [one["name"] for one in found["runs"]] == ["run", "other"]
    assert [len(one["curves"]["loss"]["training"]) for one in found["runs"]] == [4, 2]
    assert ["optimizer.lr", "0.01", "0.5"] in found["different"]
    assert main(["report", str(run), str(tmp_path / "none")]) == 1


def test_ticks_are_round_and_within_the_range() -> None:
    assert round_ticks(0.0, 1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert round_ticks(0.013, 0.094) == pytest.approx([0.02, 0.04, 0.06, 0.08])
    assert round_ticks(3.0, 3.0) == [3.0]
    assert len(round_ticks(1, 30)) <= 7


def test_a_chart_of_one_point_or_none_is_still_a_drawing() -> None:
    for points in ([], [(1, 0.5)], [(1, float("nan")), (2, 1.0)]):
        ElementTree.fromstring(line_chart("a < b", {"x": points}, "epoch", 1))


def test_a_loss_that_fell_far_stands_on_a_logarithmic_axis() -> None:
    def places(values: list[float]) -> list[float]:
        drawn = line_chart("loss", {"train": [(float(x), y) for x, y in enumerate(values)]}, "epoch")
        assert ("loss, logarithmic" in drawn) == (max(values) / min(values) > 20)
        (points,) = re.findall(r'polyline points="([^"]+)"', drawn)
        return [float(point.split(",")[1]) for point in points.split()]

    one, two, three = places([1.0, 0.1, 0.01])
    assert two - one == pytest.approx(three - two, abs=0.2)
    one, two, three = places([1.0, 0.9, 0.8])
    assert two - one == pytest.approx(three - two, abs=0.2)
    assert powers(0.01, 1.0) == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])
    assert len(powers(1e-12, 1.0)) <= 8


def test_a_plot_has_a_logarithmic_axis_where_a_report_has_one() -> None:
    losses = [1.0, 0.1, 0.01]
    epochs = [{"epoch": n, "loss": loss, "accuracy": 1 - loss} for n, loss in enumerate(losses, 1)]
    scales = [(axes.get_ylabel(), axes.get_yscale()) for axes in curves_figure(epochs).axes]
    assert scales == [("loss, logarithmic", "log"), ("accuracy", "linear")]


def test_keys_of_a_report_are_words_for_people() -> None:
    assert [heading(name) for name in ("flops_forward", "flops_step", "peak_bytes", "optimizer_state")] == [
        *("FLOPs forward", "FLOPs of a step", "peak", "optimizer state")
    ]
    headings = [scalar_heading(name) for name in ("val_macro_f1", "test_r2", "loss")]
    assert headings == ["macro F1, validation", "R², test", "loss, training"]


def test_a_share_is_none_or_all_only_where_it_is() -> None:
    assert [share(part) for part in (0.0, 1e-6, 0.125, 0.9999, 1.0)] == ["0.0%", "<0.1%", "12.5%", ">99.9%", "100.0%"]
