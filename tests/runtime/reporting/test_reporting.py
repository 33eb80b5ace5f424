"""Numbers and tables as people read them."""

from __future__ import annotations

import re

import pytest
from rich.console import Console

from compiler.errors.diagnostics import size
from compiler.frontend.program import Setting
from runtime.reporting import training_text
from runtime.reporting.plan_text import print_plan
from runtime.reporting.training_text import (
    SignsOfLife,
    TextReporter,
    epoch_parts,
    epoch_table,
    print_sights,
    progress_row,
    settings_text,
)
from runtime.reporting.units import amount, duration, measure, value_text
from runtime.train.events import EpochEnded, TrainingProgressed, TrainingStarted
from runtime.train.watching import Sight


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.6, "1 h 00 min"), (float("inf"), "?")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_sizes_and_amounts() -> None:
    assert [size(n) for n in (0, 1023, 1024, 10 * 2**30)] == ["0 B", "1023 B", "1.0 KB", "10.0 GB"]
    assert [amount(n, "FLOP") for n in (999, 1234, 5e9, 7e20)] == [
        "999 FLOP",
        "1.2 kFLOP",
        "5.0 GFLOP",
        "700000.0 PFLOP",
    ]


def test_measures_keep_four_places() -> None:
    assert [measure(x) for x in (0.5, 0.0123456, 1e-5, 12345.6, 0.0, float("nan"))] == [
        *("0.5000", "0.0123", "1e-05", "1.235e+04", "0", "nan")
    ]


def test_values_are_written_as_in_the_language() -> None:
    assert value_text((1, 0.5, True, None, "a")) == '[1, 0.5, true, none, "a"]'


def test_tables_are_as_wide_as_what_they_hold(capsys: pytest.CaptureFixture[str]) -> None:
    path = "encoder." * 30 + "dense"
    print_plan({"model": "M", "layers": [{"path": path, "shape": "f32[batch, 3]", "origin": "a text " * 20}]})
    (row,) = (line for line in capsys.readouterr().out.splitlines() if path in line)
    assert "a text " * 19 in row
    sight = Sight("model.dl:3", path, "parameter", 10, 4, gradient=0.5, ratio=0.1)
    print_sights([sight], 2)
    assert path in capsys.readouterr().err


def test_brackets_in_tables_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_plan({"model": "M", "layers": [{"path": "dense", "shape": "f32[batch, 3]", "flops_step": 1_500}]})
    output = capsys.readouterr().out
    assert "f32[batch, 3]" in output
    assert "1.5 k" in output
    console = Console(markup=False, width=80)
    with console.capture() as capture:
        settings = (Setting("sizes", (1, 2), "command line"), Setting("clip", None, "default"))
        console.print(settings_text(settings, None))
    assert "[1, 2]" in capture.get()
    assert "clip" not in capture.get()


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (120, "epoch 3/10 # loss 0.0933 accuracy 0.9719 rate 2.8e-09 11.7 k samples/s 9.4 s left"),
        (84, "epoch 3/10 loss 0.0933 accuracy 0.9719 rate 2.8e-09 11.7 k/s 9.4 s left"),
        (80, "epoch 3/10 loss 0.0933 accuracy 0.9719 rate 2.8e-09 11.7 k/s 9.4 s left"),
        (70, "epoch 3/10 loss 0.0933 accuracy 0.9719 11.7 k/s 9.4 s left"),
        (55, "epoch 3/10 loss 0.0933 accuracy 0.9719 9.4 s left"),
    ],
)
def test_progress_is_never_cut_off(width: int, text: str) -> None:
    started = TrainingStarted("M", None, 9, {"train": 90}, 9, 10.0, 100, 0, ())
    event = TrainingProgressed(3, 25, {"loss": 0.0933, "accuracy": 0.9719}, 2.8e-9, 11_700.0, 9.4)
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(progress_row(started, event, width))
    (line,) = captured.get().splitlines()
    assert len(line) <= width
    words = ["#" if set(word) <= set("━╸╺ ") else word for word in line.split()]
    assert " ".join(words) == text


METRICS = ("loss", "accuracy", "precision", "recall", "mean_absolute_error")


