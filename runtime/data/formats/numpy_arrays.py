"""The .npz and .npy files of NumPy: fields by name, without pickled objects."""

from __future__ import annotations

import io
import os
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from compiler.errors.diagnostics import DataError
from compiler.errors.suggestions import quoted
from runtime.data.dataset import Dataset, Field
from runtime.data.formats.format import Format, SourceRequest
from runtime.data.specs import Array
from runtime.support import regular_files
from runtime.support.files import explained, fingerprint

_LONGEST_HEADER = 1 << 17  # bytes; NumPy reads none of more than 10,000 characters
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
    return Dataset("npz", path, fields, unread=unread, fingerprints={path.name: fingerprint(path)})


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
        values = _array_of(file, os.fstat(file.fileno()).st_size, path, "the array")
    if len(request.wanted) != 1:
        message = f"an npy file holds one array, but the program has {quoted(sorted(request.wanted))}"
        raise DataError(message, path, fix="save the arrays in one npz file, each under its name")
    fields = {next(iter(request.wanted)): Field(values, path)}
    _expect_rows(fields, request)
    return Dataset("npy", path, fields, fingerprints={path.name: fingerprint(path)})


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
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        message = f"{what} is packed in a way that NumPy does not write (number {info.compress_type})"
        raise DataError(message, path, fix="save it with numpy.savez or numpy.savez_compressed")
    with archive.open(info) as stream:
        return _array_of(stream, info.file_size, path, what)


def _array_of(stream: IO[bytes], size: int, path: Path, what: str) -> Array:
    """The array of npy content of `size` bytes, which is compared with the header before more than that is read."""
    beginning = stream.read(_LONGEST_HEADER)
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
    needs = f"{what} of shape {shape} and dtype {dtype} needs {expected} bytes"
    if size - start != expected or min(shape, default=0) < 0:
        raise DataError(f"{needs}, but {size - start} follow", path, fix=_AGAIN)
    regular_files.expect_room(path, size, _COPIES)
    content = beginning + stream.read(max(size - len(beginning), 0))
    if len(content) != size:
        raise DataError(f"{needs}, but {len(content) - start} follow", path, fix=_AGAIN)
    values: Array = np.frombuffer(content, dtype, offset=start)
    values = values.reshape(shape, order="F" if fortran_order else "C")
    native = values.astype(dtype.newbyteorder("="), copy=False)
    if dtype.kind == "U":
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
NPZ = Format("npz", (".npz",), read_npz)
NPY = Format("npy", (".npy",), read_npy)
