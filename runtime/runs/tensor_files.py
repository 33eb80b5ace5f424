"""Named tensors in safetensors files: streamed out without a copy, and checked when they are read back."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol, cast

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open  # pyright: ignore[reportUnknownVariableType]

from compiler.driver import Array
from compiler.errors.diagnostics import CheckpointError
from compiler.errors.suggestions import nearest, quoted
from compiler.support.record import record
from compiler.targets.available_memory import expect_memory
from runtime.support import regular_files
from runtime.support.files import explained, replace_file, write_bytes

_SIZES = {"F": (8, 4, 2), "I": (8, 4, 2, 1), "U": (8, 4, 2, 1)}
_NUMBERS = {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind, sizes in _SIZES.items() for size in sizes}
_NAMES = {np.dtype(text).name: code for code, text in _NUMBERS.items()} | {"bool": "BOOL"}
_TYPES = {**_NUMBERS, "BF16": "<u2", "BOOL": "<u1"}


_LONGEST_HEADER = 100_000_000  # bytes; the library reads no longer one


def write_tensors(path: Path, tensors: Mapping[str, Array]) -> str:
    """Write a new safetensors file, force it to the disk, and give its SHA-256. Raises OSError."""
    digest, pieces = hashlib.sha256(), [*tensor_pieces(tensors)]
    for piece in pieces:
        digest.update(piece)
    write_bytes(path, *pieces)
    return digest.hexdigest()


def replace_tensors(path: Path, tensors: Mapping[str, Array], notes: Mapping[str, str] | None = None) -> None:
    """Put a safetensors file at `path` in one step. Raises CheckpointError; the file before then stays.

    `notes` are the texts that the format keeps beside the tensors.
    """
    with explained(CheckpointError, path):
        replace_file(path, *tensor_pieces(tensors, notes))


def tensor_pieces(tensors: Mapping[str, Array], notes: Mapping[str, str] | None = None) -> Iterator[bytes | memoryview]:
    """The content of a safetensors file, piece by piece; the tensors are not copied."""
    yield file_header(tensors, notes)
    for tensor in tensors.values():
        yield np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data


def file_header(tensors: Mapping[str, Array], notes: Mapping[str, str] | None = None) -> bytes:
    """What stands in front of the tensors in a safetensors file."""
    entries: dict[str, object] = {"__metadata__": dict(notes)} if notes else {}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes
        entries[name] = {"dtype": _NAMES[tensor.dtype.name], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def notes_of(path: Path) -> dict[str, str]:
    """The texts that a safetensors file keeps beside its tensors; none of a file that is damaged."""
    try:
        with regular_files.opened(path) as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(length, _LONGEST_HEADER)))
    except (OSError, ValueError, struct.error):
        return {}
    notes = cast("dict[str, object]", header).get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(notes, dict):
        return {}
    return {key: text for key, text in cast("dict[str, object]", notes).items() if isinstance(text, str)}


def read_tensors(path: Path) -> dict[str, Array]:
    """All tensors of a safetensors file; f16 and bf16 become f32. Raises CheckpointError and ResourceError."""
    with explained(CheckpointError, path):
        size = path.stat().st_size
        expect_memory(f"reading {path}", {"the file": size, "its tensors": size}, "")
        content = regular_files.content(path)
    return tensors_in(content, path)


class _Slices(Protocol):
    def get_shape(self) -> list[int]: ...
    def __getitem__(self, rows: slice) -> Array: ...


class _OpenFile(Protocol):
    def keys(self) -> list[str]: ...
    def get_tensor(self, name: str) -> Array: ...
    def get_slice(self, name: str) -> _Slices: ...


class StoredTensors(Mapping[str, Array]):
    """The tensors of a safetensors file, each read when it is asked for. Raises CheckpointError.

    The file is mapped, so that what was opened stays what it was when the file is removed.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = cast("_OpenFile", safe_open(path, "numpy"))
            self._names = sorted(self._file.keys())
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"this is not a whole safetensors file ({error})", path, _FIX) from error

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())

    def stretch(self, name: str, elements: range) -> Array:
        """Some elements that follow one another, without what lies in other rows of the first axis."""
        shape = self.shape(name)
        if not shape or not elements:
            return self[name].reshape(-1)[elements.start : elements.stop]
        each = math.prod(shape[1:])
        first, end = elements.start // each, -(-elements.stop // each)
        rows = self._file.get_slice(name)[first:end]
        return rows.reshape(-1)[elements.start - first * each : elements.stop - first * each]


def tensors_in(content: bytes, path: Path) -> dict[str, Array]:
    """The tensors of a safetensors file's content, by name. The library checks lengths, offsets and overlaps.

    Raises CheckpointError.
    """
    try:
        entries = cast("list[tuple[str, dict[str, object]]]", deserialize(content))
    except (SafetensorError, ValueError, OverflowError) as error:
        kind = _kind_of(content)
        if kind:
            raise CheckpointError(f"this is {kind}, and no safetensors file", path, _OF_OTHERS) from error
        raise CheckpointError(f"this is not a whole safetensors file ({error})", path, _FIX) from error
    _expect_distinct_names(content, path)
    return {name: _tensor(name, entry, path) for name, entry in sorted(entries, key=lambda named: named[0])}


