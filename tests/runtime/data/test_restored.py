"""Records come back from JSON as they went, and nothing else becomes one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, field

import pytest

from compiler.support.record import record
from runtime.support.restored import restored


@record
class Inner:
    size: int
    share: float | None


@record
class Outer:
    name: str
    pair: tuple[str, bool]
    parts: Mapping[str, tuple[Inner, ...]]
    later: Mapping[str, int] = field(default_factory=dict[str, int])


GIVEN = Outer("a", ("b", True), {"c": (Inner(1, None), Inner(2, 0.5))}, {"d": 4})


def test_a_record_survives_json() -> None:
    saved = json.loads(json.dumps(asdict(GIVEN)))
    assert restored(Outer, saved) == GIVEN
    assert restored(Outer, {**saved, "more": 3}) == GIVEN
    del saved["later"]
    assert restored(Outer, saved, ("later",)).later == {}
    assert restored(Outer, saved, ("later",), {Inner: lambda _: None}).parts == {"c": (None, None)}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"name": 3}, "a text"),
        ({"name": None}, "a text"),
        ({"pair": ["b"]}, "a list"),
        ({"pair": ["b", 1]}, "true or false"),
        ({"parts": {"c": "ab"}}, "a list"),
        ({"parts": {"c": [{"size": True, "share": 1}]}}, "a whole number"),
        ({"parts": {"c": [{"size": 1.0, "share": 1}]}}, "a whole number"),
        ({"parts": {"c": [{"size": 1, "share": "1"}]}}, "a number"),
        ({"parts": {"c": [{"size": 1}]}}, "nothing where `share`"),
        ({"parts": []}, "names and values"),
    ],
)
def test_anything_else_is_refused(damage: Mapping[str, object], message: str) -> None:
    saved = json.loads(json.dumps({**asdict(GIVEN), **damage}))
    with pytest.raises(ValueError, match=message):
        restored(Outer, saved)


def test_a_whole_number_serves_as_a_number() -> None:
    assert repr(restored(Inner, {"size": 1, "share": 2})) == repr(Inner(1, 2.0))
