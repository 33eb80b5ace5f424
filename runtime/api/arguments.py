"""Arguments of the Python API as the compiler and the training take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np

from compiler import driver
from compiler.driver import Array, Options, Tensors
from compiler.errors.diagnostics import UsageError
from compiler.support.processors import usable_cores
from compiler.targets.registry import TARGETS
from runtime.data.choices import refuse_outside
from runtime.data.loading import part_of_arrays
from runtime.data.part import Part
from runtime.data.preparation import Preparation
from runtime.reporting.units import value_text
from runtime.runs.start_weights import start_weights_of, take_over_weights
from runtime.train.jobs import DataParts, first_tensors, load_data

SettingValue: TypeAlias = "int | float | bool | str | Sequence[SettingValue] | None"


@runtime_checkable
class Frame(Protocol):
    """A table of named columns, such as a DataFrame of pandas or polars."""

    @property
    def columns(self) -> Any: ...

    def __getitem__(self, name: str) -> Any: ...


Data: TypeAlias = "str | PathLike[str] | Mapping[str, Array] | Frame"


def options_of(target: str, dtype: str, threads: int | None) -> Options:
    """The options of a compilation. Raises UsageError."""
    for name, value, known in (("target", target, tuple(TARGETS)), ("dtype", dtype, ("f32", "f64"))):
        if value not in known:
            raise UsageError(f"`{name}` cannot be {value!r}", f"it is {' or '.join(known)}")
    if threads is not None and (type(threads) is not int or threads < 1):
        raise UsageError(f"`threads` cannot be {threads!r}", "give a whole number of at least 1, or None for all")
    return replace(Options(), target=target, dtype=dtype, threads=threads or usable_cores())


def overrides_of(settings: Mapping[str, SettingValue]) -> tuple[tuple[str, str], ...]:
    """Settings as the texts that stand above those of the file. Raises UsageError."""
    return tuple((name, value_text(frozen(name, value))) for name, value in settings.items())


def frozen(name: str, value: object) -> driver.SettingValue:
    """The value of a setting; NumPy's scalars become Python's. Raises UsageError for what no setting can be."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case np.generic():
            return frozen(name, cast("object", value.item()))
        case Sequence():
            return tuple(frozen(name, item) for item in cast("Sequence[object]", value))
        case _:
            fix = f'give a number, a text or a list; arrays go to `train` in a dictionary: {{"{name}": …}}'
            raise UsageError(f"the setting `{name}` cannot be {type(value).__name__}", fix)


def arrays_or_path(data: Data | None) -> Mapping[str, Array] | Path | None:
    """Columns of a frame are arrays by their names; a text is a path."""
    if data is None or isinstance(data, Mapping):
        return data
    if isinstance(data, str | PathLike):
        return Path(data)
    if not hasattr(data, "columns"):
        fix = "give a path, a dictionary of arrays by the names of inputs and targets, or a data frame"
        raise UsageError(f"the data cannot be {type(data).__name__}", fix)
    return {str(name): data[name] for name in data.columns}


def parts_of(
    program: driver.Program,
    data: Mapping[str, Array] | Path | None,
    validation: Mapping[str, Array] | Path | None,
    test: Mapping[str, Array] | Path | None,
) -> tuple[DataParts, Preparation | None]:
    """The parts of a training, from arrays or from files. Raises DataError and UsageError."""
    if isinstance(data, Mapping):
        return DataParts(_part(program, data), *(_further_part(program, part) for part in (validation, test))), None
    if validation is not None or test is not None:
        raise UsageError(
            "arrays for validation or test need arrays for data too", "give data as a dictionary of arrays"
        )
    loaded = load_data(program, data)
    return DataParts(loaded.train, loaded.validation, loaded.test), loaded.preparation


def _further_part(program: driver.Program, arrays: Mapping[str, Array] | Path | None) -> Part | None:
    if isinstance(arrays, Path):
        raise UsageError(f"{arrays} cannot be beside arrays", "give validation and test as dictionaries of arrays")
    return None if arrays is None else _part(program, arrays)


def _part(program: driver.Program, arrays: Mapping[str, Array]) -> Part:
    part = part_of_arrays(program.inputs, arrays)
    refuse_outside(program, part)
    return part


def start_tensors(program: driver.Program, options: Options) -> Tensors:
    """The start values of the seed, or the weights that `init_from` names."""
    tensors = first_tensors(program, options)
    start = start_weights_of(program)
    if start is not None:
        take_over_weights(program, tensors, start)
    return tensors
