"""Conditions on the columns of a table, such as `2000 <= year < 2020 and city in ['Oslo', 'Rome']`, as masks of rows.

Comparisons, `and`, `or`, `not`, `in` and arithmetic are those of Python, element by element. A missing value satisfies
no comparison; `missing(x)` asks for it. Names in backquotes may hold any character.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from functools import reduce

import numpy as np

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.data.dataset import Field, columns_at
from runtime.data.specs import Array

_LONGEST = 10_000
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*' | "(?:[^"\\]|\\.)*" | `([^`]+)` | (?<![\w.])([^\W\d]\w*)""", re.VERBOSE)
_WORDS = frozenset({"and", "or", "not", "in", "missing"})
_EXAMPLE = "write it like `year >= 2020 and city in ['Oslo', 'Rome']`"
_COMPARISONS: Mapping[type[ast.cmpop], Callable[[Array, Array], Array]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Array, Array], Array]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
}


@record
class Condition:
    """A condition that was read: its text, its tree, and the columns by the names that they have in the tree."""

    text: str
    tree: ast.expr
    columns: Mapping[str, str]
    place: str | None

    def mask(self, fields: Mapping[str, Field]) -> Array:
        """A boolean for each row. Raises DataError for a column that is not there, or of another type."""
        file = next(iter(fields.values())).file
        columns_at(tuple(self.columns.values()), tuple(fields), file)
        rows = len(next(iter(fields.values())).values)
        try:
            with np.errstate(all="ignore"):
                found = _Evaluation(self, fields).truth(self.tree)
        except RecursionError:
            raise DataError(
                f"the condition `{self.text}` is too deep", self.place, fix="say it with fewer parts"
            ) from None
        return np.broadcast_to(found, (rows,))


def read_condition(text: str, place: str | None = None) -> Condition:
    """The condition that a text says. Raises DataError."""
    columns: dict[str, str] = {}

    def named(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name is None or (match[2] and name in _WORDS):
            return match[0]
        columns[f"c{len(columns)}"] = name
        return f"c{len(columns) - 1}"

    if len(text) > _LONGEST:
        raise DataError(f"a condition of {len(text):,} characters", place, fix=f"it may have {_LONGEST:,}")
    try:
        parsed = ast.parse(_TOKEN.sub(named, text.strip()), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise DataError(f"the condition `{text}` cannot be read", place, fix=_EXAMPLE) from None
    if not columns:
        raise DataError(f"the condition `{text}` names no column", place, fix=_EXAMPLE)
    return Condition(text, parsed, columns, place)


class _Evaluation:
    """The value of each part of a condition, for all rows at once."""

    def __init__(self, condition: Condition, fields: Mapping[str, Field]) -> None:
        self._condition, self._fields = condition, fields

    def truth(self, node: ast.expr) -> Array:
        match node:
            case ast.BoolOp(op, values):
                join = np.logical_and if isinstance(op, ast.And) else np.logical_or
                return reduce(join, map(self.truth, values))
            case ast.UnaryOp(ast.Not(), operand):
                return np.logical_not(self.truth(operand))
            case ast.Compare(left, operators, others):
                pairs = zip([left, *others], operators, others, strict=False)
                return reduce(np.logical_and, [self._compared(*pair) for pair in pairs])
            case ast.Call(ast.Name("missing"), [operand], []):
                return _missing(self._value(operand))
            case _:
                raise self._unreadable("a comparison", node)

    def _compared(self, left: ast.expr, comparison: ast.cmpop, right: ast.expr) -> Array:
        value = self._value(left)
        if isinstance(comparison, ast.In | ast.NotIn):
            if not isinstance(right, ast.List | ast.Tuple) or not right.elts:
                raise self._unreadable("a list in brackets", right)
            equal = [self._related(value, operator.eq, self._value(each)) for each in right.elts]
            found = reduce(np.logical_or, equal)
            return ~found & ~_missing(value) if isinstance(comparison, ast.NotIn) else found
        return self._related(value, _COMPARISONS[type(comparison)], self._value(right))

    def _related(self, left: Array, relation: Callable[[Array, Array], Array], right: Array) -> Array:
        if _is_text(left) != _is_text(right):
            told = self._condition.text
            message = f"the condition `{told}` compares text with a number"
            fix = "put quotes around a text, and none around a number; a column of `categories` holds text"
            raise DataError(message, self._condition.place, fix=fix)
        present = ~(_missing(left) | _missing(right))
        return np.asarray(relation(left, right), np.bool_) & present

    def _value(self, node: ast.expr) -> Array:
        match node:
            case ast.Name(name) if name in self._condition.columns:
                values = self._fields[self._condition.columns[name]].values
                if values.ndim != 1:
                    column = self._condition.columns[name]
                    message = f"`{column}` holds {list(values.shape[1:])} numbers a row, and a condition compares one"
                    raise DataError(message, self._condition.place, fix="name a column of single values")
                return values.astype(np.str_) if values.dtype.kind == "O" else values
            case ast.Constant(int() | float() | str() as value) if not isinstance(value, bool):
                return np.asarray(value)
            case ast.UnaryOp(ast.USub(), operand):
                return -self._number(operand)
            case ast.BinOp(left, calculation, right) if type(calculation) in _ARITHMETIC:
                return np.asarray(_ARITHMETIC[type(calculation)](self._number(left), self._number(right)))
            case _:
                raise self._unreadable("a column, a number or a text", node)

    def _number(self, node: ast.expr) -> Array:
        value = self._value(node)
        if _is_text(value):
            raise self._unreadable("a number", node)
        return value.astype(np.float64)

    def _unreadable(self, wanted: str, node: ast.expr) -> DataError:
        written = ast.unparse(node)
        for name, column in self._condition.columns.items():
            written = re.sub(rf"\b{name}\b", lambda _, column=column: column, written)
        message = f"the condition `{self._condition.text}` has {quoted([written])} where {wanted} should be"
        return DataError(message, self._condition.place, fix=_EXAMPLE)


def _is_text(values: Array) -> bool:
    return values.dtype.kind in "UO"


def _missing(values: Array) -> Array:
    if _is_text(values):
        return np.asarray(values == "", np.bool_)
    return np.isnan(values) if values.dtype.kind == "f" else np.zeros(values.shape, np.bool_)
