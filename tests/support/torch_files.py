"""Files as torch.save writes them, without PyTorch: a pickled `state_dict` in a zip archive, or in the old form."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping, Sequence

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C
_STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage", "float64": "DoubleStorage", "int64": "LongStorage",
             "uint16": "BFloat16Storage", "bool": "BoolStorage"}  # fmt: skip


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def whole(value: int) -> bytes:
    raw = value.to_bytes(9, "little")
    return b"\x8a" + bytes([len(raw)]) + raw


def numbers(values: Sequence[int]) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def view(storage: str, key: str, count: int, size: Sequence[int], strides: Sequence[int], old: bool = False) -> bytes:
    """A tensor as PyTorch pickles it: `_rebuild_tensor_v2(storage, 0, size, strides, False, OrderedDict())`."""
    reference = b"(" + text("storage") + b"ctorch\n" + storage.encode() + b"\n" + text(key) + text("cpu") + whole(count)
    made = b"ctorch._utils\n_rebuild_tensor_v2\n(" + reference + (b"N" if old else b"") + b"tQ" + whole(0)
    return made + numbers(size) + numbers(strides) + b"\x89ccollections\nOrderedDict\n)RtR"


def state_dict(tensors: Mapping[str, np.ndarray], old: bool = False) -> bytes:
    entries = b""
    for key, (name, values) in enumerate(tensors.items()):
        strides = [stride // values.itemsize for stride in values.strides]
        kind = _STORAGES[values.dtype.name]
        entries += text(name) + view(kind, str(key), values.size, values.shape, strides, old) + b"s"
    return b"\x80\x02}" + entries + b"."


def zipped(pickled: bytes, storages: Mapping[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return buffer.getvalue()


def torch_file(tensors: Mapping[str, np.ndarray]) -> bytes:
    return zipped(state_dict(tensors), {str(key): v.tobytes() for key, v in enumerate(tensors.values())})


def old_torch_file(tensors: Mapping[str, np.ndarray]) -> bytes:
    parts = [pickle.dumps(MAGIC, 2), pickle.dumps(1001, 2), pickle.dumps({"little_endian": True}, 2)]
    parts += [state_dict(tensors, old=True), pickle.dumps([str(key) for key in range(len(tensors))], 2)]
    return b"".join(parts) + b"".join(struct.pack("<q", v.size) + v.tobytes() for v in tensors.values())
