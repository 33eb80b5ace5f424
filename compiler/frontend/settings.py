"""The resolved settings of an experiment, each with its origin: the command line, `train` or a default."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, fields, is_dataclass, replace
from typing import Any, cast

from compiler.errors.diagnostics import Diagnostic, Note, Source, SourceError, Span, hint
from compiler.frontend.arithmetic import Formula, Number
from compiler.frontend.data_parts import SettingValue
from compiler.frontend.failures import nearest
from compiler.frontend.program import COMMAND_LINE, SET, Limit, Setting
from compiler.frontend.values import FormValue, LayerInstance, RunTimeNumber, Value
from compiler.support.record import mutable_record, record
from compiler.syntax import tree
from compiler.syntax.lexer import TOO_LARGE
from compiler.syntax.parser import parse

OF_THE_DATA = "data"
_DECLARATION = "const value = "
_MOST_MEANT = 3  # settings that a hint names
_OF_NUMBERS = re.compile(r"[\d.eE+*/(),\s\[\]-]+|\w+\(.*\)")  # or a call: what is meant for a path is neither


@record
class Override:
    """`--set key=text`; `expression` is None where the text cannot be read as one, such as a path."""

    key: str
    text: str
    expression: tree.Expression | None
    span: Span

    @property
    def as_text(self) -> tree.Text:
        """The text itself as a string, without quotes around it."""
        return self.expression if isinstance(self.expression, tree.Text) else tree.Text(self.text, self.span)

    @property
    def as_expression(self) -> tree.Expression:
        return self.as_text if self.expression is None else self.expression


@mutable_record
class SettingsRecord:
    """Settings by name, in the order in which they were met. An override that no name asks for is a mistake."""

    overrides: dict[str, Override] = field(default_factory=dict[str, Override])
    entries: dict[str, tuple[Value, str]] = field(default_factory=dict[str, "tuple[Value, str]"])
    used: set[str] = field(default_factory=set[str])
    asked: set[str] = field(default_factory=set[str])  # all names that could have been overridden

    def take(self, name: str) -> Override | None:
        """The override of a setting, which then counts as used."""
        self.asked.add(name)
        override = self.overrides.get(name)
        if override is not None:
            self.used.add(name)
        return override

    def record(self, name: str, value: Value, origin: str) -> None:
        self.entries.setdefault(name, (value, origin))

    def unknown(self) -> list[Diagnostic]:
        """The overrides that nothing asked for."""
        known = (*self.entries, *sorted(self.asked - {*self.entries}))
        names = ", ".join(sorted(self.entries))
        return [
            Diagnostic(
                "E0610",
                f"there is no setting `{override.key}`",
                override.span,
                _with_last_word(override.key, known)
                or nearest(override.key, known)
                or (hint(f"the settings are {names}" if names else "there are none"),),
            )
            for key, override in self.overrides.items()
            if key not in self.used
        ]

    def resolved(
        self, run_time: dict[str, RunTimeNumber], decided: set[str], limits: Mapping[str, Sequence[Limit]]
    ) -> tuple[Setting, ...]:
        """All settings, then the derived numbers that graphs take at run time; those have `limits` by their names."""
        taken = {name: number for name, number in run_time.items() if not number.sources <= decided}
        within = {source for number in taken.values() for source in number.sources} - decided
        found = [
            Setting(name, plain(value), origin, name in taken, _formula(value), name in within and name not in taken)
            for name, (value, origin) in self.entries.items()
        ]
        for name, number in taken.items():
            if name not in self.entries:
                origin = "derived" if number.is_derived else "run"
                found.append(Setting(name, number.value, origin, True, _formula(number)))
        return tuple(replace(s, limits=tuple(limits.get(s.name, ()))) if s.is_runtime else s for s in found)


def _with_last_word(key: str, known: Iterable[str]) -> tuple[Note, ...]:
    """The settings inside of keys that end with a name: `optimizer.lr` for `lr`."""
    found = [f"`{name}`" for name in sorted(known) if name.endswith(f".{key}")]
    return (hint(f"did you mean {' or '.join(found)}?"),) if 0 < len(found) <= _MOST_MEANT else ()


def _formula(value: Value) -> Formula | str | None:
    """How a number that only the run knows is computed."""
    if not isinstance(value, RunTimeNumber) or value.value is not None:
        return None
    return Formula(value.operation, tuple(map(as_formula, value.operands))) if value.is_derived else value.name


def as_formula(value: Value) -> Formula | Number | str:
    """A number of configuration, or how the run computes it."""
    known = value.value if isinstance(value, RunTimeNumber) else value
    if isinstance(known, (int, float)):
        return known
    formula = _formula(value)
    assert formula is not None
    return formula


def read_overrides(pairs: tuple[tuple[str, str], ...]) -> dict[str, Override]:
    """The `--set key=value` texts as expressions; the last of several for one key counts.

    Raises SourceError for numbers of which one is too large.
    """
    overrides: dict[str, Override] = {}
    for key, text in pairs:
        start = f"{SET}{key}="
        source = Source(COMMAND_LINE, start + text)
        span = Span(source, 1, 1, 1, len(source.text) + 1)
        declaration: tree.Declaration | None = None
        try:
            (declaration,) = parse(Source(COMMAND_LINE, _DECLARATION + text)).declarations
        except SourceError as error:
            _expect_numbers(error, key, text, span)
        except ValueError:
            pass
        expression: tree.Expression | None = None
        if isinstance(declaration, tree.Const):
            expression = _moved(declaration.value, source, len(start) - len(_DECLARATION))
        overrides[key] = Override(key, text, expression, span)
    return overrides


def _expect_numbers(error: SourceError, key: str, text: str, span: Span) -> None:
    """Raise SourceError where a text has an `error` for a number that is too large, and is meant for no path."""
    found = [mistake for mistake in error.diagnostics if mistake.message.endswith(TOO_LARGE)]
    if found and _OF_NUMBERS.fullmatch(text):
        fix = f"numbers are at most 1.8e308, whole ones 2^63 - 1; a text stands in quotes: '{key}=\"{text}\"'"
        raise SourceError((replace(found[0], span=span, notes=(hint(fix),)),)) from error


def _moved(part: Any, source: Source, columns: int) -> Any:
    """Syntax with the spans of another source: text that is read as a declaration is shown as it was typed."""
    if isinstance(part, Span):
        first = columns if part.line == 1 else 0
        last = columns if part.end_line == 1 else 0
        return Span(source, part.line, part.column + first, part.end_line, part.end_column + last)
    if isinstance(part, tuple):
        return tuple(_moved(item, source, columns) for item in cast(tuple[Any, ...], part))
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{f.name: _moved(getattr(part, f.name), source, columns) for f in fields(part)})
    return part


def plain(value: Value) -> SettingValue:
    """A setting as data: a function or layer is its name."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case RunTimeNumber():
            return value.value
        case tuple() | range():
            return tuple(plain(item) for item in value)
        case FormValue(declaration) | LayerInstance(declaration):
            return declaration.name
        case _:
            return str(getattr(getattr(value, "builtin", value), "name", value))
