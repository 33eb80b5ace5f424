"""The .npz and .npy files of NumPy: fields by name, without pickled objects."""

from __future__ import annotations

import io
import math
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.data.dataset import BlockSource, Dataset, Field, RowBlock
from runtime.data.decoded import mapped
from runtime.data.formats.format import Format, SourceRequest
from runtime.data.specs import Array
from runtime.support import regular_files
from runtime.support.files import explained, fingerprints

_LONGEST_HEADER = 1 << 17  # bytes; NumPy reads none of more than 10,000 characters
_LOCAL_HEAD = 30  # bytes before the name of a member of a zip file
_MAPPED = 1 << 26  # bytes from which on an array is mapped
_BLOCK_BYTES = 1 << 22
_COPIES = 3  # the content, while it is put together and while an array is made of it
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    OverflowError,
    KeyError,
    SyntaxError,
    TypeError,
    tokenize.TokenError,
    Warning,
)


def read_npz(request: SourceRequest) -> Dataset:
    """The arrays that the program names; the others stay unread. All must have as many rows as each other."""
    path = request.path
    fields, unread = npz_fields(path, request.wanted)
    _expect_rows(fields, request)
    return Dataset("npz", path, fields, unread=unread, fingerprints=fingerprints([path]))


def npz_fields(path: Path, wanted: frozenset[str]) -> tuple[dict[str, Field], tuple[str, ...]]:
    """The arrays of those names, of any shape, and the names of the others. Raises DataError."""
    fields: dict[str, Field] = {}
    try:
        with explained(DataError, path), regular_files.opened(path) as file, zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            for name in sorted(members.keys() & wanted):
                fields[name] = Field(_member(archive, members[name], path, f"array `{name}`"), path)
    except _DAMAGE as error:
        raise DataError(f"this npz file is damaged ({error})", path, fix=_AGAIN) from error
    if not members:
        raise DataError("this npz file holds no arrays", path, fix="save it with numpy.savez(path, name=array, …)")
    return fields, tuple(sorted(members.keys() - fields.keys()))


def read_npy(request: SourceRequest) -> Dataset:
    """The one array of an npy file, under the name of the program's only input."""
    path = request.path
    with explained(DataError, path), regular_files.opened(path) as file:
        values = _array_of(file, os.fstat(file.fileno()).st_size, path, "the array", (file, 0))
    fields = {_only_name(request): Field(values, path)}
    _expect_rows(fields, request)
    return Dataset("npy", path, fields, fingerprints=fingerprints([path]))


def _only_name(request: SourceRequest) -> str:
    if len(request.wanted) != 1:
        message = f"an npy file holds one array, but the program has {quoted(sorted(request.wanted))}"
        raise DataError(message, request.path, fix="save the arrays in one npz file, each under its name")
    return next(iter(request.wanted))


