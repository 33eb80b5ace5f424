"""Whether the integers of loaded data lie in range: of classes, rows of tables, elements of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compiler import driver
from compiler.driver import IndexLimit, Program
from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from runtime.data.part import Part
from runtime.data.specs import Array
from runtime.data.streaming.reader import blocks_in_order
from runtime.data.streaming.rows import BlockStream

if TYPE_CHECKING:
    from compiler.choices.limits import Outside


def refuse_outside(program: Program, part: Part) -> tuple[str, ...]:
    """Raise DataError where an integer chooses nothing and the loss or a metric depends on it; remarks for the user.

    They are about comparisons in the user's own text, where what equals nothing may be meant.
    """
    outputs = program.outputs if program.plan is None else ("loss", *program.plan.metrics)
    _refuse(program, [limit for limit in program.index_limits if not limit.is_own], part, outputs)
    own = [limit for limit in program.index_limits if limit.is_own]
    found = _outside(program, own, part, outputs)
    if found is None:
        return ()
    return (f"{quoted(found.limit.names)}: {found.value} equals none of {_places(found.limit)}",)


def refuse_outside_inputs(program: Program, part: Part) -> None:
    """The same for the inputs of a prediction, where outputs depend on them.

    What is in its declared range is right: `dlc check` has weighed that by the loss.
    """
    declared = {spec.name for spec in program.inputs if spec.low is not None and spec.high is not None}
    limits = [limit for limit in program.index_limits if not limit.is_own and not declared & set(limit.names)]
    _refuse(program, limits, part, program.outputs)


def _refuse(program: Program, limits: Sequence[IndexLimit], part: Part, outputs: Sequence[str]) -> None:
    found = _outside(program, limits, part, outputs)
    if found is None:
        return
    limit = found.limit
    names = part.names.get(limit.names[0])
    place, row = (None, None) if names is None else (names.file_of(found.row), names.of(found.row))
    whose = quoted(limit.names) if limit.is_direct else f"a number computed from {quoted(limit.names)}"
    message = f"{whose}: {found.value} is none of {_places(limit)}"
    raise DataError(message, place, row, _fix(limit, part.arrays[limit.names[0]], found.value, place))


def _outside(program: Program, limits: Sequence[IndexLimit], part: Part, outputs: Sequence[str]) -> Outside | None:
    """The first row in which an integer chooses nothing at one of the `limits`, where the outputs show it.

    The part may lack inputs, and has those of which the outputs are made.
    """
    kept = [limit for limit in limits if part.arrays.keys() >= set(limit.names)]
    if kept and part.stream is not None:
        return _outside_of_blocks(program, kept, part.stream, outputs)
    if all(limit.is_direct and _is_within(part.arrays[limit.names[0]], limit.count) for limit in kept):
        return None
    from compiler.choices.limits import outside  # the graphs, which a cached program does without

    return outside(driver.complete(program), kept, part.arrays, part.rows, outputs)


def _outside_of_blocks(
    program: Program, limits: Sequence[IndexLimit], stream: BlockStream, outputs: Sequence[str]
) -> Outside | None:
    for first, arrays in blocks_in_order(stream, 1):
        rows = np.arange(len(next(iter(arrays.values()))))
        found = _outside(program, limits, Part(arrays, rows), outputs)
        if found is not None:
            return replace(found, row=first + found.row)
    return None


def _is_within(values: Array, count: int) -> bool:
    return values.size == 0 or (int(values.min()) >= 0 and int(values.max()) < count)


def _places(limit: IndexLimit) -> str:
    what = "classes" if limit.is_class else "elements"
    where = "" if limit.place is None else f", in line {limit.place.line} of {limit.place.source.name}"
    return f"the {limit.count} {what}, 0 to {limit.count - 1}{where}"


def _fix(limit: IndexLimit, values: Array, value: int, place: Path | None) -> str:
    name = limit.names[0]
    if not limit.is_direct:
        return "correct the value, or the computation that uses it"
    least, most = int(values.min()), int(values.max())
    if least > 0 and most - least < limit.count:
        categories = f', or give csv `categories = ["{name}"]`' if place is not None and ".csv" in place.name else ""
        return f"the data counts from {least}: compute with `{name} - {least}` in the model{categories}"
    if value < 0:
        loss = f", or in a loss `ignore = {value}`" if limit.is_class else ""
        return f"correct the value, or mask the places that are left out: `where = {name} >= 0`{loss}"
    what = "classes" if limit.is_class else "elements"
    return f"correct the value, or let the model choose among {most + 1} {what}"
