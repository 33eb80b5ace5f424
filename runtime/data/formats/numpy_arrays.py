"""The .npz and .npy files of NumPy: fields by name, without pickled objects."""

from __future__ import annotations

import io
import lzma
import struct
import tokenize
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from compiler.diagnostics import DataError
from runtime.data.dataset import Dataset, Field
from runtime.data.formats.format import Format, Request
from runtime.data.specs import Array
from runtime.files import explain, fingerprint
from runtime.suggestions import quoted

_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
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


def read_npz(request: Request) -> Dataset:
    """The arrays that the program names; the others stay unread. All must have as many rows as each other."""
    path = request.path
    fields: dict[str, Field] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {name.removesuffix(".npy"): name for name in archive.namelist()}
            for name in sorted(members.keys() & request.wanted):
                fields[name] = Field(_array_of(archive.read(members[name]), path, f"array `{name}`"), path)
    except OSError as error:
        message, fix = explain(error)
        raise DataError(message, path, fix=fix) from error
    except _DAMAGE as error:
        raise DataError(f"this npz file is damaged ({error})", path, fix=_AGAIN) from error
    if not members:
        raise DataError("this npz file holds no arrays", path, fix="save it with numpy.savez(path, name=array, …)")
    unread = tuple(sorted(members.keys() - fields.keys()))
    return Dataset(
        "npz", path, fields, _rows_of(fields, path), unread=unread, fingerprints={path.name: fingerprint(path)}
    )


def read_npy(request: Request) -> Dataset:
    """The one array of an npy file, under the name of the program's only input."""
    path = request.path
    try:
        values = _array_of(path.read_bytes(), path, "the array")
    except OSError as error:
        message, fix = explain(error)
        raise DataError(message, path, fix=fix) from error
    if len(request.wanted) != 1:
        raise DataError(
            f"an npy file holds one array, but the program has {quoted(sorted(request.wanted))}",
            path,
            fix="save the arrays in one npz file, each under its name",
        )
    fields = {next(iter(request.wanted)): Field(values, path)}
    return Dataset("npy", path, fields, _rows_of(fields, path), fingerprints={path.name: fingerprint(path)})


def _rows_of(fields: dict[str, Field], path: Path) -> int:
    for name, found in fields.items():
        if found.values.ndim == 0:
            raise DataError(
                f"array `{name}` is a single number, not rows", path, fix="save an array whose first axis is the rows"
            )
    counts = {name: found.values.shape[0] for name, found in fields.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"`{name}` has {count}" for name, count in counts.items())
        raise DataError(f"the arrays differ in their number of rows: {listed}", path, fix="give all the same rows")
    if 0 in counts.values():
        raise DataError("the arrays have no rows", path, fix="save at least one row")
    return next(iter(counts.values()), 0)


def _array_of(content: bytes, path: Path, what: str) -> Array:
    """The array of npy content, its size checked against the header before anything is allocated."""
    shape, fortran_order, dtype, start = _header_of(content, path, what)
    if dtype.hasobject:
        raise DataError(
            f"{what} holds pickled Python objects, which are not read because they can run code",
            path,
            fix="save it with a number or text dtype, for example array.astype(numpy.float32)",
        )
    if dtype.kind not in "biufU" or dtype.itemsize == 0:
        raise DataError(f"{what} has dtype {dtype}, which is no number or text", path, fix="convert it to numbers")
    expected = dtype.itemsize
    for extent in shape:
        expected *= extent
    if len(content) - start != expected or min(shape, default=0) < 0:
        raise DataError(
            f"{what} of shape {shape} and dtype {dtype} needs {expected} bytes, but {len(content) - start} follow",
            path,
            fix=_AGAIN,
        )
    values: Array = np.frombuffer(content, dtype, offset=start)
    values = values.reshape(shape, order="F" if fortran_order else "C")
    native = values.astype(dtype.newbyteorder("="), copy=False)
    if dtype.kind == "U":
        _check_text(native, path, what)
    return native


def _check_text(values: Array, path: Path, what: str) -> None:
    codes = np.ascontiguousarray(values).view(np.uint32)
    if bool(((codes > 0x10FFFF) | ((codes >= 0xD800) & (codes < 0xE000))).any()):
        raise DataError(f"{what} holds text that is not Unicode", path, fix=_AGAIN)


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
NPZ = Format("npz", (".npz",), (), read_npz)
NPY = Format("npy", (".npy",), (), read_npy)
