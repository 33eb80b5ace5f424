"""Memory for programs: aligned arenas on large pages, and the persistent tensors of a model."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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


def _mapping_of(array: Array) -> object:
    """The object whose memory an array shows, through arrays, memory views and ctypes."""
    base: Any = array
    while True:
        if isinstance(base, np.ndarray):
            base = base.base
        elif isinstance(base, memoryview):
            base = base.obj
        elif isinstance(base, ctypes.Array):
            base = next(iter((base._objects or {}).values()), None)
        else:
            return base


def release(array: Array) -> None:
    """Give the whole pages of a mapped array back to the system; they hold zeros then. Others stay as they are."""
    mapped = _mapping_of(array)
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


class TensorContent:
    """What stores of the same tensors have in common: how often their content has changed.

    `away` has what brings a tensor back whose content lies on a device, by the address that it has in this process. The
    content of `lost` ones is nowhere, and what would bring it back raises an error.
    """

    def __init__(self) -> None:
        self.version = 0
        self.away: dict[int, Callable[[], None]] = {}
        self.lost = set[int]()

    def is_away(self, address: int) -> bool:
        """Whether a device has the content of a tensor."""
        return address in self.away and address not in self.lost

    def lose(self, addresses: Iterable[int], raise_error: Callable[[], None]) -> None:
        """Forget the content that a device has of some tensors."""
        for address in filter(self.is_away, addresses):
            self.lost.add(address)
            self.away[address] = raise_error

    def bring_back(self, addresses: Iterable[int]) -> None:
        """Have the content of tensors in this process."""
        for address in addresses:
            if address in self.away:
                self.away[address]()
                del self.away[address]

    def is_written(self, address: int) -> None:
        """Note that the content of a tensor is replaced in this process."""
        self.away.pop(address, None)
        self.lost.discard(address)


class _Tensor:
    """The array of a tensor, to which only views refer besides."""

    __slots__ = ("array",)

    def __init__(self, array: Array) -> None:
        self.array = array

    def references(self) -> int:
        return sys.getrefcount(self.array)


_NO_VIEWS = _Tensor(np.empty(0)).references()


def _size_of(spec: TensorSpec) -> int:
    return -(-max(1, int(np.prod(spec.shape, dtype=np.int64))) * spec.dtype.size // 64) * 64


def size_of_arena(specs: Sequence[TensorSpec]) -> int:
    """The bytes of an arena for tensors: whole pages, so that another may follow."""
    return -(-(sum(_size_of(spec) for spec in specs) + SLACK) // mmap.PAGESIZE) * mmap.PAGESIZE


class TensorStore:
    """The persistent tensors of a model, each a NumPy view of one arena, which may be given.

    Programs on the same tensors run one at a time, and share a `workspace`.
    `version` changes with their content: what programs derived from an earlier one is out of date. It does not with
    that of `borrowed` tensors, which others may change. Content that a device has comes back when it is asked for.
    """

    def __init__(self, specs: Sequence[TensorSpec], arena: Array | None = None) -> None:
        sizes = [_size_of(spec) for spec in specs]
        self._arena = reserve(sum(sizes)) if arena is None else arena
        self._tensors: dict[str, _Tensor] = {}
        self._addresses: dict[str, int] = {}
        self._kept: tuple[object, ...] = ()
        self.specs = tuple(specs)
        self.borrowed = frozenset[str]()
        self._content = TensorContent()
        self.workspace = Workspace()
        base, offset = self._arena.ctypes.data, 0
        for spec, size in zip(specs, sizes, strict=True):
            bytes_ = (ctypes.c_uint8 * size).from_buffer(self._arena.data, offset)
            # no view of another array: all views refer to this one
            array: Array = np.ndarray(spec.shape, numpy_dtype(spec.dtype), bytes_)  # type: ignore[arg-type]
            array.flags.writeable = False
            self._tensors[spec.name] = _Tensor(array)
            self._addresses[spec.name] = base + offset
            offset += size

    def extended(self, specs: Sequence[TensorSpec]) -> TensorStore:
        """These tensors, shared, and new ones, which are zero."""
        store = TensorStore(specs)
        store._kept = (self, store._arena)
        store._tensors.update(self._tensors)
        store._addresses.update(self._addresses)
        store.specs = (*self.specs, *store.specs)
        store.borrowed, store._content = self.borrowed, self._content
        return store

    def stretch(self, names: Sequence[str]) -> Array:
        """The memory of tensors of one type that lie one behind the other, as one row; between them are zeros."""
        first, *_, last = [self[name] for name in (names[0], *names)]
        begin = self._addresses[names[0]] - address_of(self._arena)
        end = self._addresses[names[-1]] - address_of(self._arena) + last.nbytes
        return self._arena[begin : -(-end // 64) * 64].view(first.dtype)

    def beside(self, arrays: Mapping[str, Array]) -> TensorStore:
        """These tensors, and others in memory that the caller holds; version and workspace are those of this store."""
        store = TensorStore(())
        store._kept = (self, dict(arrays))
        store._tensors = {**self._tensors, **{name: _Tensor(array) for name, array in arrays.items()}}
        store._addresses = {**self._addresses, **{name: address_of(array) for name, array in arrays.items()}}
        store._content, store.workspace = self._content, self.workspace
        store.borrowed = self.borrowed | frozenset(arrays)
        return store

    @property
    def content(self) -> TensorContent:
        """What stores of the same tensors have in common."""
        return self._content

    @property
    def version(self) -> int:
        """The version of the content, which is in this process then."""
        if self._content.away:
            self._content.bring_back(list(self._content.away))
        return self._content.version

    @version.setter
    def version(self, version: int) -> None:
        self._content.version = version

    def names(self) -> tuple[str, ...]:
        return tuple(self._tensors)

    def __getitem__(self, name: str) -> Array:
        if self._content.away:
            self._content.bring_back((self._addresses[name],))
        return self._tensors[name].array.view()

    def write(self, name: str, values: Array) -> None:
        array = self._tensors[name].array
        before, array.flags.writeable = array.flags.writeable, True  # the arena behind it is
        array[...] = values
        array.flags.writeable = before
        self._content.is_written(self._addresses[name])
        self.note_change()

    def note_change(self) -> None:
        """The content of some tensor, of these or of those beside them, was changed by no program of theirs."""
        self._content.version += 1

    def address(self, name: str) -> int:
        return self._addresses[name]

    def form(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """The shape and the element type of a tensor, wherever its content is."""
        array = self._tensors[name].array
        return array.shape, array.dtype

    def is_held(self, name: str) -> bool:
        """Whether somebody has a view of a tensor, or the tensor is borrowed."""
        return name in self.borrowed or self._tensors[name].references() > _NO_VIEWS


def allocated(specs: Sequence[TensorSpec], beside: Tensors | None = None) -> TensorStore:
    """Room for tensors, all zero, beside others, which stay shared."""
    if beside is None:
        return TensorStore(specs)
    assert isinstance(beside, TensorStore)
    return beside.extended(specs)
