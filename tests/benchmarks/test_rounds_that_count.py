"""Which rounds of a benchmark count: those at full speed, without others on the machine."""

from __future__ import annotations

import json
from typing import Any

import pytest

from jobs import Job, Outcome
from measurement import Measurement, from_json, full_speeds
from pooling import pooled
from report import as_markdown

JOB = Job("dlc", "train", "mlp", 128, 2, 1.0)


def outcome(milliseconds: float, before: float = 200.0, after: float = 200.0, others: float = 0.0) -> Outcome:
    figures = {"median_ms": milliseconds, "p10_ms": milliseconds - 1, "p90_ms": milliseconds + 1}
    return Outcome(figures, others, speeds=(before, after))


def measured(*outcomes: Outcome, job: Job = JOB) -> Measurement:
    return Measurement("train", job, "", list(outcomes))


def run_of(*measurements: Measurement, commit: str = "abc", kind: str = "AMD EPYC Zen 3, AVX2") -> dict[str, Any]:
    """What `run.py` writes, as it is read again."""
    machine = {
        "date": "2026-01-01",
        "commit": commit,
        "kind": kind,
        "processor": "AMD EPYC",
        "versions": {"numpy": "2"},
    }
    full = full_speeds(measurements)
    records = [measurement.as_json(full) for measurement in measurements]
    return json.loads(json.dumps({"machine": machine, "plan": {"threads": 2, "seconds": 1.0}, "measurements": records}))


@pytest.mark.parametrize("speeds", [(100.0, 200.0), (200.0, 100.0), (179.0, 200.0)])
def test_a_round_beside_a_slow_probe_is_left_out(speeds: tuple[float, float]) -> None:
    found = measured(outcome(5.0), outcome(9.0, *speeds), outcome(9.0, *speeds))
    full = full_speeds([found])
    assert full == {2: 200.0}
    assert found.figure("median_ms", full) == 5.0
    assert found.figure("p10_ms", full) == 4.0
    assert not found.is_slow(full)


def test_nine_tenths_of_the_best_rate_are_full_speed() -> None:
    found = measured(outcome(5.0), outcome(7.0, 180.0, 190.0))
    assert found.figure("median_ms", full_speeds([found])) == 6.0


def test_slow_rounds_count_where_there_are_no_others_and_are_marked() -> None:
    fast, slow = measured(outcome(5.0)), measured(outcome(8.0, 100.0), outcome(10.0, 100.0))
    full = full_speeds([fast, slow])
    assert slow.figure("median_ms", full) == 9.0
    assert slow.is_slow(full)
    text = as_markdown(pooled([run_of(fast), run_of(measured(outcome(8.0, 100.0), job=Job("jax", *_rest())))]))
    assert "8.00↓ (7.00–9.00)" in text
    assert "5.00 (4.00–6.00)" in text


def _rest() -> tuple[str, str, int, int, float]:
    return JOB.mode, JOB.model, JOB.batch, JOB.threads, JOB.seconds


def test_the_best_rate_is_one_for_each_number_of_threads() -> None:
    single = measured(outcome(5.0, 100.0, 100.0), job=Job("dlc", "train", "mlp", 128, 1, 1.0))
    full = full_speeds([single, measured(outcome(3.0))])
    assert full == {1: 100.0, 2: 200.0}
    assert not single.is_slow(full)


def test_of_the_rounds_at_full_speed_the_quiet_ones_count() -> None:
    found = measured(outcome(5.0), outcome(7.0, others=0.2), outcome(9.0, 100.0))
    full = full_speeds([found])
    assert found.figure("median_ms", full) == 5.0
    assert not found.is_disturbed(full)
    noisy = measured(outcome(7.0, others=0.2), outcome(9.0, 100.0))
    assert noisy.figure("median_ms", full) == 7.0
    assert (noisy.is_disturbed(full), noisy.is_slow(full)) == (True, False)


def test_failed_rounds_and_rounds_without_probes() -> None:
    found = measured(Outcome({}, 0.0, "no result", (200.0, 200.0)))
    full = full_speeds([found])
    assert found.figure("median_ms", full) is None
    assert not found.is_slow(full)
    older = measured(Outcome({"median_ms": 4.0}, 0.0))
    assert older.figure("median_ms", full_speeds([older])) == 4.0
    assert not older.is_slow({2: 200.0})


def test_rounds_of_several_runs_count_together() -> None:
    """The second run shows that the machine is twice as fast, so that the rounds of the first were slow."""
    first, second = run_of(measured(outcome(9.0, 100.0, 100.0))), run_of(measured(outcome(5.0), outcome(6.0)))
    assert first["measurements"][0]["slow"] is False
    (record,) = pooled([first, second])["measurements"]
    assert from_json(record).outcomes[0].figures["median_ms"] == 9.0
    assert record["figures"]["median_ms"] == 5.5
    assert record["counted"] == 2
    assert "3 rounds of 1 s, of which 2 of 3 counted" in as_markdown(pooled([first, second]))


def test_different_processors_and_commits_do_not_count_together() -> None:
    one = run_of(measured(outcome(5.0)))
    with pytest.raises(ValueError, match="different kinds of processors"):
        pooled([one, run_of(measured(outcome(5.0)), kind="AMD EPYC Zen 5, AVX-512")])
    with pytest.raises(ValueError, match="at commits abc and def"):
        pooled([one, run_of(measured(outcome(5.0)), commit="def")])
