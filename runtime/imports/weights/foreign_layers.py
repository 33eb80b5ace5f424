"""The tensors of a file, gathered by layer: the names of PyTorch, Keras and Hugging Face to one name for each part.

Attention that packs its three products in one matrix becomes three layers, and each direction and level of a recurrent
layer one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from compiler.support.record import record
from runtime.imports.weights.expressions import Extents, Term, tensor
from runtime.imports.weights.sources import ForeignWeights

# Names of parts of a layer: what the frameworks call them -> the name here.
_PARTS = {
    "weight": "weight",
    "kernel": "weight",
    "embedding": "weight",
    "embeddings": "weight",
    "gamma": "weight",
    "scale": "weight",
    "depthwise_kernel": "weight",
    "bias": "bias",
    "beta": "bias",
    "running_mean": "mean",
    "moving_mean": "mean",
    "running_var": "variance",
    "moving_variance": "variance",
    "recurrent_kernel": "recurrent",
}
_OWN_PARTS = {"W": "weight", "b": "bias", "gamma": "weight", "beta": "bias", "U": "recurrent", "d": "second_bias"}
_RECURRENT = re.compile(r"(weight|bias)_(ih|hh)(?:_(l\d+(?:_reverse)?))?")
_RECURRENT_PARTS = {
    ("weight", "ih"): "weight",
    ("weight", "hh"): "recurrent",
    ("bias", "ih"): "bias",
    ("bias", "hh"): "second_bias",
}
_PACKED = re.compile(r"(^|[._])(qkv|c_attn|in_proj|w?qkv_proj|Wqkv)$")
# Tensors that are no weights: counters, positions in order, masks of causal attention.
_NO_WEIGHTS = re.compile(r"(^|\.)(num_batches_tracked|position_ids|masked_bias|relative_position_index)$")


@record
class ForeignLayer:
    """`parts` are the tensors of the layer `scope` by what they are: `weight`, `bias`, `mean`, `variance`, `recurrent`,
    `second_bias`, or `value` where the tensor is no part of a known layer.

    `place` counts the layers in the order of the file.
    """

    scope: str
    parts: Mapping[str, Term]
    place: int

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(term.name for term in self.parts.values()))


def is_no_weight(name: str, shape: Extents) -> bool:
    """Whether a tensor of the file is a buffer that follows from the architecture, as a causal mask does."""
    is_mask = name.endswith("attn.bias") and len(shape) == 4 and shape[:2] == (1, 1)
    return is_mask or _NO_WEIGHTS.search(name) is not None


def foreign_layers(source: ForeignWeights, names: Mapping[str, str], splits: bool) -> tuple[ForeignLayer, ...]:
    """The layers of a file. `names`: what each tensor is called for the match -> its name in the file.

    With `splits`, packed attention becomes three layers.
    """
    shapes = {called: source.tensors[name].shape for called, name in names.items()}
    groups: dict[str, dict[str, Term]] = {}
    for called, name in names.items():
        if is_no_weight(called, shapes[called]):
            continue
        scope, part = _place(called, source)
        groups.setdefault(scope, {})[part] = tensor(name)
    found: list[ForeignLayer] = []
    for scope, parts in groups.items():
        for inner, inside in _taken_apart(scope, parts, source, splits):
            found.append(ForeignLayer(inner, inside, len(found)))
    return tuple(found)


def _place(name: str, source: ForeignWeights) -> tuple[str, str]:
    """The scope of the layer and the part; a tensor by itself is the part `value` of a scope of its own name."""
    dotted = name.replace("/", ".")
    scope, _, last = dotted.rpartition(".")
    if source.convention == "unknown":
        return dotted, "value"
    if (level := _RECURRENT.fullmatch(last)) is not None:
        return ".".join(filter(None, (scope, level[3]))), _RECURRENT_PARTS[level[1], level[2]]
    if last in ("in_proj_weight", "in_proj_bias"):
        return f"{scope}.in_proj", last.removeprefix("in_proj_")
    if last == "pointwise_kernel":
        return f"{scope}.pointwise", "weight"
    if last == "bias" and source.classes.get(scope) == "SeparableConv2D":
        return f"{scope}.pointwise", "bias"
    known = _OWN_PARTS if source.convention == "dlc" else _PARTS
    part = known.get(last) or (_PARTS.get(last) if source.convention == "dlc" else None)
    return (scope, part) if part is not None and scope else (dotted, "value")


def _taken_apart(
    scope: str, parts: Mapping[str, Term], source: ForeignWeights, splits: bool
) -> Iterator[tuple[str, dict[str, Term]]]:
    weight = parts.get("weight")
    shape = () if weight is None else source.tensors[weight.name].shape
    if not (splits and weight is not None and _PACKED.search(scope) and len(shape) == 2):
        yield scope, dict(parts)
        return
    axis = 1 if shape[1] == 3 * shape[0] or has_conv1d(source) else 0
    width = shape[axis] // 3
    if shape[axis] % 3:
        yield scope, dict(parts)
        return
    for number, name in enumerate(("query", "key", "value")):
        stretch = number * width, (number + 1) * width
        cut = {"weight": weight.then("columns" if axis else "rows", *stretch)}
        if "bias" in parts:
            cut["bias"] = parts["bias"].then("rows", *stretch)
        yield f"{scope}.{name}", cut


_CONV1D = re.compile(r"(^|\.)(c_attn|c_fc|c_proj|q_attn)\.weight$")


def has_conv1d(source: ForeignWeights) -> bool:
    """Whether matrices called `c_attn`, `c_fc` and `c_proj` are [in, out], as in the GPT-2 of Hugging Face.

    The packed one tells it: it has three times as many outputs as inputs.
    """
    packed = [values.shape for name, values in source.tensors.items() if name.endswith("c_attn.weight")]
    return bool(packed) and all(len(shape) == 2 and shape[1] == 3 * shape[0] for shape in packed)


def is_conv1d(name: str, source: ForeignWeights) -> bool:
    """Whether a matrix of the file is [in, out], other than usual in PyTorch."""
    return _CONV1D.search(name) is not None and has_conv1d(source)
