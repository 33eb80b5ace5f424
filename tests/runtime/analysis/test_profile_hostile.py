"""What others give a profile: saved profiles, names, places and kept peaks are checked before they are believed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from compiler.errors.diagnostics import UsageError
from compiler.interface import Options
from compiler.targets.registry import kernel_target_of
from compiler.targets.target import Peaks
from runtime.analysis.profile import difference, saved_profile
from runtime.cli.main import main
from runtime.reporting.profile_text import difference_text

LINE = {"file": "a.dl", "line": 1, "text": "y = x", "forward_ms": 1.0, "backward_ms": 0.0, "update_ms": 0.0}


def saved(**other: Any) -> dict[str, Any]:
    return {"step_ms": 1.0, "threads": 1, "lines": [LINE], "kernels": [], "layers": [], "ops": [], **other}


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        b"\xff\xfe\x00".decode("latin-1"),
        json.dumps(saved(settings=["hidden"])),
        json.dumps(saved(lines=[{**LINE, "forward_ms": float("inf")}])),
        json.dumps(saved(lines=[{**LINE, "forward_ms": float("nan")}])),
        json.dumps(saved(lines=[{**LINE, "forward_ms": -1.0}])),
        json.dumps(saved(ops=[{"name": "add", "ms": 10**400}])),
        json.dumps(saved(ops=[{"name": "add", "ms": "1"}])),
    ],
)
def test_a_saved_profile_that_is_none_is_refused(text: str, tmp_path: Path) -> None:
    place = tmp_path / "before.json"
    place.write_text(text)
    with pytest.raises(UsageError, match=r"is not JSON text|holds no profile"):
        saved_profile(place)


def test_many_rows_of_one_text_are_compared_at_once() -> None:
    many = saved(lines=[LINE] * 30_000)
    start = time.process_time()
    assert len(difference(many, saved(), "line")["rows"]) == 30_000
    assert time.process_time() - start < 20  # looking for a free number from 0 on takes minutes


def test_control_characters_of_a_saved_profile_do_not_reach_the_terminal() -> None:
    before = saved(lines=[{**LINE, "text": "y\x1b]0;title\x07\n"}], model="M\x1b[31m", settings={"h\x1b": 1})
    shown = difference_text(difference(before, saved(), "line"), "line", 20, 80)
    assert all(row.isprintable() for row in shown.split("\n"))
    assert "title" in shown


@pytest.mark.parametrize("option", ["--trace", "--plot"])
def test_a_place_that_cannot_be_written_is_told_first(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = ".json" if option == "--trace" else ".svg"
    (tmp_path / f"folder{ending}").mkdir()
    for place, said in ((f"folder{ending}", "is a folder"), (f"none/out{ending}", "there is no folder")):
        assert main(["profile", "none.dl", option, str(tmp_path / place)]) == 2
        assert said in capsys.readouterr().err


def test_peaks_are_of_no_more_threads_than_there_are_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[int] = []

    def measured(_target: object, _options: object, threads: int, *_: object) -> Peaks:
        asked.append(threads)
        return Peaks(threads, 100.0 * threads, ((8192, 50.0),), "2026-01-01")

    monkeypatch.setattr("compiler.profiling.step.usable_cores", lambda: 2)
    monkeypatch.setattr(type(kernel_target_of(Options())), "peaks", measured)
    model = tmp_path / "model.dl"
    model.write_text("model M {\n    input x: f32[batch, 4]\n    output y = x |> dense(3)\n}\n")
    assert main(["profile", str(model), "--mode", "infer", "--threads", "3", "--seconds", "0.1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (asked, found["threads"], found["peak_gflops"]) == ([1, 2], 3, 200.0)
