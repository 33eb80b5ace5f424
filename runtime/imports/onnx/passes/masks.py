"""Masks of attention: the keys that a query may see, from the addend of its scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field, replace
from typing import TypeAlias

import numpy as np

from compiler.support.record import record
from runtime.imports.onnx.graph import Node, Tensor, Value
from runtime.imports.onnx.passes.layouts import Layout, moved, whole
from runtime.imports.onnx.passes.matching import View

_HIDDEN = -1e4  # what is added to hide a key is at most this: exporters take -inf, the least number, or -10000
_MOVING = ("Unsqueeze", "Reshape", "Squeeze", "Flatten", "Transpose")
_SPREADING = (*_MOVING, "Expand", "Cast", "Identity")
Moves: TypeAlias = tuple[tuple[Node, str], ...]


@record
class Visible:
    """The name of the mask [rows, keys] of a layer, or nothing, and the nodes that make it."""

    name: str = ""
    causal: bool = False
    nodes: list[Node] = field(default_factory=list[Node])


@record
class Mask:
    """`seen` is a value that is true where a key is seen, or false with `turned`; `known` says so at each point.

    `moves` are the nodes that spread `seen` over the scores, the last of them first, with what they make.
    """

    seen: str = ""
    turned: bool = False
    known: tuple[Tensor, ...] = ()
    moves: Moves = ()

    def fits(self, other: Mask) -> bool:
        return not (self.seen and other.seen) and not (self.known and other.known)

    def joined(self, other: Mask) -> Mask:
        return Mask(
            self.seen or other.seen, self.turned or other.turned, self.known or other.known, self.moves or other.moves
        )

    def value(self, view: View, shapes: Sequence[tuple[int, int, int]], prefix: str) -> Visible | None:
        """The mask for the layer; `shapes` are rows, queries and keys at every point. None where it is another kind."""
        causal = False
        if self.known:
            if not all(_is_causal(one, q, k) for one, (_, q, k) in zip(self.known, shapes, strict=True)):
                return None
            causal = True
        if not self.seen:
            return Visible("", causal)
        name = _by_key(view, self, shapes)
        if name is None:
            return None
        return _as_boolean(view, name, self.turned, Visible("", causal), prefix)


def _is_causal(known: Tensor, queries: int, keys: int) -> bool:
    """Whether a query sees the keys up to its own place, for all rows and heads."""
    wanted = np.arange(queries)[:, None] >= np.arange(keys)
    return known.shape[-2:] == wanted.shape and bool((known == wanted).all())


def mask_of(view: View, node: Node) -> tuple[Mask, str] | None:
    """The mask that an addition or a choice puts on scores, and the scores."""
    if node.op == "Add":
        for i in (0, 1):
            found = _added(view, node.inputs[i], ())
            if found is not None:
                return found, node.inputs[1 - i]
        return None
    for i in (1, 2):
        number = _everywhere(view, node.inputs[i])
        if number is not None and number <= _HIDDEN:
            mask = _of_condition(view, node.inputs[0], i == 1, ())
            return None if mask is None else (mask, node.inputs[3 - i])
    return None


def _of_condition(view: View, name: str, hidden: bool, moves: Moves) -> Mask | None:
    """The mask of a condition: of a conjunction, one part may be known, such as the order of time."""
    contents = view.graph.values[name].contents
    if contents is not None:
        known = tuple(one.astype(bool) != hidden for one in contents)
        return Mask() if all(one.all() for one in known) else Mask(known=known)
    negation = view.made_by(name, "Not", "Equal")
    if negation is not None and (negation.op == "Not" or view.is_number(negation.inputs[1], 0)):
        return _of_condition(view, negation.inputs[0], not hidden, (*moves, (negation, name)))
    node = view.made_by(name, "And", "Expand")
    conjunction = node if node is None or node.op == "And" else view.made_by(node.inputs[0], "And")
    if hidden or node is None or conjunction is None:
        return Mask(name, hidden, (), moves)
    moves = (*moves, (node, name)) if node is conjunction else (*moves, (node, name), (conjunction, node.inputs[0]))
    left, right = (_of_condition(view, one, hidden, moves) for one in conjunction.inputs)
    return left.joined(right) if left is not None and right is not None and left.fits(right) else None


def _added(view: View, name: str, moves: Moves) -> Mask | None:
    """The mask of a tensor that is 0 where a key is seen, and far below elsewhere."""
    contents = view.graph.values[name].contents
    if contents is not None:
        if all(not one.any() for one in contents):
            return Mask()
        fits = all(((one == 0) | (one <= _HIDDEN)).all() for one in contents)
        return Mask(known=tuple(one == 0 for one in contents)) if fits else None
    node = view.made_by(name, "Where", "Mul", *_SPREADING)
    if node is None:
        return None
    moves = (*moves, (node, name))
    if node.op == "Where":
        inside, outside = (_everywhere(view, one) for one in node.inputs[1:])
        if inside == 0 and outside is not None and outside <= _HIDDEN:
            return _of_condition(view, node.inputs[0], False, moves)
        if outside == 0 and inside is not None and inside <= _HIDDEN:
            return _of_condition(view, node.inputs[0], True, moves)
        return None
    if node.op in ("Mul", "And"):
        return _by_product(view, node, moves) or (
            _added(view, ones, moves) if (ones := _without_all(view, node)) else None
        )
    return _added(view, node.inputs[0], moves)


def _everywhere(view: View, name: str) -> float | None:
    """The number that all elements of a known tensor are."""
    contents = view.graph.values[name].contents
    if contents is None or not all(one.size for one in contents):
        return None
    number = contents[0].reshape(-1)[0]
    return float(number) if all((one == number).all() for one in contents) else None


def _by_product(view: View, node: Node, moves: Moves) -> Mask | None:
    """`(1 - mask) * -10000`."""
    split = view.split(node)
    rest = view.made_by(split[1], "Sub") if split is not None and split[0] <= _HIDDEN else None
    fits = rest is not None and split is not None and view.is_number(rest.inputs[0], 1)
    return Mask(rest.inputs[1], moves=(*moves, (rest, split[1]))) if fits and rest and split else None


def _by_key(view: View, mask: Mask, shapes: Sequence[tuple[int, int, int]]) -> str | None:
    """The tensor [rows, keys] that was spread to a mask of scores."""
    values, name, moves = view.graph.values, mask.seen, list(mask.moves)
    for _ in range(12):
        value = values[name]
        if value.rank == 2 and all(s == (r, k) for s, (r, _, k) in zip(value.shapes, shapes, strict=True)):
            return _unconverted(view, name) if _is_spread(view, name, moves) else None
        node = view.made_by(name, *_SPREADING, "And", "Mul")
        if node is None:
            return None
        moves.append((node, name))
        source = _without_all(view, node) if node.op in ("And", "Mul") else node.inputs[0]
        if source is None:
            return None
        name = source
    return None


def _unconverted(view: View, name: str) -> str | None:
    """A mask before it was converted to floats; None for one of floats, which may be between 0 and 1."""
    cast = view.made_by(name, "Cast")
    if cast is not None and view.graph.values[name].dtype.startswith("float"):
        name = cast.inputs[0]
    return None if view.graph.values[name].dtype.startswith("float") else name


def _is_spread(view: View, name: str, moves: Sequence[tuple[Node, str]]) -> bool:
    """Whether nodes bring rows to the first axis, keys to the last, and repeat both along all others."""
    axes = whole(view.graph.values[name].shapes[0]).axes
    rows, keys = axes
    layout: Layout | None = Layout(axes, (0, 0))
    for node, output in reversed(moves):
        if layout is None:
            return False
        if node.op in _MOVING:
            layout = moved(view, node, output, layout)
        else:  # an elementwise operation, or one that repeats
            further = view.graph.values[output].rank - len(layout.axes)
            layout = Layout(((),) * further + layout.axes, layout.first)
    return layout is not None and layout.axes == (rows, *((),) * (len(layout.axes) - 2), keys)


def _without_all(view: View, node: Node) -> str | None:
    """The other operand of a conjunction with what is always true."""
    for i in (0, 1):
        contents = view.graph.values[node.inputs[i]].contents
        if contents is not None and all((one == 1).all() for one in contents):
            return node.inputs[1 - i]
    return None


def _as_boolean(view: View, name: str, turned: bool, visible: Visible, prefix: str) -> Visible:
    """A mask of numbers is true where it is not 0."""
    graph = view.graph
    value = graph.values[name]
    nodes: list[Node] = []
    if value.dtype != "bool":
        result = f"{prefix} seen"
        graph.values[result] = Value(result, "bool", value.shapes)
        nodes.append(Node("Cast", (name,), (result,), {"to": 9}, name, 13))
        name = result
    if turned:
        result = f"{prefix} not hidden"
        graph.values[result] = Value(result, "bool", value.shapes)
        nodes.append(Node("Not", (name,), (result,), {}, name, 13))
        name = result
    return replace(visible, name=name, nodes=nodes)
