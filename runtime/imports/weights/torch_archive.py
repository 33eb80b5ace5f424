"""A file of `torch.save` to its tensors: its pickle is read by names of a short list, and no code of the file runs.

Two forms are read: zip archives (since PyTorch 1.6) and the pickles with raw storages before it. PyTorch,
`torch/serialization.py`, describes both.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import CheckpointError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from compiler.targets.available_memory import expect_memory
from runtime.imports.weights.expressions import Extents

# Storage types of PyTorch: how their bytes are read, and the name that a message gives them.
_STORAGES = {
    "DoubleStorage": ("<f8", "f64"),
    "FloatStorage": ("<f4", "f32"),
    "HalfStorage": ("<f2", "f16"),
    "BFloat16Storage": ("<u2", "bf16"),
    "LongStorage": ("<i8", "i64"),
    "IntStorage": ("<i4", "i32"),
    "ShortStorage": ("<i2", "i16"),
    "CharStorage": ("<i1", "i8"),
    "ByteStorage": ("<u1", "u8"),
    "BoolStorage": ("<u1", "bool"),
}
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the old form
_MOST_LEVELS = 16  # of dicts in dicts
_MOST_AXES = 32
_DAMAGES = (
    pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, KeyError, IndexError, OverflowError,
    UnicodeError, RecursionError, struct.error, zipfile.BadZipFile, zlib.error, NotImplementedError, ImportError,
)  # fmt: skip
_ARCHIVE = b"PK\x03\x04"  # the first bytes of a zip archive
_AGAIN = "fetch the file again, or save it again"
_SAVE = "save the tensors alone, in PyTorch: torch.save(model.state_dict(), FILE)"
# Opcodes that build values, or call a name of the list at the end; those with names of a registry are absent.
_OPCODES = """
    PROTO FRAME STOP MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES
    SHORT_BINBYTES BINBYTES8 EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT DICT
    SETITEM SETITEMS PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE BUILD
    BINPERSID NEWOBJ NEWOBJ_EX OBJ INST
