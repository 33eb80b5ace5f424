"""The best that threads reach: measured again where a kept one cannot be, and for longer where they had one core."""

import json
from typing import Any

import pytest
from native import host

from compiler.targets.cpu import peaks
from compiler.types import DType


@pytest.mark.parametrize(
    "kept", [[1, "9", [[8192, 1.0]], 5, 6], [1, float("inf"), [[8192, 1.0]], ""], [1, 9.0, [[8192, float("nan")]], ""]]
)
def test_kept_peaks_that_cannot_be_are_measured_again(kept: list[Any]) -> None:
    assert peaks._kept(json.dumps(kept).encode()) is None  # pyright: ignore[reportPrivateUsage]
    assert peaks._kept(b'[1, 9.0, [[8192, 1.0]], "2026-01-01"]') is not None  # pyright: ignore[reportPrivateUsage]


def test_more_threads_than_the_largest_set_has_pieces_still_have_a_bandwidth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peaks, "_MOST", peaks._LEAST)  # pyright: ignore[reportPrivateUsage]
    found = peaks._measure(host(), 2, DType.F32)  # pyright: ignore[reportPrivateUsage]
    assert found.memory > 0


def test_threads_that_had_one_core_for_a_moment_are_measured_for_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([100.0, 120.0, 190.0, *[50.0] * 100])
    monkeypatch.setattr(peaks, "_MOST", peaks._LEAST)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(peaks, "_best_rate", lambda *_: next(rates))
    assert peaks._measure(host(), 2, DType.F32, 180.0).gflops == 190.0  # pyright: ignore[reportPrivateUsage]
