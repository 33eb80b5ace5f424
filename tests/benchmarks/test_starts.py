"""The starts that are measured: every example, and a table of their figures."""

from __future__ import annotations

from pathlib import Path

from repository import ROOT

from compiler import driver
from jobs import Job, Outcome
from measurement import Measurement
from starts import COLD, LONG, STAGES, WARM, as_markdown, sources


def test_every_example_has_a_start(tmp_path: Path) -> None:
    found = sources(tmp_path)
    files = {source.file for source in found.values()}
    assert {*(ROOT / "examples").glob("*/*.dl"), *(ROOT / "benchmarks/zoo").glob("*.dl")} <= files
    assert found["dates"].experiment == "additive"
    assert found["perceptron/newton"].experiment == "Logistic"
    assert driver.check(found[LONG].file) == ()


def test_the_table_has_a_row_for_each_model() -> None:
    measured = [
        Measurement("train", Job("dlc", "train", "iris", 0, 2, 0.0), variant, [Outcome(figures, 0.0)])
        for variant, figures in ((COLD, {"first_s": 1.5}), (WARM, {"first_s": 0.25}), (STAGES, {"kernels": 7.0}))
    ]
    facts = {"date": "2026-01-01", "commit": "abc", "processor": "AMD EPYC"}
    records = [measurement.as_json({}) for measurement in measured]
    table = as_markdown({"machine": facts, "plan": {"threads": 2}, "measurements": records})
    assert table.splitlines()[0] == "2026-01-01, commit abc, AMD EPYC, 2 threads."
    assert table.splitlines()[-1] == "| iris | 1.50 | — | — | 0.25 | — | — | — | — | — | — | — | — | 7 |"
