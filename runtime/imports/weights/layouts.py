"""A layer of a file for a layer of the model: how each tensor is made, by the conventions of both, or None."""

from __future__ import annotations

import math
from collections.abc import Mapping

from compiler.support.record import record
from runtime.imports.weights.expressions import Expression, Extents, Term, Unfitting, alone
from runtime.imports.weights.foreign_layers import ForeignLayer, is_conv1d
from runtime.imports.weights.model_layers import ModelLayer
from runtime.imports.weights.sources import ForeignWeights

Made = dict[str, Expression]
"""How each tensor of a layer of the model is made, by its name in the layer."""


@record
class Layouts:
    """The conventions of a file."""

    source: ForeignWeights

    def made(self, model: ModelLayer, layer: ForeignLayer) -> tuple[Made, ...]:
        """The ways to make the tensors of a layer: none where it does not fit, several where its layout is open."""
        ways = [way for way in self._ways(model, layer) if self._fits(model, way)]
        return tuple({tuple((n, e.terms) for n, e in way.items()): way for way in ways}.values())

    def _fits(self, model: ModelLayer, way: Made) -> bool:
        if set(way) != set(model.tensors):
            return False
        try:
            return all(way[name].shape_of(self._shapes) == shape for name, (_, shape) in model.tensors.items())
        except Unfitting:
            return False

    @property
    def _shapes(self) -> Mapping[str, Extents]:
        return _Shapes(self.source)

    def _ways(self, model: ModelLayer, layer: ForeignLayer) -> list[Made]:
        if model.kind == "recurrent":
            return self._recurrent(model, layer)
        if model.kind == "single":
            return self._single(model, layer)
        names = _NAMES[model.kind]
        parts = {"weight": layer.parts["value"]} if model.kind == "table" and "value" in layer.parts else layer.parts
        if not set(parts) <= set(names):
            return []
        weight = parts.get("weight")
        others = {names[part]: alone(term) for part, term in parts.items() if part != "weight"}
        wanted = next((shape for name, (_, shape) in model.tensors.items() if name in ("W", "gamma")), None)
        if weight is None or wanted is None:
            return []
        if "b" in others:
            others["b"] = alone(self._flat(parts["bias"]))
        return [{names["weight"]: alone(term), **others} for term in self._weights(model, weight, wanted)]

    def _flat(self, bias: Term) -> Term:
        """Attention of Keras keeps heads apart: [heads, width]."""
        shape = bias.shape_of(self._shapes)
        return bias if len(shape) == 1 else bias.then("reshape", math.prod(shape))

    def _weights(self, model: ModelLayer, weight: Term, wanted: Extents) -> list[Term]:
        """The ways in which the weights may lie in the file."""
        shape = weight.shape_of(self._shapes)
        own = self.source.convention == "dlc"
        match model.kind:
            case "norm":
                return [weight]
            case "table":
                if len(shape) == len(wanted):
                    return [weight]
                return [weight.then("reshape", *wanted)] if shape == (1, *wanted) else []
            case "linear" if self.source.convention == "torch":
                return self._torch_matrix(weight, shape, wanted)
            case "linear" if self.source.convention == "keras" and len(shape) == 3:  # attention: heads apart
                return [weight.then("reshape", *wanted)] if math.prod(shape) == math.prod(wanted) else []
            case "linear" if len(shape) == 2 and (channels := self._channels_before(weight.name)):
                return self._behind_flatten(weight, shape, channels)
            case "convolution" if self.source.convention == "torch":
                return [weight.then("transpose", *range(2, len(shape)), 1, 0)] if len(shape) > 2 else []
            case "convolution" if self.source.convention == "keras" and shape != wanted and len(shape) == len(wanted):
                return [weight.then("reshape", *wanted)] if wanted[-2] == 1 and shape[:-2] == wanted[:-2] else []
            case "transposed" if not own:
                spatial = range(len(shape) - 2)
                if self.source.convention == "torch":
                    return [weight.then("transpose", *(axis + 2 for axis in spatial), 0, 1)] if len(shape) > 2 else []
                return [weight.then("transpose", *spatial, len(shape) - 1, len(shape) - 2)]
            case _:
                return [weight]

    def _channels_before(self, name: str) -> int | None:
        """The channels of the image that the matrix of a dense layer of Keras may read flattened: of the convolution
        before it, with no other matrix between them.
        """
        channels = None
        if self.source.convention != "keras":
            return None
        for other, values in self.source.tensors.items():
            if other == name:
                return channels
            if values.ndim == 2:
                channels = None
            if values.ndim > 3:
                kind = f"{self.source.classes.get(other.split('/')[0], '')} {other}".lower()
                inner, last = values.shape[-2:]
                channels = inner * last if "depthwise" in kind else inner if "transpose" in kind else last
        return None

    def _behind_flatten(self, weight: Term, shape: Extents, channels: int) -> list[Term]:
        """Keras flattens an image with its channels last, this library with them first; the file does not say which
        the model's text does.
        """
        rows, units = shape
        if rows == channels or rows % channels:
            return [weight]
        image = weight.then("reshape", rows // channels, channels, units)
        return [image.then("transpose", 1, 0, 2).then("reshape", rows, units), weight]

    def _torch_matrix(self, weight: Term, shape: Extents, wanted: Extents) -> list[Term]:
        if len(shape) == 2:
            return [weight if is_conv1d(weight.name, self.source) else weight.then("transpose", 1, 0)]
        if len(shape) < 3 or math.prod(shape) != math.prod(wanted):
            return []
        # A convolution that covers its whole image is a matrix. Which of channels and places comes first, the file
        # does not say.
        channels_first = weight.then("reshape", *reversed(wanted)).then("transpose", 1, 0)
        if math.prod(shape[2:]) == 1 or shape[1] == 1:
            return [channels_first]
        last = weight.then("transpose", *range(2, len(shape)), 1, 0).then("reshape", *wanted)
        return [channels_first, last]

    def _single(self, model: ModelLayer, layer: ForeignLayer) -> list[Made]:
        """A tensor that the user declares: as it is, but for axes of one, or turned as its convention may have it."""
        if len(layer.parts) != 1:
            return []
        ((part, term),) = layer.parts.items()
        ((name, (_, wanted)),) = model.tensors.items()
        shape = term.shape_of(self._shapes)
        ways = [term] if shape == wanted else []
        if shape != wanted and [n for n in shape if n != 1] == [n for n in wanted if n != 1]:
            ways = [term.then("reshape", *wanted)]
        if part == "weight" and self.source.convention == "torch" and len(shape) >= 2 and len(shape) == len(wanted):
            turned = (1, 0) if len(shape) == 2 else (*range(2, len(shape)), 1, 0)
            if tuple(shape[axis] for axis in turned) == wanted:
                ways.append(term.then("transpose", *turned))
        return [{name: alone(way)} for way in ways]

    # Recurrent layers. Gates: here i, f, new, o of an LSTM and r, z, new of a GRU, as in PyTorch; z, r, new in Keras.

    def _recurrent(self, model: ModelLayer, layer: ForeignLayer) -> list[Made]:
        if not {"weight", "recurrent"} <= set(layer.parts) or "P" in model.tensors:
            return []
        units = model.tensors["U"][1][0]
        gates = model.tensors["W"][1][1] // units
        if self.source.convention == "torch":
            return [self._torch_recurrent(model, layer)]
        if self.source.convention == "keras":
            return [self._keras_recurrent(model, layer, units, gates)]
        return [{_OF_CELLS[part]: alone(term) for part, term in layer.parts.items()}]

    def _torch_recurrent(self, model: ModelLayer, layer: ForeignLayer) -> Made:
        made = {
            "W": alone(layer.parts["weight"].then("transpose", 1, 0)),
            "U": alone(layer.parts["recurrent"].then("transpose", 1, 0)),
        }
        biases = [layer.parts[part] for part in ("bias", "second_bias") if part in layer.parts]
        if "d" in model.tensors and len(biases) == 2:
            made |= {"b": alone(biases[0]), "d": alone(biases[1])}
        elif biases:
            made["b"] = Expression(tuple(biases))
        return made

    def _keras_recurrent(self, model: ModelLayer, layer: ForeignLayer, units: int, gates: int) -> Made:
        order = (1, 0, 2) if gates == 3 else None

        def ordered(term: Term) -> Expression:
            return alone(term if order is None else term.then("blocks", *order))

        made = {"W": ordered(layer.parts["weight"])}
        recurrent = layer.parts["recurrent"]
        if "V" in model.tensors:
            made["U"] = alone(recurrent.then("columns", 0, 2 * units).then("blocks", 1, 0))
            made["V"] = alone(recurrent.then("columns", 2 * units, 3 * units))
        else:
            made["U"] = ordered(recurrent)
        bias = layer.parts.get("bias")
        if bias is None:
            return made
        if len(bias.shape_of(self._shapes)) == 1:
            return {**made, "b": ordered(bias)}
        for row, name in enumerate(("b", "d")):
            made[name] = ordered(bias.then("rows", row, row + 1).then("reshape", gates * units))
        return made


class _Shapes(Mapping[str, Extents]):
    """The shapes of the tensors of a file."""

    def __init__(self, source: ForeignWeights) -> None:
        self._tensors = source.tensors

    def __getitem__(self, name: str) -> Extents:
        return self._tensors[name].shape

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


_NAMES = {
    "linear": {"weight": "W", "bias": "b"},
    "convolution": {"weight": "W", "bias": "b"},
    "transposed": {"weight": "W", "bias": "b"},
    "table": {"weight": "W"},
    "norm": {"weight": "gamma", "bias": "beta", "mean": "running_mean", "variance": "running_var"},
}
_OF_CELLS = {"weight": "W", "recurrent": "U", "bias": "b", "second_bias": "d"}