_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive, such as .npz, .pt or .keras",
    b"\x93NUMPY": "an array of NumPy (.npy)",
    b"\x89HDF": "an HDF5 file, such as .h5",
    b"\x1f\x8b": "a compressed file",
    b"\x80\x02": "a pickle",
    b"\x80\x04": "a pickle",
}
_OF_OTHERS = (
    "name a .safetensors file or a run; `dlc import FILE --into model.dl -o DIR` makes one of weights of PyTorch, "
    "Keras and Hugging Face"
)


def _kind_of(content: bytes) -> str:
    """The format of a file by its first bytes; empty where it may be a safetensors file that is damaged."""
    known = next((kind for beginning, kind in _BEGINNINGS.items() if content.startswith(beginning)), "")
    head = content[:8]  # of a safetensors file, the length of its header, whose upper bytes are 0
    return known or ("a text" if len(head) == 8 and head.isascii() and head.decode().isprintable() else "")


def element_types(path: Path) -> dict[str, str]:
    """The element type of each tensor of a file that `read_tensors` took, such as `bf16`."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = cast("dict[str, dict[str, object]]", json.loads(file.read(length)))
    return {name: str(entry["dtype"]).lower() for name, entry in header.items() if name != "__metadata__"}


def _expect_distinct_names(content: bytes, path: Path) -> None:
    """Of two entries of one name, the library and other readers need not take the same."""

    def checked(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise CheckpointError(f"tensor `{name}` is there twice", path, _FIX)
            seen.add(name)

    (length,) = struct.unpack("<Q", content[:8])
    json.loads(content[8 : 8 + length], object_pairs_hook=checked)


def _tensor(name: str, entry: Mapping[str, object], path: Path) -> Array:
    code, data = entry["dtype"], entry["data"]
    shape = tuple(cast("list[int]", entry["shape"]))
    if not isinstance(code, str) or code not in _TYPES:
        raise CheckpointError(f"tensor `{name}` has element type {code}, which is not supported", path, _CONVERT)
    if not isinstance(data, bytes | bytearray):
        raise CheckpointError(f"tensor `{name}` has no data", path, _FIX)
    try:
        flat: Array = np.frombuffer(data, np.dtype(_TYPES[code]))
        if code == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        elif code == "F16":
            flat = flat.astype(np.float32)
        elif code == "BOOL":
            flat = flat != 0
        return flat.reshape(shape)
    except (ValueError, OverflowError, TypeError) as error:
        shown = f"shape {list(shape)}" if len(shape) <= _MOST_AXES else f"{len(shape)} axes"
        raise CheckpointError(f"tensor `{name}` does not fill its {shown}", path, _FIX) from error


@record
class MissingTensor:
    """A wanted tensor that a file does not have, and the name in it that is nearest."""

    name: str
    suggestion: str | None


@record
class MismatchedTensor:
    """A tensor whose shape in a file differs from the wanted one."""

    name: str
    found: tuple[int, ...]
    wanted: tuple[int, ...]


@record
class TensorMatch:
    """How the tensors of a file fit a model. `unused` are those that the model does not have."""

    matched: tuple[str, ...]
    missing: tuple[MissingTensor, ...]
    mismatched: tuple[MismatchedTensor, ...]
    unused: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        return not self.missing and not self.mismatched

    def lines(self) -> list[str]:
        """The mismatches, one line each, and what is not used."""
        absent = [
            f"missing: `{m.name}`" + (f"; the file has `{m.suggestion}`" if m.suggestion else "") for m in self.missing
        ]
        differing = [
            f"mismatched: `{m.name}` is {list(m.found)} in the file, but {list(m.wanted)} in the model"
            for m in self.mismatched
        ]
        return [*absent, *differing, *([f"not used of the file: {quoted(self.unused)}"] if self.unused else [])]


def match_tensors(have: Mapping[str, Array], want: Mapping[str, tuple[int, ...]]) -> TensorMatch:
    """Compare the tensors of a file with the names and shapes of a model."""
    unused = [name for name in have if name not in want]
    common = [name for name in want if name in have]
    return TensorMatch(
        tuple(name for name in common if have[name].shape == want[name]),
        tuple(MissingTensor(name, nearest(name, unused)) for name in want if name not in have),
        tuple(MismatchedTensor(n, have[n].shape, want[n]) for n in common if have[n].shape != want[n]),
        tuple(unused),
    )


_MOST_AXES = 8  # that a message shows
_FIX = "use another copy of the file, or an earlier checkpoint"
_CONVERT = "convert the file to f32"
