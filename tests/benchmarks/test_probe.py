"""The probe of the machine's speed waits for the best rate that it has seen, and not for ever."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat

import pytest

import probe
from probe import SAMPLES, Probe
from turns import Turn, shortest, take_turns

FULL, SLOW = 200.0, 100.0


@pytest.fixture(autouse=True)
def _short_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "CALIBRATION_SECONDS", 0.0)


def probe_of(rates: Iterator[float], patience: float = 10.0) -> Probe:
    """One that finds these rates, each in all of its samples."""
    samples = (rate for rate in rates for _ in range(SAMPLES))
    return Probe(lambda: next(samples), patience, pause=0.0)


def test_the_best_of_a_few_samples_counts() -> None:
    samples = iter([SLOW, *repeat(FULL, SAMPLES - 1)])
    assert Probe(lambda: next(samples), 0.0).rate() == FULL


def test_a_job_waits_for_full_speed() -> None:
    found = probe_of(chain([FULL, FULL], repeat(SLOW, 3), [0.95 * FULL, SLOW]))
    assert found.await_full_speed()[0] == FULL
    rate, waited = found.await_full_speed()
    assert rate == 0.95 * FULL
    assert waited >= 0.0
    assert found.best == FULL


def test_waiting_ends() -> None:
    found = probe_of(chain([FULL], repeat(SLOW)), patience=0.0)
    assert found.await_full_speed()[0] == SLOW


def test_turns_between_slow_probes_are_left_out() -> None:
    """The rates: calibration, then before the first turn, then one after each."""
    found = probe_of(chain([FULL, FULL, SLOW], repeat(FULL)))
    samples = chain([9.0, 1.0, 2.0], repeat(5.0))  # the first warms up, the slow turn has a shorter time by chance
    made = take_turns([lambda: next(samples)], 2, 0.0, found, 60.0)
    assert made == [Turn((1.0,), (FULL, SLOW)), Turn((5.0,), (FULL, FULL))]
    assert shortest(made, FULL) == ([5.0], 1)
    assert shortest(made[:1], FULL) == ([1.0], 1)
