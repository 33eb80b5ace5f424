"""An optimizer without a setting `lr` trains; what changes a rate is refused beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.cli.main import main

TEXT = """
optimizer still()(p, g, t) {{ p - 0.5 * g }}
optimizer sinking()(p, g, t) {{
    state m = zeros
    m = 0.5 * m + g
    p - 0.1 * m
}}

model M {{
    input x: f32[batch, 2]
    output y = x |> dense(1)
}}

train M {{
    data = csv("d.csv")
    target t: f32[batch, 1]
    loss = mse(y, t)
    optimizer = {optimizer}
    {more}
    epochs = 3
    batch = 2
}}
"""


def written(folder: Path, optimizer: str, more: str = "") -> str:
    (folder / "d.csv").write_text("x0,x1,t\n1,2,3\n2,1,3\n0,1,1\n1,0,1\n")
    path = folder / "model.dl"
    path.write_text(TEXT.format(optimizer=optimizer, more=more))
    return str(path)


@pytest.mark.parametrize("target", ["native", "reference"])
@pytest.mark.parametrize(
    "optimizer",
    ["still()", "sinking()", '[still(on = "*.W"), sinking()]', '[still(on = "*.b"), gradient_descent(lr = 0.1)]'],
)
def test_it_trains(optimizer: str, target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, optimizer)
    assert main(["check", path]) == 0
    assert main(["train", path, "--out", str(tmp_path / "run"), "--json", "--target", target]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    rates = [event["rate"] for event in events if "rate" in event]
    assert rates
    assert all(rate is None for rate in rates) or "gradient" in optimizer


def test_a_schedule_acts_on_those_that_have_a_rate(tmp_path: Path) -> None:
    path = written(tmp_path, '[still(on = "*.b"), gradient_descent(lr = 0.1)]', "schedule = linear(T = 10)")
    assert main(["train", path, "--out", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("more", ["schedule = linear(T = 10)", "plateau = reduce()"])
def test_what_changes_a_rate_is_refused(more: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", written(tmp_path, "still()", more)]) == 1
    printed = capsys.readouterr()
    text = " ".join((printed.err + printed.out).split())
    assert "changes the setting `lr` of an optimizer, which `still` does not have" in text


def test_there_is_no_rate_to_look_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, "still()")
    for arguments in (["lr", path], ["lr", path, "--schedule"]):
        assert main(arguments) == 2
        assert "no optimizer of M has a setting `lr`" in capsys.readouterr().err
