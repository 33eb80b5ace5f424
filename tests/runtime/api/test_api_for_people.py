"""What the Python API shows to people: models and results in a line, progress, errors at the caller's line."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rings import POINTS, RINGS

import dlc


def test_models_and_results_say_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    model = dlc.loads(RINGS, target="reference")
    assert repr(model) == ("Model(Rings: point f32[batch, 2] -> logits f32[batch, 2]; 22 parameters, as at the start)")
    result = model.train(POINTS)
    assert repr(model).endswith("22 parameters, trained)")
    assert re.fullmatch(
        r"TrainingResult\(finished after 6 steps, 2 epochs, best epoch \d: loss [\d.]+, accuracy [\d.]+\)", repr(result)
    )
    assert "W: f32[2, 4], " in repr(model.parameters)
    assert repr(dlc.function("fn twice(n = 2)(x) = n * x", "twice", n=3)) == "Function(twice(n = 3))"
    assert capsys.readouterr().err == ""


def test_progress_is_shown_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[object] = []
    dlc.loads(RINGS, target="reference").train(POINTS, progress=True, observer=seen.append)
    error = capsys.readouterr().err
    assert "epoch 1/2  loss " in error
    assert "finished after 6 steps, 2 epochs" in error
    assert any(isinstance(event, dlc.EpochEnded) for event in seen)


def test_only_what_is_public_is_listed() -> None:
    assert dir(dlc) == sorted(dlc.__all__)


def test_errors_end_at_the_callers_line_and_hold_the_hint() -> None:
    model = dlc.loads(RINGS, target="reference")
    calls: list[Callable[[], object]] = [
        lambda: dlc.load("missing.dl"),
        lambda: dlc.loads("model M {"),
        lambda: dlc.loads(RINGS, hiden=3),
        lambda: dlc.function("fn f(x) = x", "g"),
        lambda: dlc.function("fn f(x: [n], y: [n]) = x + y", "f")(np.zeros(2), np.zeros(3)),
        lambda: model.train({"point": POINTS["point"]}),
        lambda: model.train(POINTS, learning_rate=1),
        lambda: model.predict({"points": POINTS["point"]}),
        lambda: model.parameters.__setitem__("dense.X", 1.0),
    ]
    for call in calls:
        with pytest.raises(dlc.DlcError) as caught:
            call()
        files = [Path(frame.filename).name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert files[-1] == "caller.py", files
        assert set(files) <= {"test_api_for_people.py", "caller.py"}
        shown = "".join(traceback.format_exception(caught.value))
        assert "hint: " in shown, shown
        assert "command line" not in shown
        assert "During handling" not in shown
