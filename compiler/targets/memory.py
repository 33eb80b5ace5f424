"""Memory for programs: aligned arenas on large pages, and the persistent tensors of a model."""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from compiler.interface import Tensors
from compiler.support.arrays import Array
from compiler.targets.manifest import TensorSpec
from compiler.types import numpy_dtype

LARGE_PAGE = 2 << 20
# On Windows all memory that no file lies behind is private, and there are no flags.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
SLACK = 1024  # bytes behind the last buffer of an arena, more than `READABLE_BEHIND`


def reserve(size: int) -> Array:
    """Zeroed bytes, aligned to 64, with slack behind; large stretches lie on large pages where the system has them."""
    size += SLACK
    if size < LARGE_PAGE:
        block = np.zeros(size + 64, np.uint8)
        start = -block.ctypes.data % 64
        return block[start : start + size]
    try:
        mapped = mmap.mmap(-1, (-(-size // LARGE_PAGE) + 1) * LARGE_PAGE, **_PRIVATE)
    except (OSError, OverflowError) as error:  # the system knows at once that it has not so much
        raise MemoryError from error
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a system may have no large pages to give
            mapped.madvise(mmap.MADV_HUGEPAGE)
    block = np.frombuffer(mapped, np.uint8)
    start = -block.ctypes.data % LARGE_PAGE
    return block[start : start + size]


def address_of(array: Array) -> int:
    """Where an array lies; faster than `array.ctypes.data`."""
    return array.__array_interface__["data"][0]


def release(array: Array) -> None:
    """Give the whole pages of a mapped array back to the system; they hold zeros then. Others stay as they are."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    mapped = base.obj if isinstance(base, memoryview) else base
    if not isinstance(mapped, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = address_of(array) - address_of(np.frombuffer(mapped, np.uint8))
    begin, end = -(-start // mmap.PAGESIZE) * mmap.PAGESIZE, (start + array.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
    if end > begin:
        mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)


class Workspace:
    """Memory that programs use in turn. `user` stands for the one whose values it holds."""

    def __init__(self) -> None:
        self.block = reserve(0)
        self.user: object = None

    def reserve(self, size: int) -> bool:
        """Room for so many bytes; whether the content was lost."""
        if size <= len(self.block):
            return False
        self.block = reserve(size)
        return True


class _Content:
    """What stores of the same tensors have in common: how often their content has changed."""

    def __init__(self) -> None:
        self.version = 0


class TensorStore:
    """The persistent tensors of a model, each a NumPy view of one arena.

    Programs on the same tensors run one at a time, and share a `workspace`.
    `version` changes with their content: what programs derived from an earlier one is out of date. It does not with
    that of `borrowed` tensors, which others may change.
    """

    def __init__(self, specs: Sequence[TensorSpec]) -> None:
        sizes = [-(-max(1, int(np.prod(s.shape, dtype=np.int64))) * s.dtype.size // 64) * 64 for s in specs]
        self._arena = reserve(sum(sizes))
        self._arrays: dict[str, Array] = {}
        self._addresses: dict[str, int] = {}
        self._kept: tuple[object, ...] = ()
        self.specs = tuple(specs)
        self.borrowed = frozenset[str]()
        self._content = _Content()
        self.workspace = Workspace()
        base, offset = self._arena.ctypes.data, 0
        for spec, size in zip(specs, sizes, strict=True):
            count = int(np.prod(spec.shape, dtype=np.int64))
            raw = self._arena[offset : offset + count * spec.dtype.size]
            self._arrays[spec.name] = raw.view(numpy_dtype(spec.dtype)).reshape(spec.shape)
            self._arrays[spec.name].flags.writeable = False
            self._addresses[spec.name] = base + offset
            offset += size

    def extended(self, specs: Sequence[TensorSpec]) -> TensorStore:
        """These tensors, shared, and new ones, which are zero."""
        store = TensorStore(specs)
        store._kept = (self, store._arena)
        store._arrays.update(self._arrays)
        store._addresses.update(self._addresses)
        store.specs = (*self.specs, *store.specs)
        store.borrowed, store._content = self.borrowed, self._content
        return store

    def stretch(self, names: Sequence[str]) -> Array:
        """The memory of tensors of one type that lie one behind the other, as one row; between them are zeros."""
        first, last = self._arrays[names[0]], self._arrays[names[-1]]
        begin = self._addresses[names[0]] - address_of(self._arena)
        end = self._addresses[names[-1]] - address_of(self._arena) + last.nbytes
        return self._arena[begin : -(-end // 64) * 64].view(first.dtype)

    def beside(self, arrays: Mapping[str, Array]) -> TensorStore:
        """These tensors, and others in memory that the caller holds; version and workspace are those of this store."""
        store = TensorStore(())
        store._kept = (self, dict(arrays))
        store._arrays = {**self._arrays, **arrays}
        store._addresses = {**self._addresses, **{name: address_of(array) for name, array in arrays.items()}}
        store._content, store.workspace = self._content, self.workspace
        store.borrowed = self.borrowed | frozenset(arrays)
        return store

    @property
    def content(self) -> object:
        """What stores of the same tensors have in common."""
        return self._content

    @property
    def version(self) -> int:
        return self._content.version

    @version.setter
    def version(self, version: int) -> None:
        self._content.version = version

    def names(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    def __getitem__(self, name: str) -> Array:
        return self._arrays[name]

    def write(self, name: str, values: Array) -> None:
        array = self._arrays[name]
        before, array.flags.writeable = array.flags.writeable, True  # the arena behind it is
        array[...] = values
        array.flags.writeable = before
        self.note_change()

    def note_change(self) -> None:
        """The content of some tensor, of these or of those beside them, was changed by no program of theirs."""
        self.version += 1

    def address(self, name: str) -> int:
        return self._addresses[name]


def allocated(specs: Sequence[TensorSpec], beside: Tensors | None = None) -> TensorStore:
    """Room for tensors, all zero, beside others, which stay shared."""
    if beside is None:
        return TensorStore(specs)
    assert isinstance(beside, TensorStore)
    return beside.extended(specs)
