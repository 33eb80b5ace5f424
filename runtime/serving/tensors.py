"""Tensors of the Open Inference Protocol, as JSON or as bytes, to arrays and back."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from itertools import chain
from typing import Any, cast

import numpy as np

from compiler.driver import Array
from compiler.errors.suggestions import did_you_mean
from compiler.support.record import record
from runtime.serving.refusals import Refusal

DATATYPES: dict[str, type[np.generic]] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.str_,
}
"""The datatypes of the protocol that a model can have, with NumPy's; BYTES holds texts in UTF-8."""
_NAMES = {np.dtype(kind).name: name for name, kind in DATATYPES.items() if name != "BYTES"}
# Numbers of f64 beyond it are rounded to infinity: from half a unit in the last place above the largest f16 or f32.
_LARGEST = {
    "FP16": float(np.nextafter(65520.0, 0)),
    "FP32": float(np.nextafter(float.fromhex("0x1.ffffffp127"), 0)),
    "FP64": float(np.finfo(np.float64).max),
}
_LENGTH = 4  # bytes before each text in binary data


@record
class TensorInfo:
    """A tensor that requests give or responses hold, without the axis of rows.

    `may_miss` tells that null stands for a missing number.
    """

    name: str
    datatype: str
    row: tuple[int, ...]
    may_miss: bool = False

    def metadata(self) -> dict[str, object]:
        """As the metadata of a model says it: -1 stands for any number of rows."""
        return {"name": self.name, "datatype": self.datatype, "shape": [-1, *self.row]}

    @property
    def shown(self) -> str:
        """`pixels FP32[rows, 64]`."""
        return f"{self.name} {self.datatype}[{', '.join(map(str, ('rows', *self.row)))}]"