"""


@record
class StoredTensors:
    """Tensors by name in the order of the file, and the element types that were turned into f32, with their number."""

    tensors: Mapping[str, Array]
    converted: Mapping[str, int]
    notes: tuple[str, ...] = ()


@record
class _Storage:
    kind: str
    key: str
    count: int


@record
class _View:
    """A tensor of the pickle: elements of a storage."""

    storage: _Storage
    offset: int
    size: Extents
    strides: Extents


class _Entries(dict[object, object]):
    """`OrderedDict`; what PyTorch sets on it beside its entries is dropped."""

    def __setstate__(self, _state: object) -> None:
        return


class _Refused(Exception):
    """A name that stands for more than a tensor."""


def read_torch(path: Path, file: BinaryIO) -> StoredTensors:
    """All tensors of a file of `torch.save`. Raises CheckpointError, and ResourceError where they do not fit."""
    try:
        file.seek(0)
        if zipfile.is_zipfile(file):
            return _of_archive(path, file)
        file.seek(0)
        if file.read(4) == _ARCHIVE:
            raise CheckpointError("this zip archive of torch.save is cut off", path, _AGAIN)
        file.seek(0)
        return _of_pickles(path, file)
    except _Refused as refusal:
        message = f"it names `{refusal}`, which is no part of a tensor; nothing of it was run"
        raise CheckpointError(message, path, _SAVE) from None
    except _DAMAGES as error:
        raise CheckpointError(f"this is no whole file of torch.save ({_in_words(error)})", path, _AGAIN) from error


def _in_words(error: Exception) -> str:
    return str(error) or type(error).__name__


# Zip archives


def _of_archive(path: Path, file: BinaryIO) -> StoredTensors:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        head = next((name for name in members if name == "data.pkl" or name.endswith("/data.pkl")), None)
        if head is None:
            raise CheckpointError("this zip archive holds no `data.pkl`, so torch.save did not write it", path, _SAVE)
        folder = head.removesuffix("data.pkl")
        if f"{folder}constants.pkl" in members:
            raise CheckpointError("this is a TorchScript archive: it holds a program", path, _SAVE)
        _expect_stored(path, members, file)
        if members.get(f"{folder}byteorder") and archive.read(f"{folder}byteorder").strip() == b"big":
            raise CheckpointError("its numbers are big-endian", path, "save it again on a usual machine")
        root = _unpickled(io.BytesIO(archive.read(head)))
        kept: dict[str, bytes] = {}

        def content(storage: _Storage) -> bytes:
            if storage.key not in kept:
                kept[storage.key] = archive.read(f"{folder}data/{storage.key}")
            return kept[storage.key]

        return _tensors_of(path, root, content)


def _expect_stored(path: Path, members: Mapping[str, zipfile.ZipInfo], file: BinaryIO) -> None:
    """PyTorch packs nothing: so an archive has no more bytes inside than it has itself."""
    if any(info.compress_type != zipfile.ZIP_STORED for info in members.values()):
        raise CheckpointError("this zip archive is compressed, so torch.save did not write it", path, _SAVE)
    size = file.seek(0, io.SEEK_END)
    if sum(info.file_size for info in members.values()) > size:
        raise CheckpointError("the parts of this zip archive overlap", path, _AGAIN)


# The form before PyTorch 1.6: five pickles, then each storage as its number of elements and their bytes


def _of_pickles(path: Path, file: BinaryIO) -> StoredTensors:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(512)
    if start[257:262] == b"ustar":
        raise CheckpointError("this is the tar form of PyTorch before 0.1.10, which is not read", path, _SAVE)
    file.seek(0)
    if _unpickled(file) != _MAGIC:
        raise CheckpointError("this pickle is no file of torch.save", path, _SAVE)
    _protocol, _system = _unpickled(file), _unpickled(file)
    root = _unpickled(file)
    keys = _unpickled(file)
    if not isinstance(keys, list):
        raise pickle.UnpicklingError("no list of storages")
    kinds = {view.storage.key: view.storage.kind for _, view in _views(root)}
    kept: dict[str, bytes] = {}
    for key in cast("list[object]", keys):
        (count,) = struct.unpack("<q", file.read(8))
        width = np.dtype(_STORAGES[kinds[str(key)]][0]).itemsize if str(key) in kinds else None
        if width is None or not 0 <= count * width <= size:
            raise pickle.UnpicklingError(f"storage {key} is of no tensor, or larger than the file")
        kept[str(key)] = file.read(count * width)
    return _tensors_of(path, root, lambda storage: kept[storage.key])


# Pickles


class _TensorUnpickler(pickle.Unpickler):
    """Knows the names that rebuild tensors, as plain records, and refuses all others."""

    def find_class(self, module_name: str, global_name: str, /) -> object:
        known = _KNOWN.get((module_name, global_name))
        if known is not None:
            return known
        if module_name in ("torch", "torch.storage") and global_name in _STORAGES:
            return global_name
        raise _Refused(f"{module_name}.{global_name}")

    def persistent_load(self, pid: object, /) -> object:
        match pid:
            # the old form has a sixth item: a view of another storage, which is not read
            case ("storage", str(kind), str(key), str(), int(count)) if kind in _STORAGES and count >= 0:
                return _Storage(kind, key, count)
            case ("storage", str(kind), str(key), str(), int(count), None) if kind in _STORAGES and count >= 0:
                return _Storage(kind, key, count)
            case _:
                raise pickle.UnpicklingError("a reference that is no storage of a known type")


def _unpickled(file: BinaryIO) -> object:
    """The value of the pickle at the place of the file, behind which the file then stands."""
    begin = file.tell()
    try:
        _expect_known_opcodes(file)
        content = file.tell() - begin
        file.seek(begin)
        return _TensorUnpickler(io.BytesIO(file.read(content)), encoding="utf-8").load()
    except MemoryError:  # the pickle itself is small: a length in it is a lie
        raise pickle.UnpicklingError("a part of the pickle declares more bytes than there are") from None


def _expect_known_opcodes(file: BinaryIO) -> None:
    """Go through the pickle, and stop behind it. Raises UnpicklingError."""
    known = frozenset(_OPCODES.split())
    for count, (opcode, argument, _place) in enumerate(pickletools.genops(file), 1):
        if opcode.name not in known:
            raise pickle.UnpicklingError(f"the pickle has a `{opcode.name}`, which no tensor needs")
        if "PUT" in opcode.name and opcode.name != "MEMOIZE" and not 0 <= int(str(argument)) <= count:
            raise pickle.UnpicklingError("a memory of the pickle is larger than the pickle")


def _rebuilt(storage: object, offset: object, size: object, strides: object, *_: object) -> _View:
    if isinstance(storage, _Storage) and isinstance(size, tuple) and isinstance(strides, tuple):
        extents, steps = cast("Extents", size), cast("Extents", strides)
        numbers = (cast("int", offset), *extents, *steps)
        if len(extents) == len(steps) <= _MOST_AXES and all(type(n) is int and n >= 0 for n in numbers):
            return _View(storage, numbers[0], extents, steps)
    raise pickle.UnpicklingError("a tensor without a size")


def _same(value: object, *_: object) -> object:
    return value


_KNOWN: dict[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): _Entries,
    ("torch._utils", "_rebuild_tensor"): _rebuilt,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuilt,
    ("torch._utils", "_rebuild_parameter"): _same,
    ("torch", "Size"): _same,
}


def _views(root: object) -> Iterator[tuple[str, _View]]:
    """The tensors in dicts and lists, by the names on the way to them. Each dict is visited once."""
    seen: set[int] = set()

    def below(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, _View]]:
        if isinstance(value, _View):
            yield ".".join(path), value
            return
        if not isinstance(value, dict | list | tuple) or id(cast("object", value)) in seen:
            return
        if len(path) > _MOST_LEVELS:
            raise pickle.UnpicklingError("its dicts are nested too deeply")
        seen.add(id(cast("object", value)))
        items = dict(enumerate(cast("list[object]", value))) if not isinstance(value, dict) else cast("object", value)
        for key, inner in cast("dict[object, object]", items).items():
            yield from below(inner, (*path, str(key)))

    yield from below(root, ())


def _state_of(path: Path, root: object) -> tuple[object, tuple[str, ...]]:
    """The part of a checkpoint that holds the model's tensors, and a remark where it is a part."""
    if not isinstance(root, dict):
        return root, ()
    entries = cast("dict[object, object]", root)
    if any(isinstance(value, _View) for value in entries.values()):
        return entries, ()
    holding = [key for key, value in entries.items() if _has_tensors(value)]
    usual = [key for key in ("state_dict", "model_state_dict", "model", "net", "weights") if key in holding]
    if not usual and len(holding) > 1:
        named = quoted(str(key) for key in holding)
        raise CheckpointError(f"several entries hold tensors: {named}", path, "save one of them alone")
    chosen = (usual or holding)[:1]
    left = [str(key) for key in entries if key not in chosen]
    if not chosen:
        return entries, ()
    without = f"; not read: {quoted(left)}" if left else ""
    return entries[chosen[0]], (f"the tensors are those of the entry `{chosen[0]}`{without}",)


