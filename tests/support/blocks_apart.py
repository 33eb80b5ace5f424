"""Blocks of a loop's kernel that each have memory of their own, as far as a device does not promise more.

Each block reads and writes a view of the memory. At a fence, what it wrote since the last one is put into the memory
that all share, and its view is filled from there: so without one, others do not see what it wrote, nor it what they
did. The counter, on which all additions are atomic, lies in the shared memory.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import numpy as np

FENCE = ctypes.CFUNCTYPE(None, ctypes.c_int64)
RUN = ctypes.CFUNCTYPE(
    ctypes.c_int64, *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64), FENCE
)


class WaitsForEver(Exception):
    """No block can go on."""


class _View:
    """The memory as a block sees it: of all that is shared, a copy, and what that was behind the last fence."""

    def __init__(self, shared: Sequence[np.ndarray]) -> None:
        self.shared = shared
        self.copies = [block.copy() for block in shared]
        self.before = [block.copy() for block in shared]

    def fence(self) -> None:
        for shared, copy, before in zip(self.shared, self.copies, self.before, strict=True):
            np.copyto(shared, copy, where=copy != before)
            np.copyto(copy, shared)
            np.copyto(before, shared)

    def word(self, word: int) -> int:
        """A word of the kernel, which is an address in the view where it was one in the shared memory."""
        for shared, copy in zip(self.shared, self.copies, strict=True):
            if 0 <= word - shared.ctypes.data < shared.size:
                return word - shared.ctypes.data + copy.ctypes.data
        return word


def run_blocks(
    address: int, words: Sequence[int], memory: Mapping[int, np.ndarray], blocks: int, resident: int, random: Random
) -> None:
    """Run the function `run` of an emulated loop, in a random order. Raises WaitsForEver."""
    *given, counter = words
    shared = [m for begin, m in memory.items() if any(begin <= word < begin + m.size for word in given)]
    views = [_View(shared) for _ in range(blocks)]
    table = np.array([[*map(view.word, given), counter] for view in views], np.int64)
    order: Any = ctypes.c_int64(random.getrandbits(60))
    code = RUN(address)(table.ctypes.data, table.strides[0], blocks, resident, order, FENCE(lambda k: views[k].fence()))
    if code:
        raise WaitsForEver
    random.shuffle(views)
    for view in views:  # the end of a kernel is a fence, too
        view.fence()
