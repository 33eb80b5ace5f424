"""A data format: a name, file endings, options with their types, and a reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from pathlib import Path

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean, quoted
from compiler.support.data_formats import OPTIONS
from compiler.support.record import record
from runtime.data.dataset import BlockSource, Dataset
from runtime.data.specs import SettingValue


@record
class SourceOptions:
    """The options of one data source, read by type. `place` is where in the source text they stand."""

    values: Mapping[str, SettingValue]
    place: str | None = None

    def flag(self, name: str) -> bool | None:
        value = self.values.get(name)
        if value is None or isinstance(value, bool):
            return value
        raise self._wrong(name, "true or false", value)

    def text(self, name: str) -> str | None:
        value = self.values.get(name)
        if value is None or isinstance(value, str):
            return value
        raise self._wrong(name, "a text in quotes", value)

    def columns(self, name: str) -> tuple[str | int, ...]:
        """One column or a list of them, each a name or a position from 0 (negative from the end)."""
        value = self.values.get(name)
        items = value if isinstance(value, tuple) else () if value is None else (value,)
        found = tuple(item for item in items if isinstance(item, str | int) and not isinstance(item, bool))
        if len(found) != len(items):
            raise self._wrong(name, "a column name, a position, or a list of them", value)
        return found

    def numbers(self, name: str, most: int) -> tuple[int, ...] | None:
        """One positive whole number, or up to `most` in a list."""
        value = self.values.get(name)
        if value is None:
            return None
        items = value if isinstance(value, tuple) else (value,)
        found = tuple(item for item in items if isinstance(item, int) and not isinstance(item, bool) and item > 0)
        if len(found) != len(items) or not 1 <= len(found) <= most:
            expected = "a positive whole number" + (f", or a list of {most}" if most > 1 else "")
            raise self._wrong(name, expected, value)
        return found

    def number(self, name: str) -> int | None:
        found = self.numbers(name, 1)
        return None if found is None else found[0]

    def buckets(self) -> int | None:
        """Of `bucket`: at how many lengths batches are computed, 0 where they are made at random, None for `true`."""
        value = self.values.get("bucket", False)
        if isinstance(value, bool):
            return None if value else 0
        if isinstance(value, int) and value > 0:
            return value
        raise self._wrong("bucket", "true, false, or how many lengths", value)

    def names(self, name: str) -> tuple[str, ...]:
        found = tuple(item for item in self.columns(name) if isinstance(item, str))
        if len(found) != len(self.columns(name)):
            raise self._wrong(name, "a list of names", self.values[name])
        return found

    def names_in(self, *options: str) -> frozenset[str]:
        """The names, without the positions, in options that list columns."""
        return frozenset(item for name in options for item in self.columns(name) if isinstance(item, str))

    def choice(self, name: str, choices: tuple[str, ...]) -> str | None:
        value = self.text(name)
        if value is not None and value not in choices:
            message = f"option `{name}` cannot be `{value}`{did_you_mean(value, choices, '; ')}"
            raise DataError(message, self.place, fix=f"use one of {quoted(choices)}")
        return value

    def check_known(self, format_name: str) -> None:
        known = OPTIONS[format_name]
        for name in self.values:
            if name not in known:
                message = f"`{format_name}` has no option `{name}`{did_you_mean(name, known, '; ')}"
                fix = f"its options are {quoted(known)}" if known else "it has no options"
                raise DataError(message, self.place, fix=fix)

    def _wrong(self, name: str, expected: str, value: SettingValue) -> DataError:
        return DataError(f"option `{name}` is {value!r}, but must be {expected}", self.place, fix=f"give {expected}")


@record
class SourceRequest:
    """A request to a reader: `wanted` are the names of the program's inputs and targets, `others` further files
    by their content.

    For a table that is read after another one (validation, prediction): `texts` are the columns that hold categories
    there, `layouts` the lists of column names that a table without a fitting header may have, by position.

    `is_training`: rows to train on are needed. Else the part that a folder sets aside for tests may be all there is.
    `may_be_empty`: a table or arrays without rows are an answer too, as for a prediction.
    """

    path: Path
    options: SourceOptions
    wanted: frozenset[str]
    texts: frozenset[str] = frozenset()
    layouts: tuple[tuple[str, ...], ...] = ()
    others: Mapping[str, Path] = field(default_factory=dict[str, Path])
    is_training: bool = True
    may_be_empty: bool = False


@record
class Format:
    """One entry of the list of formats. `endings` are those of file names, without `.gz`; none where names say nothing.

    `holds` says whether a folder has data of this format; None where a folder never has. `in_one`: a single file may
    hold what several do otherwise. `by_pattern`: `holds` knows paths with `*`, too, whose files are one table.
    `stream` reads block by block.
    """

    name: str
    endings: tuple[str, ...]
    read: Callable[[SourceRequest], Dataset]
    stream: Callable[[SourceRequest], BlockSource]
    holds: Callable[[Path], bool] | None = None
    in_one: bool = False
    by_pattern: bool = False
