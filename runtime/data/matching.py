"""Which fields of a data source feed which input and target of a program."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import did_you_mean, quoted
from runtime.data.dataset import Dataset, Field, TableOptions, columns_at
from runtime.data.specs import InputSpec, row_shape

Columns = dict[str, tuple[str, ...]]


def match_fields(dataset: Dataset, specs: Sequence[InputSpec]) -> Columns:
    """Input or target -> its fields. A table's columns can share an input; elsewhere names must be equal.

    In a table, a column of its name feeds an input or target of one number a row. Other targets take the columns of
    the option `target`, other inputs those of `columns`, in order; a single input left over takes all columns of
    numbers that remain. Raises DataError.
    """
    if dataset.table is not None:
        return _TableMatch(dataset, dataset.table).columns_of(specs)
    for spec in specs:
        if spec.name not in dataset.fields:
            raise _no_field(dataset, spec)
    return {spec.name: (spec.name,) for spec in specs}


def free_columns(dataset: Dataset, spec: InputSpec, others: Sequence[InputSpec]) -> int:
    """How many columns of a table `match_fields` could give to `spec` beside the others. Raises DataError."""
    assert dataset.table is not None
    return _TableMatch(dataset, dataset.table).left_for(spec, others)


def check_fields(dataset: Dataset, columns: Mapping[str, tuple[str, ...]]) -> None:
    """That a further source has every field of a match made earlier. Raises DataError."""
    for names in columns.values():
        columns_at(names, tuple(dataset.fields), dataset.path)


def _type_text(field: Field) -> str:
    """A field's type for a message: u8[28, 28]."""
    if field.is_text:
        return "text"
    kind = {"u": "u", "i": "i", "f": "f", "b": "bool"}[field.values.dtype.kind]
    name = kind if kind == "bool" else f"{kind}{8 * field.values.dtype.itemsize}"
    row = field.values.shape[1:]
    return f"{name}[{', '.join(map(str, row))}]" if row else name


def _no_field(dataset: Dataset, spec: InputSpec) -> DataError:
    known = (*dataset.fields, *dataset.unread)
    role = "target" if spec.is_target else "input"
    unread = f", {quoted(dataset.unread)}" if dataset.unread else ""
    listed = ", ".join(f"`{name}` {_type_text(field)}" for name, field in dataset.fields.items())
    held = listed + unread if dataset.fields else quoted(known)
    if (dataset.format, spec.name) == ("lines", "label"):
        fix = 'say where it is: `label = "first"` or `"last"`, `labels = "FILE"`, or as a `*` of the path'
        return DataError("nothing says which label a line has", dataset.path, fix=fix)
    message = f"no field `{spec.name}` for the {role} `{spec.name}: {spec.type}`{did_you_mean(spec.name, known, '; ')}"
    return DataError(message, dataset.path, fix=f"give the {role} the name of a field: the data has {held}")


class _TableMatch:
    """Hands out the columns of one table, each at most once for targets and at most once for inputs."""

    def __init__(self, dataset: Dataset, options: TableOptions) -> None:
        self._dataset, self._options = dataset, options
        self._names = tuple(dataset.fields)
        self._claimed: Columns = {}

    def columns_of(self, specs: Sequence[InputSpec]) -> Columns:
        self._claim_by_name(specs)
        self._take_targets([spec for spec in specs if spec.is_target and spec.name not in self._claimed])
        self._take_inputs([spec for spec in specs if not spec.is_target and spec.name not in self._claimed])
        return {spec.name: self._claimed[spec.name] for spec in specs}

    def left_for(self, spec: InputSpec, others: Sequence[InputSpec]) -> int:
        """The columns for one input or target of unknown width."""
        self._claim_by_name(others)
        rest = [o for o in others if o.is_target == spec.is_target and o.name not in self._claimed]
        option = self._options.target if spec.is_target else self._options.columns
        if option:
            return len(self._listed(option)) - sum(_width(other) for other in rest)
        self._take_targets([other for other in others if other.is_target and other.name not in self._claimed])
        return 0 if rest else len(self._free_numbers())

    def _claim_by_name(self, specs: Sequence[InputSpec]) -> None:
        for spec in specs:
            if spec.name in self._names and _width(spec) == 1:
                self._claimed[spec.name] = (spec.name,)

    def _take_targets(self, specs: list[InputSpec]) -> None:
        listed = self._listed(self._options.target)
        if specs and not listed:
            last = self._names[-1]
            message = f"no column `{specs[0].name}` for the target{did_you_mean(specs[0].name, self._names, '; ')}"
            fix = f'say which column it is: `target = "{last}"`, or `target = -1` for the last'
            raise DataError(message, self._dataset.path, fix=fix)
        self._deal("target", listed, specs)

    def _take_inputs(self, specs: list[InputSpec]) -> None:
        if self._options.columns:
            self._deal("columns", self._listed(self._options.columns), specs)
            return
        if len(specs) > 1:
            message = f"no columns {quoted(spec.name for spec in specs)} for these inputs"
            fix = "list the columns of all of them, in order, with the option `columns = […]`"
            raise DataError(message, self._dataset.path, fix=fix)
        for spec in specs:
            rest = self._free_numbers()
            if len(rest) != _width(spec):
                raise self._wrong_count(spec, rest)
            self._claimed[spec.name] = tuple(rest)

    def _listed(self, columns: Sequence[str | int]) -> list[str]:
        """The columns of an option, without those that an input or target has by its own name."""
        own = {name for names in self._claimed.values() for name in names}
        return [name for name in columns_at(columns, self._names, self._dataset.path) if name not in own]

    def _deal(self, option: str, listed: list[str], specs: list[InputSpec]) -> None:
        needed = sum(_width(spec) for spec in specs)
        if len(listed) != needed:
            wanted = ", ".join(f"`{spec.name}` takes {_width(spec)}" for spec in specs) or "no column is needed"
            fix = f"list {needed} columns" if needed else f"leave out `{option}`"
            raise DataError(f"option `{option}` gives {len(listed)} columns, but {wanted}", self._dataset.path, fix=fix)
        for spec in specs:
            self._claimed[spec.name] = tuple(listed[: _width(spec)])
            del listed[: _width(spec)]

    def _free_numbers(self) -> list[str]:
        """The columns of numbers that nothing has yet."""
        claimed = {name for names in self._claimed.values() for name in names}
        return [name for name in self._names if name not in claimed and not self._dataset.fields[name].is_text]

    def _wrong_count(self, spec: InputSpec, rest: list[str]) -> DataError:
        if not rest:
            return DataError(
                f"there is no column `{spec.name}` for the input `{spec.name}: {spec.type}`, and no other column of"
                f" numbers is left{did_you_mean(spec.name, self._names, '; ')}",
                self._dataset.path,
                fix=f"the columns are {quoted(self._names)}",
            )
        claimed = {name for names in self._claimed.values() for name in names}
        texts = [name for name, f in self._dataset.fields.items() if f.is_text and name not in claimed]
        taken = set(rest)
        aside = [name for name in self._names if name not in taken]
        left = f" (without {quoted(aside)})" if aside else ""
        also = f"; text columns such as `{texts[0]}` need an input of their own" if texts else ""
        return DataError(
            f"the input `{spec.name}: {spec.type}` takes {_width(spec)} numbers a row, but the table has {len(rest)}"
            f" columns of numbers for it{left}: {quoted(rest)}",
            self._dataset.path,
            fix=f"declare it with {len(rest)}, or choose columns with `columns = […]`{also}",
        )


def _width(spec: InputSpec) -> int:
    return math.prod(row_shape(spec))
