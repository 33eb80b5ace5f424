"""The source of the rows of a training, and the shares that are cut off for validation and test."""

from __future__ import annotations

from typing import TypeAlias

from compiler.errors.diagnostics import Span
from compiler.support.record import record

SettingValue: TypeAlias = "int | float | bool | str | tuple[SettingValue, ...] | None"

_ROWS_OF_CLASS = ".rows_of_class."


def rows_of_class(target: str, label: int) -> str:
    """The name of the number of rows to train on that a class has; the data says it, as it says dimensions."""
    return f"{target}{_ROWS_OF_CLASS}{label}"


def class_in(name: str) -> tuple[str, int] | None:
    """The target and the class of such a name; None of another."""
    target, found, label = name.rpartition(_ROWS_OF_CLASS)
    return (target, int(label)) if found else None


@record
class DataSource:
    """`idx("data/mnist")`: format, path, the format's options by name, and further files by what they hold."""

    format: str
    path: str
    options: tuple[tuple[str, SettingValue], ...]
    span: Span
    others: tuple[tuple[str, str], ...] = ()


_DRAWN_CUTS = ("random", "stratified", "grouped")
CUT_WAYS = (*_DRAWN_CUTS, "latest")
"""How the rows of a share are chosen."""


@record
class Fold:
    """The part `number`, from 1, of `count` parts of about equal size that rows are cut into."""

    number: int
    count: int

    def __str__(self) -> str:
        return f"fold({self.number}, of = {self.count})"


@record
class Cut:
    """Rows of the data for a part: a share of them, chosen in one of the `CUT_WAYS`, or all `where` a condition holds.

    `by` is the column by whose values a share is stratified, grouped or sorted, or "" for the usual one.
    """

    way: str
    share: float | Fold = 0.0
    by: str = ""
    condition: str = ""

    def __str__(self) -> str:
        if self.way == "where":
            return f'where("{self.condition}")'
        by = f', by = "{self.by}"' if self.by else ""
        return str(self.share) if self.way == CUT_WAYS[0] else f"{self.way}({self.share}{by})"


PartSource: TypeAlias = "float | Cut | DataSource | None"
"""Where a part comes from: a fraction of the data, which is a random share, a cut, or a source of its own."""


@record
class Cuts:
    """Where validation and test come from; what is cut off from the data follows from the seed.

    `oversample` is the column of which each value is to be met equally often in training, or "". `stream` is
    the most rows of a block, in which the data is read, or 0 where it is read into memory.
    """

    validation: PartSource = None
    test: PartSource = None
    seed: int = 0
    oversample: str = ""
    stream: int = 0

    @property
    def of_data(self) -> tuple[Cut | None, Cut | None]:
        """Both cuts of the data; None for a part that there is not, or that has a source of its own."""
        return _cut_of(self.validation), _cut_of(self.test)

    @property
    def are_drawn(self) -> bool:
        """Whether the seed decides which rows a part has."""
        return any(cut is not None and cut.way in _DRAWN_CUTS for cut in self.of_data)


def _cut_of(part: PartSource) -> Cut | None:
    if isinstance(part, Cut):
        return part
    return None if part is None or isinstance(part, DataSource) else Cut(CUT_WAYS[0], part)