def _has_tensors(value: object) -> bool:
    return isinstance(value, dict) and next(_views(cast("object", value)), None) is not None


def _tensors_of(path: Path, root: object, content: Callable[[_Storage], bytes]) -> StoredTensors:
    state, notes = _state_of(path, root)
    views = dict(_views(state))
    if not views:
        raise CheckpointError("it holds no tensor", path, _SAVE)
    total = {name: int(np.prod([1, *map(float, view.size)])) for name, view in views.items()}
    expect_memory(f"reading {path}", {"its tensors": 8 * sum(total.values())}, "")
    converted: dict[str, int] = {}
    tensors = {name: _array(path, name, view, content, converted) for name, view in views.items()}
    return StoredTensors(tensors, converted, notes)


def _array(
    path: Path, name: str, view: _View, content: Callable[[_Storage], bytes], converted: dict[str, int]
) -> Array:
    code, kind = _STORAGES[view.storage.kind]
    flat: Array = np.frombuffer(content(view.storage), np.dtype(code))
    last = view.offset + sum((n - 1) * step for n, step in zip(view.size, view.strides, strict=True))
    if 0 not in view.size and last >= len(flat):
        message = f"tensor `{name}` of shape {list(view.size)} reaches beyond its storage"
        raise CheckpointError(message, path, _AGAIN)
    if 0 in view.size:
        flat, last = np.zeros(0, flat.dtype), -1
        strides = tuple(0 for _ in view.size)
    else:
        strides = tuple(step * flat.itemsize for step in view.strides)
    values = (
        np.lib.stride_tricks.as_strided(flat[view.offset :], view.size, strides)
        if last >= 0
        else flat.reshape(view.size)
    )
    if kind in ("bf16", "f16"):
        converted[kind] = converted.get(kind, 0) + 1
    if kind == "bf16":
        return (np.ascontiguousarray(values).astype(np.uint32) << 16).view(np.float32)
    if kind == "bool":
        return np.ascontiguousarray(values) != 0
    return np.array(values, np.float32 if kind == "f16" else None, order="C")
