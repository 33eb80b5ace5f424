"""Which elements of its matrices each of the 32 threads of a `MultiplyMatrices` holds.

As in NVIDIA's "Parallel Thread Execution ISA", `mma.m16n8k16` for bf16 and `mma.m16n8k8` for tf32: thread t has all its
elements at fixed distances from a first one, which lies in row (or column) t // 4 and at the summed element t % 4 * n,
where n elements are in a register.
"""

from __future__ import annotations

from compiler.support.record import record
from compiler.types import Rounding

ROWS, COLUMNS = 16, 8
QUAD = 4  # neighbouring threads that have a row of the left matrix
IN_REGISTER = {Rounding.BF16: 2, Rounding.TF32: 1}


@record
class Fragment:
    """An element of a thread: its distances from the thread's first one, in lines (rows, or columns) and in the sum."""

    line: int
    element: int


def summed(rounding: Rounding) -> int:
    """The summed elements of both matrices."""
    return 2 * QUAD * IN_REGISTER[rounding]


def left_fragments(rounding: Rounding) -> tuple[Fragment, ...]:
    each, half = IN_REGISTER[rounding], summed(rounding) // 2
    return tuple(
        Fragment(ROWS // 2 * (register % 2), register // 2 * half + element)
        for register in range(4)
        for element in range(each)
    )


def right_fragments(rounding: Rounding) -> tuple[Fragment, ...]:
    each, half = IN_REGISTER[rounding], summed(rounding) // 2
    return tuple(Fragment(0, register * half + element) for register in range(2) for element in range(each))


SUMS = tuple((row, column) for row in (0, ROWS // 2) for column in (0, 1))
"""The rows and columns of a thread's sums behind its first one, in row t // 4 and column t % 4 * 2."""
