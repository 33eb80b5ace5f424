"""The search space of a sweep: `--set key=1e-4..1e-1:log` and `--set key=[32, 64]` as ranges and choices."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TypeAlias

from compiler.errors.diagnostics import UsageError
from compiler.support.record import record

_NUMBER = r"[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(:log)?")
_WHOLE = re.compile(r"[-+]?\d+")


@record
class ValueRange:
    """Numbers from `low` up to `high`: whole ones without `high`, as in a range of the language, or any."""

    key: str
    low: float
    high: float
    is_log: bool
    is_whole: bool

    @property
    def size(self) -> float:
        """How many values there are."""
        return self.high - self.low if self.is_whole else math.inf

    def text(self, share: float) -> str:
        """The number at a share in [0, 1) of the range, as the text of a setting."""
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        value = low + share * (high - low)
        value = math.exp(value) if self.is_log else value
        return self.written(value)

    def written(self, value: float) -> str:
        return str(min(math.floor(value), int(self.high) - 1)) if self.is_whole else repr(float(value))


@record
class ValueList:
    """One of several texts."""

    key: str
    options: tuple[str, ...]

    @property
    def size(self) -> float:
        """How many values there are."""
        return len(set(map(_value, self.options)))

    def text(self, share: float) -> str:
        return self.options[int(share * len(self.options))]


SearchDimension: TypeAlias = ValueRange | ValueList


@record
class SearchSpace:
    """`fixed` settings are those of every trial."""

    dimensions: tuple[SearchDimension, ...]
    fixed: tuple[tuple[str, str], ...]

    @property
    def size(self) -> float:
        """How many combinations there are."""
        return math.prod(dimension.size for dimension in self.dimensions)


Settings: TypeAlias = tuple[tuple[str, "Decimal | str"], ...]


def as_values(settings: Mapping[str, str]) -> Settings:
    """Settings as they are compared: `0.1` and `1e-1` are one number."""
    return tuple((key, _value(text)) for key, text in settings.items())


def _value(text: str) -> Decimal | str:
    """The number that a text is, exactly, or the text."""
    return Decimal(text) if re.fullmatch(_NUMBER, text) else text


def space_of(settings: Sequence[tuple[str, str]]) -> SearchSpace:
    """Ranges and lists are searched; every other value is fixed. Raises UsageError."""
    found = [(key, _dimension(key, text)) for key, text in settings]
    dimensions = tuple(dimension for _, dimension in found if dimension is not None)
    if not dimensions:
        raise UsageError(
            "there is nothing to search",
            "give a range or a list: --set optimizer.lr=1e-4..1e-1:log --set hidden=[32,64]",
        )
    keys = [dimension.key for dimension in dimensions]
    repeated = [key for key in keys if [k for k, _ in settings].count(key) > 1]
    if repeated:
        raise UsageError(f"`{repeated[0]}` is set twice", "leave one out")
    fixed = tuple((key, text) for (key, text), (_, dimension) in zip(settings, found, strict=True) if dimension is None)
    return SearchSpace(dimensions, fixed)


def _dimension(key: str, text: str) -> SearchDimension | None:
    text = text.strip()
    if found := _RANGE.fullmatch(text):
        return _range(key, found[1], found[2], found[3] is not None)
    if text.startswith("[") and text.endswith("]"):
        options = _items(text[1:-1])
        if len(set(map(_value, options))) < 2:
            raise UsageError(f"`{key}={text}` offers no choice", "list two values or more")
        return ValueList(key, options)
    return None


def _range(key: str, first: str, last: str, is_log: bool) -> ValueRange:
    is_whole = bool(_WHOLE.fullmatch(first) and _WHOLE.fullmatch(last))
    low, high = float(first), float(last)
    if not low < high:
        raise UsageError(f"the range {key}={first}..{last} is empty", "the first number is below the last")
    if is_log and low <= 0:
        raise UsageError(f"the range {key}={first}..{last}:log begins at {first}", "a logarithmic one begins above 0")
    return ValueRange(key, low, high, is_log, is_whole)


def _items(text: str) -> tuple[str, ...]:
    """The parts between commas that stand in no bracket and no string."""
    items, depth, is_text = [""], 0, False
    for letter in text:
        is_text = is_text != (letter == '"')
        depth += 0 if is_text else (letter in "([") - (letter in ")]")
        if letter == "," and not depth and not is_text:
            items.append("")
        else:
            items[-1] += letter
    return tuple(item.strip() for item in items if item.strip())