def stream_npz(request: SourceRequest) -> BlockSource:
    """As `read_npz`; packed arrays are unpacked block by block."""
    path = request.path
    with _opened_archive(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        found = {name: members[name] for name in sorted(members.keys() & request.wanted)}
        heads = {name: _head_of(archive, info, path, f"array `{name}`") for name, info in found.items()}
    fields = {name: Field(np.empty((0, *head.shape[1:]), head.native), path) for name, head in heads.items()}
    counts = {name: Field(np.broadcast_to(np.zeros(1), head.shape[:1]), path) for name, head in heads.items()}
    _expect_rows(counts, request)

    def blocks(wanted: Sequence[str]) -> Iterator[RowBlock]:
        with _opened_archive(path) as archive, ExitStack() as held:
            opened = {name: held.enter_context(archive.open(found[name])) for name in wanted}
            yield from _blocks_of({name: (opened[name], heads[name]) for name in wanted}, path)

    head = Dataset("npz", path, fields, unread=tuple(sorted(members.keys() - found.keys())))
    return BlockSource(head, (path,), blocks, lambda: fingerprints([path]))


def stream_npy(request: SourceRequest) -> BlockSource:
    """As `read_npy`."""
    path = request.path
    with explained(DataError, path), regular_files.opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        head = _Head(*_checked_header(file.read(_LONGEST_HEADER), size, path, "the array"))
    name = _only_name(request)
    _expect_rows({name: Field(np.broadcast_to(np.zeros(1), head.shape[:1]), path)}, request)

    def blocks(wanted: Sequence[str]) -> Iterator[RowBlock]:
        with explained(DataError, path), regular_files.opened(path) as file:
            yield from _blocks_of(dict.fromkeys(wanted, (file, head)), path)

    fields = {name: Field(np.empty((0, *head.shape[1:]), head.native), path)}
    return BlockSource(Dataset("npy", path, fields), (path,), blocks, lambda: fingerprints([path]))


@record
class _Head:
    """The header of an array: its shape, whether columns come first, its type, and where its numbers begin."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]
    start: int

    @property
    def native(self) -> np.dtype[np.generic]:
        return self.dtype.newbyteorder("=")


@contextmanager
def _opened_archive(path: Path) -> Generator[zipfile.ZipFile]:
    try:
        with explained(DataError, path), regular_files.opened(path) as file, zipfile.ZipFile(file) as archive:
            yield archive
    except _DAMAGE as error:
        raise DataError(f"this npz file is damaged ({error})", path, fix=_AGAIN) from error


def _head_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, what: str) -> _Head:
    _expect_known_packing(info, path, what)
    with archive.open(info) as stream:
        return _Head(*_checked_header(stream.read(_LONGEST_HEADER), info.file_size, path, what))


def _blocks_of(arrays: Mapping[str, tuple[IO[bytes], _Head]], path: Path) -> Iterator[RowBlock]:
    """The rows of arrays that are read side by side, a few megabytes at a time."""
    for name, (stream, head) in arrays.items():
        if head.fortran_order and len(head.shape) > 1:
            message = f"array `{name}` lies column by column (Fortran order), so that no row can be read by itself"
            raise DataError(message, path, fix="save it by rows: numpy.ascontiguousarray(array)", key="stream")
        stream.read(head.start)
    rows = next(iter(arrays.values()))[1].shape[0]
    sizes = {n: head.dtype.itemsize * math.prod(head.shape[1:]) for n, (_, head) in arrays.items()}
    each = max(1, _BLOCK_BYTES // max(1, sum(sizes.values())))
    for first in range(0, rows, each):
        count = min(each, rows - first)
        found: dict[str, Array] = {}
        for name, (stream, head) in arrays.items():
            content = stream.read(count * sizes[name])
            if len(content) != count * sizes[name]:
                raise DataError(f"array `{name}` ends early", path, first + len(content) // max(1, sizes[name]), _AGAIN)
            values = np.frombuffer(content, head.dtype).reshape(count, *head.shape[1:])
            found[name] = _native(values, path, f"array `{name}`")
        yield RowBlock(found, path, np.arange(first + 1, first + count + 1, dtype=np.int64))


def _expect_rows(fields: dict[str, Field], request: SourceRequest) -> None:
    """That all arrays have rows, and as many of them."""
    path = request.path
    for name, found in fields.items():
        if found.values.ndim == 0:
            raise DataError(
                f"array `{name}` is a single number, not rows", path, fix="save an array whose first axis is the rows"
            )
    counts = {name: found.values.shape[0] for name, found in fields.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` has {count}" for name, count in counts.items())
        raise DataError(f"the arrays differ in their number of rows: {listed}", path, fix="give all the same rows")
    if 0 in counts.values() and not request.may_be_empty:
        raise DataError("the arrays have no rows", path, fix="save at least one row")


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, what: str) -> Array:
    """An array of an npz file. NumPy packs by deflate, which is unpacked piece by piece; other ways are not."""
    _expect_known_packing(info, path, what)
    with archive.open(info) as stream:
        return _array_of(stream, info.file_size, path, what, _place_of(archive, info))


def _expect_known_packing(info: zipfile.ZipInfo, path: Path, what: str) -> None:
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        message = f"{what} is packed in a way that NumPy does not write (number {info.compress_type})"
        raise DataError(message, path, fix="save it with numpy.savez or numpy.savez_compressed")


def _place_of(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[IO[bytes], int] | None:
    """The file and the place in it of a member that is not packed."""
    if info.compress_type != zipfile.ZIP_STORED or archive.fp is None:
        return None
    before = archive.fp.tell()
    archive.fp.seek(info.header_offset)
    head = archive.fp.read(_LOCAL_HEAD)
    archive.fp.seek(before)
    name, extra = struct.unpack("<HH", head[-4:])
    return archive.fp, info.header_offset + _LOCAL_HEAD + name + extra


def _array_of(stream: IO[bytes], size: int, path: Path, what: str, place: tuple[IO[bytes], int] | None = None) -> Array:
    """The array of npy content of `size` bytes, which is compared with the header before more than that is read.

    A large one that lies in a file as it is in memory, at its `place`, is mapped and not read.
    """
    beginning = stream.read(_LONGEST_HEADER)
    shape, fortran_order, dtype, start = _checked_header(beginning, size, path, what)
    if place is not None and size >= _MAPPED and (place[1] + start) % dtype.itemsize == 0 and dtype.kind != "U":
        try:
            raw = mapped(place[0], path, place[1] + start, (size - start,))
        except OSError:
            regular_files.expect_room(path, size, _COPIES)  # which says how much there is, where that is the reason
            raise
        return _native(raw.view(dtype).reshape(shape, order="F" if fortran_order else "C"), path, what)
    regular_files.expect_room(path, size, _COPIES)
    content = beginning + stream.read(max(size - len(beginning), 0))
    if len(content) != size:
        needs = f"{what} of shape {shape} and dtype {dtype} needs {size - start} bytes"
        raise DataError(f"{needs}, but {len(content) - start} follow", path, fix=_AGAIN)
    values: Array = np.frombuffer(content, dtype, offset=start)
    return _native(values.reshape(shape, order="F" if fortran_order else "C"), path, what)


def _checked_header(
    beginning: bytes, size: int, path: Path, what: str
) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    """What the header says of npy content of `size` bytes: shape, order, type, and where the numbers begin."""
    shape, fortran_order, dtype, start = _header_of(beginning, path, what)
    if dtype.hasobject:
        message = f"{what} holds pickled Python objects, which are not read because they can run code"
        fix = "save it with a number or text dtype, for example array.astype(numpy.float32)"
        raise DataError(message, path, fix=fix)
    if dtype.kind not in "biufU" or dtype.itemsize == 0:
        raise DataError(f"{what} has dtype {dtype}, which is no number or text", path, fix="convert it to numbers")
    expected = dtype.itemsize
    for extent in shape:
        expected *= extent
    if size - start != expected or min(shape, default=0) < 0:
        needs = f"{what} of shape {shape} and dtype {dtype} needs {expected} bytes"
        raise DataError(f"{needs}, but {size - start} follow", path, fix=_AGAIN)
    return shape, fortran_order, dtype, start


def _native(values: Array, path: Path, what: str) -> Array:
    """The values in this machine's order of bytes, whose texts are Unicode."""
    native = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype.kind == "U":
        codes = np.ascontiguousarray(native).view(np.uint32)
        if bool(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any()):
            raise DataError(f"{what} holds text that is not Unicode", path, fix=_AGAIN)
    return native


def _header_of(content: bytes, path: Path, what: str) -> tuple[tuple[int, ...], bool, np.dtype[np.generic], int]:
    stream = io.BytesIO(content)
    try:
        with warnings.catch_warnings():
            # A header that NumPy warns about was not written by NumPy 1.0 or later.
            warnings.simplefilter("error")
            version = npy.read_magic(stream)
            if version == (1, 0):
                header = npy.read_array_header_1_0(stream)
            elif version == (2, 0):
                header = npy.read_array_header_2_0(stream)
            else:
                raise ValueError(f"version {version[0]}.{version[1]} of the format is not known")
    except _DAMAGE as error:
        raise DataError(f"{what} has a damaged npy header ({error})", path, fix=_AGAIN) from error
    shape, fortran_order, dtype = header
    return shape, fortran_order, dtype, stream.tell()


_AGAIN = "write or fetch the file again"
NPZ = Format("npz", (".npz",), read_npz, stream_npz)
NPY = Format("npy", (".npy",), read_npy, stream_npy)