def started(epochs: float = 20.0, total_steps: int = 2000) -> TrainingStarted:
    return TrainingStarted("M", None, 9, {"train": 90}, 9, epochs, total_steps, 0, ())


def ended(epoch: int, value: float, names: tuple[str, ...] = METRICS) -> EpochEnded:
    scalars = dict.fromkeys(names, value)
    return EpochEnded(epoch, 100 * epoch, scalars, scalars, 1e-3, 11_700.0, 62.0, False)


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_rows_of_epochs_stand_below_their_header(width: int) -> None:
    table = epoch_table(started(), ended(1, 0.5), width)
    *_, header = table.header()
    rows = [table.row(ended(epoch, value)) for epoch, value in ((1, 2.3026), (7, 0.01), (20, 3.2e-7))]
    ends = {match.end() for match in re.finditer(r"\S+", header)}
    for row in rows:
        assert len(row) + len("  best") <= width
        assert {match.end() for match in re.finditer(r"\S+(?: (?:k|min|s|\d+))*", row)} == ends
    names = " ".join(header.split())
    assert names.startswith("epoch loss")
    assert "val_loss" in " ".join(" ".join(line.split()) for line in table.header()) or width < 60


def test_a_narrow_table_says_what_it_leaves_out() -> None:
    assert epoch_table(started(), ended(1, 0.5), 200).left_out == ()
    narrow = epoch_table(started(), ended(1, 0.5), 80)
    kept = {"".join(column.heading) for column in narrow.columns}
    assert {"loss", "val_loss", "val_mean_absolute_error"} <= kept
    assert narrow.left_out == ("mean_absolute_error", "recall", "precision", "accuracy")
    assert narrow.columns[-1].heading == ("val_mean_", "absolute_", "error")


def test_losses_of_updates_have_room_and_their_sum_goes_first() -> None:
    names = ("loss", "critic.loss", "generator.loss", "mean")
    table = epoch_table(started(), ended(1, 0.5, names), 80)
    assert table.left_out == ("loss", "val_loss")
    assert [column.heading for column in table.columns[1:3]] == [("critic.", "loss"), ("generator.", "loss")]
    assert ("val_", "generator.", "loss") in [column.heading for column in table.columns]
    assert epoch_table(started(), ended(1, 0.5, ("loss", "accuracy")), 30).columns[1].heading == ("loss",)


def test_all_values_of_a_column_have_the_same_number_of_digits() -> None:
    table = epoch_table(started(), ended(1, 0.5, ("loss",)), 120)
    for values in ((2.3026, 0.5, 0.01, 123.4567), (0.001234, 3.2e-7, 12345.678)):
        cells = [table.row(ended(1, value, ("loss",))).split()[1] for value in values]
        assert len({len(cell.split(".")[1]) for cell in cells}) == 1, cells


def test_steps_within_an_epoch_are_told_as_steps() -> None:
    part = started(0.8, 80)
    assert epoch_parts(part, ended(1, 0.5))[:2] == ["epoch 1/1", "step 100/80"]
    assert epoch_parts(started(), ended(3, 0.5))[0] == "epoch  3/20"
    assert ["".join(c.heading) for c in epoch_table(part, ended(1, 0.5), 200).columns][:3] == ["epoch", "step", "loss"]


def test_a_pipe_shows_a_sign_of_life_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(training_text.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(training_text.time, "monotonic", lambda: clock[0])
    reporter = TextReporter()
    reporter(started())
    told: list[str] = []
    signs = SignsOfLife(started(), told.append)
    capsys.readouterr()
    for second in range(1, 36):
        clock[0] = float(second)
        event = TrainingProgressed(
            1, 3 * second, {"loss": 0.5}, 1e-3, 11_700.0, 90.0, "validation" if second > 25 else "train"
        )
        reporter(event)
        signs(event)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "epoch  1/20  step 30/2000  loss 0.5000  rate 0.001  11.7 k samples/s  1 min 30 s left",
        "epoch  1/20  step 60/2000  loss 0.5000  rate 0.001  11.7 k samples/s  1 min 30 s left",
        "epoch  1/20  step 90/2000  measuring the validation part",
    ]
    assert told == lines
