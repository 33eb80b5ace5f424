"""A file of Keras (.keras, .weights.h5, .h5) to its layers, in the order of the model, with their variables.

A `.keras` file is a zip archive of `config.json`, which names the layers, and `model.weights.h5`. HDF5 is read by h5py,
an extra, imported here alone.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import numpy as np

from compiler.driver import Array
from compiler.errors.diagnostics import CheckpointError, UsageError
from compiler.support.record import record
from compiler.targets.available_memory import expect_memory
from runtime.support.files import JsonObject, JsonValue, parse_json

_AGAIN = "fetch the file again, or save it again"
_MOST_LEVELS = 64
_USUAL_EPS = 1e-3  # of Keras, where a configuration says nothing
# The variables of a layer in the order in which Keras numbers them, by the class of the layer.
_VARIABLES = {
    "Dense": ("kernel", "bias"),
    "EinsumDense": ("kernel", "bias"),
    "Embedding": ("embeddings",),
    "LayerNormalization": ("gamma", "beta"),
    "GroupNormalization": ("gamma", "beta"),
    "BatchNormalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "LSTM": ("kernel", "recurrent_kernel", "bias"),
    "GRU": ("kernel", "recurrent_kernel", "bias"),
    "SimpleRNN": ("kernel", "recurrent_kernel", "bias"),
}


@record
class KerasTensors:
    """Variables by `layer/name` in the order of the model; `classes`: the class of each layer, where the file says it.

    `epsilons`: of each normalisation, where the file says it. `notes` are for the user.
    """

    tensors: Mapping[str, Array]
    classes: Mapping[str, str]
    epsilons: Mapping[str, float]
    notes: tuple[str, ...] = ()


class _Attributes(Protocol):
    def get(self, name: str) -> object: ...


class _Group(Protocol):
    """A group of h5py, as far as it is used here."""

    @property
    def attrs(self) -> _Attributes: ...
    def __iter__(self) -> Iterator[str]: ...
    def __contains__(self, name: str) -> bool: ...
    def __getitem__(self, name: str) -> object: ...
    def get(self, name: str, getlink: bool) -> object: ...


class _Data(Protocol):
    """An array of h5py, as far as it is used here."""

    external: object
    is_virtual: bool
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...] | None
    size: int

    def __getitem__(self, place: tuple[()]) -> object: ...


def _group(value: object) -> _Group:
    return cast("_Group", value)


def read_keras(path: Path, file: BinaryIO) -> KerasTensors:
    """The variables of a model of Keras. Raises CheckpointError, ResourceError, and UsageError without h5py."""
    try:
        import h5py
    except ImportError:
        raise UsageError(
            "files of Keras are read by h5py, which is not installed", "install it: pip install 'dlc[keras]'"
        ) from None
    try:
        config: JsonValue = None
        if zipfile.is_zipfile(file):
            config, file = _members(path, file)
        file.seek(0)
        with h5py.File(file, "r") as opened:
            stored = _group(opened)
            if config is None and isinstance(text := stored.attrs.get("model_config"), str | bytes):
                config = parse_json(text.encode() if isinstance(text, str) else text)
            return _of_layers(path, stored, config)
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"this is no whole model of Keras ({str(error) or type(error).__name__})"
        raise CheckpointError(message, path, _AGAIN) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        raise CheckpointError(f"this is no whole zip archive ({error})", path, _AGAIN) from error


def _members(path: Path, file: BinaryIO) -> tuple[JsonValue, BinaryIO]:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
        if "model.weights.h5" not in members:
            raise CheckpointError(
                "this zip archive holds no `model.weights.h5`, so it is no model of Keras", path, _AGAIN
            )
        weights = members["model.weights.h5"]
        expect_memory(f"reading {path}", {"its weights": 2 * weights.file_size}, "")
        config = members.get("config.json")
        if config is not None and config.file_size > 1 << 26:
            raise CheckpointError(f"its `config.json` has {config.file_size:,} bytes", path, _AGAIN)
        return parse_json(archive.read(config)) if config else None, io.BytesIO(archive.read(weights))


def _of_layers(path: Path, stored: _Group, config: JsonValue) -> KerasTensors:
    listed = list(_layers_of(config))
    is_of_version_2 = "model_weights" in stored or stored.attrs.get("layer_names") is not None
    tensors = _version_2(path, stored) if is_of_version_2 else _version_3(path, stored, _stored_names(listed))
    if not tensors:
        raise CheckpointError("it holds no variable", path, _AGAIN)
    named = {str(layer.get("name")): layer for _, layer in listed}
    classes: dict[str, str] = {name: kind for kind, layer in listed if (name := str(layer.get("name")))}
    epsilons = {
        name: float(eps)
        for name, layer in named.items()
        if "Normalization" in classes[name] and isinstance(eps := layer.get("epsilon", _USUAL_EPS), int | float)
    }
    notes = () if listed else ("the file has no configuration: variables are known by their numbers alone",)
    return KerasTensors(tensors, classes, epsilons, notes)


def _layers_of(config: JsonValue) -> Iterator[tuple[str, JsonObject]]:
    """The class and the settings of each layer, in the order of the configuration; models in a model are entered."""
    match config:
        case {"class_name": str(kind), "config": Mapping() as settings}:
            inner = settings.get("layers")
            if isinstance(inner, list | tuple):
                for layer in inner:
                    yield from _layers_of(layer)
                return
            wrapped = settings.get("layer")
            if isinstance(wrapped, Mapping) and kind not in ("Bidirectional",):
                yield from _layers_of(wrapped)
                return
            yield kind, settings
        case _:
            return


def _stored_names(listed: list[tuple[str, JsonObject]]) -> dict[str, tuple[str, str]]:
    """`dense_1`, by which Keras 3 stores the second Dense of a model, -> the name and the class of the layer."""
    counts: dict[str, int] = {}
    found: dict[str, tuple[str, str]] = {}
    for kind, settings in listed:
        base = _snake_case(kind)
        number = counts.get(base, 0)
        counts[base] = number + 1
        found[f"{base}_{number}" if number else base] = (str(settings.get("name", base)), kind)
    return found


def _snake_case(name: str) -> str:
    """As Keras does it (`keras.src.utils.naming.to_snake_case`): `Conv2D` is `conv2d`, `LSTMCell` `lstm_cell`."""
    name = re.sub(r"\W+", "", name)
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _version_3(path: Path, stored: _Group, names: Mapping[str, tuple[str, str]]) -> dict[str, Array]:
    """`layers/conv2d_1/vars/0` and `layers/lstm/cell/vars/1`, in the order of the model where that is known."""
    groups: dict[str, list[tuple[str, Array]]] = {}
    for place, values in _datasets(path, stored):
        parts = place.split("/")
        if parts[0] == "optimizer" or "vars" not in parts or "seed_generator" in place:
            continue
        cut = len(parts) - 1 - parts[::-1].index("vars")
        inside = [part for part in parts[:cut] if part not in ("layers", "_layer_checkpoint_dependencies")]
        groups.setdefault("/".join(inside), []).append((parts[-1], values))
    order = {name: number for number, name in enumerate(names)}
    found: dict[str, Array] = {}
    for group in sorted(groups, key=lambda name: (order.get(name.split("/")[0], len(order)), _natural(name))):
        head, *rest = group.split("/")
        layer, kind = names.get(head, (head, ""))
        is_cell = bool(rest) and rest[-1] == "cell"
        rest = rest[:-1] if is_cell else rest
        arrays = [values for _, values in groups[group]]
        variables = _VARIABLES["LSTM"] if is_cell else _VARIABLES.get(kind) or _by_shape(head, arrays)
        for number, (_, values) in enumerate(sorted(groups[group], key=lambda item: _natural(item[0]))):
            name = variables[number] if number < len(variables) else str(number)
            found["/".join([layer, *rest, name])] = values
    return found


def _by_shape(stored_name: str, values: list[Array]) -> tuple[str, ...]:
    """The names of the variables of a layer whose class no configuration gives, by its stored name or their shapes."""
    base = re.sub(r"_\d+$", "", stored_name)
    known = next((names for kind, names in _VARIABLES.items() if _snake_case(kind) == base), None)
    if known is not None:
        return known
    if len(values) == 4 and all(array.ndim == 1 for array in values):
        return _VARIABLES["BatchNormalization"]
    if "separable" in base:
        return ("depthwise_kernel", "pointwise_kernel", "bias")
    return ("kernel", "bias")


def _version_2(path: Path, stored: _Group) -> dict[str, Array]:
    """`model_weights/dense/dense/kernel:0`, in the order of `layer_names` and `weight_names`."""
    root = _group(stored["model_weights"]) if "model_weights" in stored else stored
    there = dict(_datasets(path, root))
    found: dict[str, Array] = {}
    for layer in _texts(root.attrs.get("layer_names")):
        for name in _texts(_group(root[layer]).attrs.get("weight_names")):
            *inside, last = name.removesuffix(":0").split("/")
            below = inside[inside.index(layer) + 1 :] if layer in inside else inside
            kept = [part for part in below if not part.endswith("_cell")]
            found["/".join([layer, *kept, last])] = there[f"{layer}/{name}"]
    return found


def _texts(value: object) -> list[str]:
    items = cast("list[object]", np.asarray(value).reshape(-1).tolist()) if value is not None else []
    return [item.decode() if isinstance(item, bytes) else str(item) for item in items]


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]


def _datasets(path: Path, root: _Group) -> Iterator[tuple[str, Array]]:
    """Every array of the file itself; links to other places, and data that lies in other files, are refused."""
    from h5py import HardLink  # there, as its group is

    total = 0
    waiting: list[tuple[str, ...]] = [()]
    while waiting:
        place = waiting.pop()
        group = _group(root["/".join(place)] if place else root)
        for name in group:
            inner = (*place, name)
            full = "/".join(inner)
            if not isinstance(group.get(name, getlink=True), HardLink):
                raise CheckpointError(f"`{full}` is a link to another place", path, _AGAIN)
            item = group[name]
            if hasattr(item, "keys"):
                if len(inner) > _MOST_LEVELS:
                    raise ValueError("its groups are nested too deeply")
                waiting.append(inner)
                continue
            data = cast("_Data", item)
            if data.external or data.is_virtual:
                raise CheckpointError(f"the data of `{full}` lies in another file", path, _AGAIN)
            if data.dtype.kind in "fiub" and data.shape is not None:
                total += 2 * data.size * data.dtype.itemsize
                expect_memory(f"reading {path}", {"its variables": total}, "")
                yield full, np.asarray(data[()])