def datatype_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a NumPy type."""
    return "BYTES" if dtype.kind in "UO" else _NAMES[dtype.name]


def array_of_json(info: TensorInfo, shape: tuple[int, ...], data: object, where: str) -> Array:
    """The array of a tensor whose elements are JSON values, flat or nested like `shape`. Raises Refusal."""
    if not isinstance(data, list):
        fix = "give a list of the elements, row by row"
        raise Refusal(400, f"`data` is {_kind(data)}, not a list", f"{where}.data", fix)
    flat = _flat(cast("list[object]", data), shape, where)
    count = math.prod(shape)
    if len(flat) != count:
        message = f"`data` has {len(flat)} elements, and the shape {list(shape)} has {count}"
        raise Refusal(422, message, f"{where}.data", "give as many elements as the shape has")
    if info.datatype == "BYTES":
        return _texts(flat, shape, where)
    return _numbers(info, flat, where).reshape(shape)


def _flat(data: list[object], shape: tuple[int, ...], where: str) -> list[object]:
    if not data or not isinstance(data[0], list):
        return data
    for depth, extent in enumerate(shape):
        if depth and not all(isinstance(part, list) and len(cast("list[object]", part)) == extent for part in data):
            message = f"at depth {depth + 1}, not every element of `data` is a list of {extent}"
            raise Refusal(422, message, f"{where}.data", f"nest the lists like the shape {list(shape)}, or give one")
        if depth:
            data = list(chain.from_iterable(cast("list[list[object]]", data)))
        elif len(data) != extent:
            message = f"`data` has {len(data)} rows, and the shape {list(shape)} has {extent}"
            raise Refusal(422, message, f"{where}.data", "give as many rows as the shape has")
    return data


def _texts(flat: list[object], shape: tuple[int, ...], where: str) -> Array:
    for place, element in enumerate(flat):
        if not isinstance(element, str):
            raise _wrong(element, "a text", where, place)
    found = np.empty(len(flat), np.object_)
    found[:] = flat
    return found.reshape(shape)


def _numbers(info: TensorInfo, flat: list[object], where: str) -> Array:
    """Numbers of JSON, each of the kind that the datatype has: strings, null and truth values are no numbers."""
    if info.datatype == "BOOL":
        for place, element in enumerate(flat):
            if not isinstance(element, bool):
                raise _wrong(element, "true or false", where, place)
        return np.array(flat, np.bool_)
    is_float = info.datatype.startswith("FP")
    if info.may_miss:
        flat = [math.nan if element is None else element for element in flat]
    held = "d" if is_float else "Q" if info.datatype == "UINT64" else "q"
    try:
        exact = np.frombuffer(array(held, cast("list[Any]", flat)), {"d": "f8", "q": "i8", "Q": "u8"}[held])
    except (TypeError, OverflowError):
        exact = None
    if exact is None or (bool in map(type, flat)):
        raise _first_wrong(flat, held, where)
    return in_datatype(exact, info, where)


def in_datatype(exact: Array, info: TensorInfo, where: str) -> Array:
    """Numbers of f64, f32 or i64 in the datatype of the tensor. Raises Refusal for the first that it cannot hold."""
    dtype = np.dtype(DATATYPES[info.datatype])
    if dtype.kind == "f":
        largest = _LARGEST[info.datatype]
        is_right = ~(np.abs(exact) > largest) if info.may_miss else np.abs(exact) <= largest
    else:
        limits = np.iinfo(dtype.name)
        is_right = (exact >= limits.min) & (exact <= limits.max)
    if is_right.all():
        return exact.astype(dtype, copy=False)
    place = int(np.argmin(is_right))
    message = f"element {place} is {exact.flat[place]}, which is no finite number of {info.datatype}"
    raise Refusal(422, message, f"{where}.data", "give a number that the datatype holds")


def _first_wrong(flat: Sequence[object], held: str, where: str) -> Refusal:
    is_float = held == "d"
    kinds = (int, float) if is_float else (int,)
    for place, element in enumerate(flat):
        if isinstance(element, bool) or not isinstance(element, kinds):
            return _wrong(element, "a number" if is_float else "a whole number", where, place)
    if held == "Q" and min(cast("Sequence[int]", flat)) < 0:
        return Refusal(422, "a number is below 0", f"{where}.data", "give numbers from 0 on")
    return Refusal(422, "a number is too large", f"{where}.data", "give numbers of at most 64 bits")


def _wrong(element: object, wanted: str, where: str, place: int) -> Refusal:
    message = f"element {place} is {_kind(element)}, not {wanted}"
    return Refusal(422, message, f"{where}.data[{place}]", f"give {wanted}")


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {value[:40]!r}"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return str(value)


def array_of_bytes(info: TensorInfo, shape: tuple[int, ...], raw: memoryview, where: str) -> Array:
    """The array of a tensor whose elements are little-endian bytes; a text has its length before it. Raises Refusal."""
    count = math.prod(shape)
    if info.datatype == "BYTES":
        return _texts_of_bytes(raw, count, where).reshape(shape)
    dtype = np.dtype(DATATYPES[info.datatype]).newbyteorder("<")
    if len(raw) != count * dtype.itemsize:
        message = f"there are {len(raw)} bytes, and {info.datatype}{list(shape)} has {count * dtype.itemsize}"
        raise Refusal(422, message, where, "let `binary_data_size` and `shape` say the same")
    found = np.frombuffer(raw, dtype)
    if dtype.kind == "f":
        return in_datatype(found, info, where).reshape(shape)
    if dtype.kind == "b" and (np.frombuffer(raw, np.uint8) > 1).any():
        raise Refusal(422, "a byte of BOOL is neither 0 nor 1", where, "give 0 for false and 1 for true")
    return found.astype(dtype.newbyteorder("="), copy=False).reshape(shape)


def _texts_of_bytes(raw: memoryview, count: int, where: str) -> Array:
    texts: list[str] = []
    place = 0
    while place < len(raw) and len(texts) < count:
        end = place + _LENGTH + int.from_bytes(raw[place : place + _LENGTH], "little")
        if end > len(raw):
            break
        try:
            texts.append(str(raw[place + _LENGTH : end], "utf-8"))
        except UnicodeDecodeError:
            message = f"element {len(texts)} is not UTF-8"
            raise Refusal(422, message, where, "encode texts as UTF-8") from None
        place = end
    if place != len(raw) or len(texts) != count:
        message = f"the {len(raw)} bytes do not hold {count} texts, each behind its length in four bytes"
        raise Refusal(422, message, where, "write each length as a little-endian number of four bytes")
    found = np.empty(count, np.object_)
    found[:] = texts
    return found


def json_elements(values: Array) -> object:
    """The elements row by row, as orjson writes them: a float in the shortest text that is read as the same number."""
    return values.reshape(-1).tolist() if values.dtype.kind in "UO" else np.ascontiguousarray(values).reshape(-1)


def bytes_of(values: Array) -> bytes:
    """The elements row by row in little-endian bytes."""
    if values.dtype.kind not in "UO":
        return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes()
    encoded = [str(text).encode() for text in values.flat]
    return b"".join(len(text).to_bytes(_LENGTH, "little") + text for text in encoded)


def unknown(kind: str, name: str, known: Sequence[str], where: str) -> Refusal:
    """A name in a request that the server or the model does not have."""
    fix = did_you_mean(name, known) or f"there are {', '.join(known)}"
    return Refusal(422, f"there is no {kind} `{name}`", where, fix)
