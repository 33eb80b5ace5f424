"""Numbers and tables as people read them."""

from __future__ import annotations

import pytest
from rich.console import Console

from compiler.diagnostics import size
from compiler.frontend.program import Setting
from runtime.reporting.events import TrainingProgressed, TrainingStarted
from runtime.reporting.plan_text import print_plan
from runtime.reporting.settings import value_text
from runtime.reporting.training_text import progress_row, settings_table
from runtime.reporting.units import amount, duration, measure
from runtime.reporting.watch_text import print_sights
from runtime.watching import Sight


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
        console.print(settings_table((Setting("sizes", (1, 2), "command line"), Setting("clip", None, "default"))))
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
