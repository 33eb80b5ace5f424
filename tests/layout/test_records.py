"""`compiler.support.record` beside `dataclasses`, which it stands for."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from compiler.support.record import mutable_record, record


@record
class Shown:
    text: str
    size: int = 3
    parts: list[int] = field(default_factory=list[int])
    unit: str = field(default="ms", kw_only=True)


@record
class Longer(Shown):
    rate: float = 0.5
    scale: int = field(default=1, kw_only=True)


@dataclass(frozen=True, slots=True)
class ShownByDataclasses:
    text: str
    size: int = 3
    parts: list[int] = field(default_factory=list[int])
    unit: str = field(default="ms", kw_only=True)


@mutable_record
class Counter:
    start: int
    seen: list[int] = field(default_factory=list[int])
    double: int = field(init=False)

    def __post_init__(self) -> None:
        self.double = 2 * self.start


CALLS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    (("a",), {}),
    (("a", 4), {}),
    (("a", 4, [1]), {"unit": "s"}),
    ((), {"text": "a", "parts": [2], "unit": "s"}),
]


@pytest.mark.parametrize(("positional", "by_name"), CALLS)
def test_a_record_is_made_as_a_data_class_is(positional: tuple[Any, ...], by_name: dict[str, Any]) -> None:
    ours, theirs = Shown(*positional, **by_name), ShownByDataclasses(*positional, **by_name)
    for name in ("text", "size", "parts", "unit"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert repr(ours) == repr(theirs).replace("ShownByDataclasses", "Shown")


@pytest.mark.parametrize(("positional", "by_name"), [((), {}), (("a", 1, [], "s"), {}), (("a",), {"sise": 1})])
def test_wrong_arguments_are_refused(positional: tuple[Any, ...], by_name: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="__init__"):
        Shown(*positional, **by_name)


def test_the_signature_names_the_fields_in_their_order() -> None:
    parameters = inspect.signature(Longer).parameters
    assert list(parameters) == ["text", "size", "parts", "rate", "unit", "scale"]
    assert parameters["scale"].kind is inspect.Parameter.KEYWORD_ONLY


def test_lists_made_by_a_factory_are_not_shared() -> None:
    assert Shown("a").parts is not Shown("a").parts


def test_records_of_a_derived_class_equal_only_each_other() -> None:
    assert Longer("a", rate=0.25) == Longer("a", rate=0.25) != Longer("a")
    assert Longer("a") != Shown("a")


def test_replacing_a_field_leaves_the_others() -> None:
    assert replace(Longer("a", 5, unit="s"), rate=2.0) == Longer("a", 5, rate=2.0, unit="s")


def test_a_mutable_record_changes_and_has_no_hash() -> None:
    counter = Counter(3)
    assert counter.double == 6
    counter.seen.append(1)
    counter.start = 4
    assert (counter.start, counter.seen, Counter(3).seen) == (4, [1], [])
    with pytest.raises(TypeError, match="unhashable"):
        hash(counter)


def test_a_misspelt_field_of_a_mutable_record_is_refused() -> None:
    with pytest.raises(AttributeError):
        setattr(Counter(3), "strat", 1)  # noqa: B010  # the type checker refuses the assignment itself
