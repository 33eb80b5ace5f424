"""Rotary positions, and heads that several queries share, from the operations that exporters write them with."""

from __future__ import annotations

import math

import numpy as np

from runtime.imports.onnx.graph import Graph, Node, Tensor
from runtime.imports.onnx.passes.layouts import moved, regrouped, slice_start, whole
from runtime.imports.onnx.passes.matching import View, each

ROTARY = "rotary"
REPEATED = "repeated"
_MOST_APART = 1e-5  # of a sine or cosine, for each position: exporters compute angles in f32


def recognise_rotary(graph: Graph) -> Graph:
    """`x cos + concat(-second half of x, first half) sin` turns pairs of features by angles of their positions."""
    return each(graph, ("Add",), _turned)


def _turned(view: View, node: Node) -> bool:
    for i in (0, 1):
        plain, crossed = view.inner(node.inputs[i], "Mul"), view.inner(node.inputs[1 - i], "Mul")
        if plain is None or crossed is None:
            continue
        for x, cosine in (plain.inputs, plain.inputs[::-1]):
            for halves, sine in (crossed.inputs, crossed.inputs[::-1]):
                base = _base_of(view, x, cosine, sine) if _is_crossed(view, halves, x) else None
                if base is not None:
                    settings = {"base": base, "halves": True}
                    view.replace(node, Node(ROTARY, (x,), node.outputs, settings, node.place, 1), [plain, crossed])
                    return True
    return False


def _is_crossed(view: View, name: str, x: str) -> bool:
    """Whether a tensor is the second half of x along the last axis, negative, and then the first half."""
    joint = view.made_by(name, "Concat")
    value = view.graph.values[x]
    if joint is None or len(joint.inputs) != 2 or value.rank < 2 or value.shapes[0][-1] % 2:
        return False
    negative = view.made_by(joint.inputs[0], "Neg", "Mul")
    if negative is None or joint.attributes["axis"] % value.rank != value.rank - 1:
        return False
    if negative.op == "Neg":
        second = negative.inputs[0]
    else:
        split = view.split(negative)
        if split is None or split[0] != -1:
            return False
        second = split[1]
    half = value.shapes[0][-1] // 2
    return _is_half(view, second, x, half) and _is_half(view, joint.inputs[1], x, 0)


def _is_half(view: View, name: str, x: str, start: int) -> bool:
    node = view.made_by(name, "Slice", "Split")
    values = view.graph.values
    if node is None or node.inputs[0] != x:
        return False
    pairs = zip(values[name].shapes, values[x].shapes, strict=True)
    if any(part != (*full[:-1], full[-1] // 2) for part, full in pairs):
        return False
    if node.op == "Split":
        return node.outputs.index(name) == (1 if start else 0) and len(node.outputs) == 2
    rank = values[x].rank
    found = slice_start(view, node, rank - 1, rank)
    return found is not None and found % values[x].shapes[0][-1] == start


def _base_of(view: View, x: str, cosine: str, sine: str) -> float | None:
    """The base of the wave lengths, where the tables are those of the library's `rotary` at every point."""
    tables = [view.graph.values[name].contents for name in (cosine, sine)]
    if tables[0] is None or tables[1] is None:
        return None
    base: float | None = None
    for c, s, shape in zip(tables[0], tables[1], view.graph.values[x].shapes, strict=True):
        time, width = shape[-2:]
        if any(one.shape[-2:] != (time, width) or one.size != time * width for one in (c, s)) or width < 4:
            return None
        c, s = (one.reshape(time, width).astype(np.float64) for one in (c, s))
        base = base or (_base_at(c, s) if time > 1 else None)
        if base is None or not _is_table(c, s, base):
            return None
    return base


def _base_at(cosine: Tensor, sine: Tensor) -> float | None:
    """The base by which the second pair of the second position is turned; a round number, if it is near one."""
    angle = math.atan2(float(sine[1, 1]), float(cosine[1, 1]))
    if not 0 < angle <= 1:
        return None
    exact = angle ** (-cosine.shape[1] / 2)
    rounded = float(f"{exact:.3g}")
    return rounded if math.isclose(exact, rounded, rel_tol=1e-4) else exact


def _is_table(cosine: Tensor, sine: Tensor, base: float) -> bool:
    time, width = cosine.shape
    places = np.arange(time, dtype=np.float64)[:, None]
    speeds = np.power(base, -2 * np.arange(width // 2, dtype=np.float64) / width)
    angles = np.tile(places * speeds, (1, 2))
    apart: Tensor = np.maximum(np.abs(np.cos(angles) - cosine), np.abs(np.sin(angles) - sine))
    return bool((apart <= _MOST_APART + 1e-6 * places).all())


def recognise_repeats(graph: Graph) -> Graph:
    """`Unsqueeze`, `Expand` and `Reshape` that repeat each element of the second of four axes are one operation."""
    return each(graph, ("Reshape",), _repeated)


def _repeated(view: View, node: Node) -> bool:
    spread = view.inner(node.inputs[0], "Expand")
    apart = view.made_by(spread.inputs[0], "Unsqueeze", "Reshape") if spread is not None else None
    if spread is None or apart is None:
        return False
    values = view.graph.values
    source, wide, result = (values[name] for name in (apart.inputs[0], spread.outputs[0], node.outputs[0]))
    if (source.rank, wide.rank, result.rank) != (4, 5, 4):
        return False
    times = wide.shapes[0][2]
    for i, (rows, heads, *inner) in enumerate(source.shapes):
        shapes = (values[spread.inputs[0]].shapes[i], wide.shapes[i], result.shapes[i])
        wanted = ((rows, heads, 1, *inner), (rows, heads, times, *inner), (rows, heads * times, *inner))
        if shapes != wanted:
            return False
    view.replace(node, Node(REPEATED, (apart.inputs[0],), node.outputs, {"times": times}, node.place, 1), [spread])
    return True


def turned_axes(view: View, repeated: str, operand: str, moves: list[tuple[Node, str]]) -> tuple[int, ...] | None:
    """The order of the axes of a repeated tensor in an operand that moves make of it; None where it is no order."""
    values = view.graph.values
    layout = whole(values[repeated].shapes[0])
    if any(node.op in (ROTARY, REPEATED) for node, _ in moves):
        return None
    for node, output in reversed(moves):
        found = moved(view, node, output, layout)
        if found is None:
            return None
        layout = found
    axes = regrouped(layout.order, values[operand].shapes[0])
    plain = whole(values[repeated].shapes[0]).axes
    if axes is None or len(axes) != len(plain) or any(layout.first):
        return None
    for order in ((0, 1, 2, 3), (0, 1, 3, 2)):
        if tuple(plain[axis] for axis in order) == axes:
            return order
    return None
