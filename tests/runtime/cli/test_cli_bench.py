"""`dlc bench`: what it reports, and that the figures fit one another."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import small_driver

from runtime.cli.main import main

KEYS = [
    *("model", "mode", "batch", "threads", "precision", "machine", "processor", "cpu", "tuning", "parameters"),
    *("median_ms", "p10_ms", "p90_ms", "steps"),
    *("compile_s", "first_s", "peak_rss_mb", "flops", "gflops", "device", "device_mb"),
]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small_driver.install(monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("model.dl").write_text("batch = 8\n")


@pytest.mark.parametrize(
    ("arguments", "batch"),
    [
        (["--mode", "train"], 8),
        (["--mode", "train", "--batch", "5"], 5),
        (["--mode", "infer"], 1),
        (["--mode", "infer", "--batch", "32"], 32),
    ],
)
def test_report(arguments: list[str], batch: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "model.dl", *arguments, "--threads", "1", "--seconds", "0.05", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert list(report) == KEYS
    assert (report["model"], report["mode"], report["batch"], report["threads"]) == ("Small", arguments[1], batch, 1)
    assert report["parameters"] == 8
    assert 0 < report["p10_ms"] <= report["median_ms"] <= report["p90_ms"]
    assert report["steps"] >= 10
    assert 0 < report["compile_s"] < report["first_s"]
    assert report["gflops"] == pytest.approx(report["flops"] / report["median_ms"] / 1e6, rel=1e-4)
    assert 10 < report["peak_rss_mb"] < 4000


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "model.dl", "--seconds", "0.05"]) == 0
    said = capsys.readouterr().out
    assert "time of a step" in said
    assert re.search(r"^computes in +f32$", said, re.MULTILINE)
