"""A file of weights of any known kind to its tensors by name, with the convention that decides their layouts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Literal, TypeAlias

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.errors.suggestions import quoted
from compiler.support.record import record
from runtime.runs.tensor_files import element_types, read_tensors
from runtime.support import regular_files
from runtime.support.files import explained, parse_json

Convention: TypeAlias = Literal["torch", "keras", "dlc", "unknown"]
"""Whose names and layouts a file has: `weight` [out, in], or `kernel` [in, out], or the model's own."""

TORCH_ENDINGS = (".pt", ".pth", ".th", ".bin", ".ckpt")
KERAS_ENDINGS = (".keras", ".h5", ".hdf5")
ENDINGS = (".safetensors", ".safetensors.index.json", ".bin.index.json", *TORCH_ENDINGS, *KERAS_ENDINGS)
_SHARDS = ".index.json"
_AGAIN = "fetch the file again"
_MOST_SHARDS = 4096


@record
class ForeignWeights:
    """Tensors by their names in `path`; `is_ordered`: in the order in which the layers were made, else by name.

    `classes` and `epsilons` are of layers of Keras. `notes` tell of numbers that were turned, or are not finite.
    """

    path: Path
    convention: Convention
    tensors: Mapping[str, Array]
    is_ordered: bool
    notes: tuple[str, ...]
    classes: Mapping[str, str]
    epsilons: Mapping[str, float]


def read_foreign(path: Path) -> ForeignWeights:
    """The tensors of a file, or of the folder of a model of Hugging Face.

    Raises CheckpointError where the file is damaged, UsageError where it is of no known kind or an extra is missing,
    and ResourceError where it does not fit in memory.
    """
    if path.is_dir():
        path = _in_folder(path)
    if not path.exists():
        raise UsageError(f"there is no file {path} to take weights from", "check the path")
    name = path.name.lower()
    if name.endswith(_SHARDS):
        return _sharded(path)
    with explained(CheckpointError, path), regular_files.opened(path) as file:
        start = file.read(8)
        if not start:
            raise CheckpointError("the file is empty", path, _AGAIN)
        file.seek(0)
        if name.endswith(TORCH_ENDINGS):
            return _torch(path, file)
        if name.endswith(KERAS_ENDINGS):
            return _keras(path)
    if name.endswith(".safetensors"):
        tensors, kinds = read_tensors(path), element_types(path)
        return _weights(path, _convention_of(tensors), tensors, False, Counter(kinds.values()))
    raise UsageError(f"{path} is no known file of weights", f"give one of {', '.join(ENDINGS)}, or a folder")


def _torch(path: Path, file: BinaryIO) -> ForeignWeights:
    from runtime.imports.weights.torch_archive import read_torch  # of the readers, a command needs one

    stored = read_torch(path, file)
    return _weights(path, "torch", stored.tensors, True, stored.converted, stored.notes)


def _keras(path: Path) -> ForeignWeights:
    from runtime.imports.weights.keras_process import read_keras_apart  # of the readers, a command needs one

    stored = read_keras_apart(path)
    kinds = Counter("f16" for values in stored.tensors.values() if values.dtype == np.float16)
    found = _weights(path, "keras", stored.tensors, bool(stored.classes), kinds, stored.notes)
    return replace(found, classes=stored.classes, epsilons=stored.epsilons)


def _in_folder(folder: Path) -> Path:
    names = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
    found = next((folder / name for name in names if (folder / name).is_file()), None)
    if found is None:
        raise UsageError(f"{folder} holds no weights", f"name the file, or a folder with one of {', '.join(names)}")
    return found


def _sharded(index: Path) -> ForeignWeights:
    """All tensors of the files that an index of Hugging Face names, which lie beside it."""
    with explained(CheckpointError, index):
        content = regular_files.content(index)
    try:
        value = parse_json(content)
    except ValueError as error:
        raise CheckpointError(f"this is no whole JSON ({error})", index, _AGAIN) from error
    names = value.get("weight_map") if isinstance(value, Mapping) else None
    if not isinstance(names, Mapping) or not names or not all(isinstance(file, str) for file in names.values()):
        raise CheckpointError("the index has no `weight_map` of names and files", index, _AGAIN)
    files = dict.fromkeys(str(file) for file in names.values())
    if len(files) > _MOST_SHARDS or any(not re.fullmatch(r"[\w.-]+", file) or file.endswith(_SHARDS) for file in files):
        raise CheckpointError("the index names files that cannot lie beside it", index, _AGAIN)
    shards = {file: read_foreign(index.parent / file) for file in files}
    absent = [name for name, file in names.items() if name not in shards[str(file)].tensors]
    if absent:
        raise CheckpointError(f"the files have no {quoted(absent)}, which the index names", index, _AGAIN)
    tensors = {name: shards[str(file)].tensors[name] for name, file in names.items()}
    notes = tuple(dict.fromkeys(note for shard in shards.values() for note in shard.notes))
    convention = next(iter(shards.values())).convention
    return ForeignWeights(index, convention, tensors, False, notes, {}, {})


def _convention_of(names: Mapping[str, Array]) -> Convention:
    lasts = Counter(re.split(r"[./]", name)[-1] for name in names)
    votes: dict[Convention, int] = {
        "torch": lasts["weight"] + lasts["bias"] + lasts["running_mean"],
        "keras": lasts["kernel"] + lasts["embedding"] + lasts["embeddings"] + lasts["moving_mean"],
        "dlc": lasts["W"] + lasts["b"] + lasts["gamma"],
    }
    best = max(votes, key=lambda name: votes[name])
    return best if votes[best] else "unknown"


def _weights(
    path: Path,
    convention: Convention,
    tensors: Mapping[str, Array],
    is_ordered: bool,
    converted: Mapping[str, int],
    notes: tuple[str, ...] = (),
) -> ForeignWeights:
    """The tensors with floats as f32, and remarks on what that changed."""
    counts = Counter({kind: converted.get(kind, 0) for kind in ("bf16", "f16")})
    counts["f64"] += sum(values.dtype == np.float64 for values in tensors.values())
    turned = [f"{count} tensors of {kind} are turned into f32" for kind, count in counts.items() if count]
    with np.errstate(over="ignore"):
        ready = {n: v.astype(np.float32) if v.dtype.kind == "f" else v for n, v in tensors.items()}
    spoilt = [n for n, v in ready.items() if v.dtype.kind == "f" and not bool(np.isfinite(v).all())]
    bad = [f"{len(spoilt)} tensors hold numbers that are not finite: {quoted(spoilt, 4)}"] if spoilt else []
    return ForeignWeights(path, convention, ready, is_ordered, (*notes, *turned, *bad), {}, {})
