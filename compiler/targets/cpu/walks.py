"""What walks over rows know of their rows: what repeats along them, and whether their length matters to the code."""

from __future__ import annotations

import math
from collections.abc import Sequence

from compiler.loops.ir import PERIOD_COLUMNS, REGISTER_COLUMNS, Kernel, Load, Reduce, Store, Walk
from compiler.targets.cpu.text import LANES
from compiler.types import BatchExtent


def repeating_loads(kernel: Kernel) -> list[Load]:
    """What repeats along the rows of a walk without reductions, such as numbers for each channel of an image."""
    if len(kernel.stages) != 1 or kernel.stages[0].after or any(isinstance(i, Reduce) for i in kernel.stages[0].body):
        return []
    loads = [i for i in kernel.stages[0].body if isinstance(i, Load) and i.index is None]
    found = [i for i in loads if len(i.access.columns) == 1 and i.access.columns[0].modulus is not None]
    plain = all((i.access.columns[0].divisor, i.access.columns[0].stride) == (1, 1) for i in found)
    return found if plain and period(found) <= PERIOD_COLUMNS else []


def period(loads: Sequence[Load]) -> int:
    """Columns after which all of them begin again, in whole vectors."""
    return math.lcm(LANES, *(load.access.columns[0].modulus or 1 for load in loads))


def has_free_columns(kernel: Kernel) -> bool:
    """Whether the number of columns of a walk over rows is an argument: rows that no registers or scratch hold.

    What repeats along such rows fits into them without a rest.
    """
    columns = kernel.columns
    if kernel.walk is not Walk.ROWS or kernel.total is not None or isinstance(columns, BatchExtent):
        return False
    if columns <= REGISTER_COLUMNS or any(b.is_scratch and b.elements for b in kernel.buffers):
        return False
    repeating = repeating_loads(kernel)
    return not repeating or columns % period(repeating) == 0


def moves_only(kernel: Kernel) -> bool:
    """Whether a walk over long rows only reads and writes."""
    body = [i for stage in kernel.stages for i in (*stage.body, *stage.after)]
    return has_free_columns(kernel) and all(isinstance(i, Load | Store) for i in body)
