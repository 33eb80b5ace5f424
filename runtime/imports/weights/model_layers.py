"""The parameters and states of a program, gathered by the layer of the library that declares them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

from compiler.driver import ParameterSpec, Program
from compiler.support.record import record
from compiler.types import at_batch
from runtime.imports.weights.expressions import Extents

Kind: TypeAlias = Literal["linear", "convolution", "transposed", "norm", "table", "recurrent", "single"]
"""The use of weights by a layer, which decides their layout. `single`: a tensor that no known layer declares."""

_LIBRARY = "<prelude>/layers"
_KINDS: Mapping[str, Kind] = {
    "dense": "linear",
    "convolution": "convolution",
    "transposed_convolution": "transposed",
    "batch_norm": "norm",
    "group_norm": "norm",
    "layer_norm": "norm",
    "rms_norm": "norm",
    "embedding": "table",
    "positions": "table",
    "recurrent": "recurrent",
}


@record
class ModelLayer:
    """`scope` is the path of the layer; `tensors` its paths and shapes by their names in it, such as `W`.

    `place` counts the layers in the order of the model.
    """

    scope: str
    kind: Kind
    tensors: Mapping[str, tuple[str, Extents]]
    place: int

    @property
    def signature(self) -> tuple[object, ...]:
        return self.kind, tuple((name, shape) for name, (_, shape) in self.tensors.items())


def model_layers(program: Program) -> tuple[ModelLayer, ...]:
    """All layers with parameters, in the order of the model."""
    groups: dict[tuple[str, Kind], dict[str, tuple[str, Extents]]] = {}
    for spec in program.parameters:
        kind = _kind(spec)
        scope, _, name = spec.path.rpartition(".")
        key = (spec.path, kind) if kind == "single" else (scope, kind)
        groups.setdefault(key, {})[name] = (spec.path, at_batch(spec.type.shape, 1))
    listed = enumerate(groups.items())
    return tuple(ModelLayer(scope, kind, tensors, place) for place, ((scope, kind), tensors) in listed)


def _kind(spec: ParameterSpec) -> Kind:
    """By the file of the library that declares the parameter; those of others say nothing."""
    folder, _, file = spec.span.source.name.rpartition("/")
    if folder != _LIBRARY:
        return "single"
    return _KINDS.get(file.removesuffix(".dl"), "single")
