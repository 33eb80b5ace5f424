"""Attention of several heads from products, a softmax and the moves between them, as the library's layer.

The moves are not compared with those of any exporter: they are followed, and must give the heads of `attention`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from compiler.support.record import record
from runtime.imports.onnx.graph import Graph, Node, Tensor, Value
from runtime.imports.onnx.passes.layouts import MOVES, Axes, Layout, Part, joined, moved, regrouped, whole
from runtime.imports.onnx.passes.masks import Mask, mask_of
from runtime.imports.onnx.passes.matching import View, each
from runtime.imports.onnx.passes.rotary import REPEATED, ROTARY, turned_axes

LAYER = "attention"


@record
class _Source:
    """A moved product by constant weights: the node, the layout of what was made of it, and a factor.

    Each head stands `times` times behind the other. `base` is that of rotary positions along the first of the axes
    `turned`, which turn features along the second.
    """

    node: Node
    layout: Layout
    factor: float
    times: int = 1
    base: float | None = None
    turned: Axes = ()


@record
class _Heads:
    """The operand of a projection, [rows, time, d], with the weights and biases of its heads."""

    operand: str
    weights: Value
    bias: Value | None


def recognise_attention(graph: Graph) -> Graph:
    """Softmax of products of three projections, and the product with a fourth, are one layer."""
    return each(graph, ("Softmax",), _attention)


def _attention(view: View, node: Node) -> bool:
    values = view.graph.values
    rank = values[node.outputs[0]].rank
    if rank not in (3, 4) or node.attributes.get("axis", -1) % rank != rank - 1:
        return False
    mixed = _mixed(view, node)
    scores = _scores(view, node.inputs[0])
    if mixed is None or scores is None:
        return False
    product, factor, mask = scores
    sources = [_source(view, name) for name in (*product.inputs, mixed.inputs[1])]
    q, k, v = sources
    joint = _joint(view, mixed)
    if q is None or k is None or v is None or joint is None:
        return False
    if (q.times, k.times) != (1, v.times) or q.base != k.base or v.base is not None:
        return False
    made = _Maker(view, node, mixed, joint)
    return made.replace(q, k, v, factor * q.factor * k.factor, mask) if v.factor == 1 else False


def _mixed(view: View, softmax: Node) -> Node | None:
    """The product of the weights with the values; weights that are not numbers may be 0 there."""
    name = softmax.outputs[0]
    readers = view.readers.get(name, [])
    if name in view.graph.outputs:
        return None
    if len(readers) > 1:
        chosen = _numbers_of(view, name, readers)
        if chosen is None:
            return None
        name = chosen
        readers = view.readers.get(name, [])
    single = len(readers) == 1 and readers[0].op == "MatMul" and readers[0].inputs[0] == name
    return readers[0] if single and len(readers[0].inputs) == 2 else None


def _numbers_of(view: View, name: str, readers: Sequence[Node]) -> str | None:
    """The weights with 0 where they are not numbers."""
    tests = {one.outputs[0] for one in readers if one.op == "IsNaN"}
    for node in readers:
        if node.op == "Where" and len(readers) == 2 and len(tests) == 1:
            condition, zero, kept = node.inputs
            return node.outputs[0] if condition in tests and view.is_number(zero, 0) and kept == name else None
    return None


def _scores(view: View, name: str) -> tuple[Node, float, Mask] | None:
    """The product of queries and keys, the factor behind it, and the mask that is added."""
    factor, mask = 1.0, Mask()
    for _ in range(8):
        node = view.inner(name, "MatMul", "Mul", "Div", "Add", "Where", "Reshape")
        if node is None:
            return None
        if node.op == "MatMul":
            return (node, factor, mask) if len(node.inputs) == 2 else None
        if node.op == "Reshape":
            return None
        if node.op in ("Mul", "Div"):
            scaled = _scaled(view, node)
            if scaled is None:
                return None
            factor, name = factor * scaled[0], scaled[1]
            continue
        found = mask_of(view, node)
        if found is None or not mask.fits(found[0]):
            return None
        mask, name = mask.joined(found[0]), found[1]
    return None


def _scaled(view: View, node: Node) -> tuple[float, str] | None:
    """The factor and the other operand of a product with a number, or a quotient by one."""
    if node.op == "Div":
        divisor = view.number(node.inputs[1])
        return None if not divisor else (1 / divisor, node.inputs[0])
    split = view.split(node)
    return split


def _source(view: View, name: str) -> _Source | None:
    """The product by constant weights from which a tensor comes by moves, with factors on the way."""
    chain: list[tuple[Node, str]] = []
    factor, operand = 1.0, name
    while (node := view.made_by(name, *MOVES, "Mul", "Div", ROTARY, REPEATED)) is not None:
        if node.op in ("Mul", "Div"):
            scaled = _scaled(view, node)
            if scaled is None:
                return None
            factor, name = factor * scaled[0], scaled[1]
        else:
            chain.append((node, name))
            name = node.inputs[0]
    made = view.made_by(name, "MatMul", "Gemm")
    if made is None or weights_of(view, made) is None:
        return None
    return _followed(view, _Source(made, whole(view.graph.values[name].shapes[0]), factor), chain, operand)


def _followed(view: View, source: _Source, chain: list[tuple[Node, str]], operand: str) -> _Source | None:
    """A product behind a chain of moves, whose last stands first; `operand` is what they make."""
    while chain:
        node, output = chain.pop()
        if node.op == REPEATED:
            order = turned_axes(view, output, operand, chain)
            if order is None:
                return None
            axes = tuple(source.layout.axes[axis] for axis in order)
            return replace(source, layout=Layout(axes, source.layout.first), times=int(str(node.attributes["times"])))
        if node.op == ROTARY:
            if source.base is not None:
                return None
            source = replace(source, base=float(str(node.attributes["base"])), turned=source.layout.axes[-2:])
            continue
        layout = moved(view, node, output, source.layout)
        if layout is None:
            return None
        source = replace(source, layout=layout)
    return source


def weights_of(view: View, node: Node) -> Tensor | None:
    """The matrix [inputs, units] of a product by constant weights that nothing else reads, without factors."""
    name = node.inputs[1]
    turned = view.made_by(name, "Transpose")
    names = (name,) if turned is None else (name, turned.inputs[0])
    content = view.graph.values[names[-1]].constant
    if (
        any(len(view.readers.get(one, ())) != 1 for one in names)
        or content is None
        or content.ndim != 2
        or content.dtype.kind != "f"
    ):
        return None
    attributes = node.attributes
    if attributes.get("transA", 0) or attributes.get("alpha", 1.0) != 1 or attributes.get("beta", 1.0) != 1:
        return None
    return content.T if bool(attributes.get("transB", 0)) != (turned is not None) else content


def _bias_of(view: View, node: Node, units: int) -> Tensor | None:
    """The vector that a product adds; zeros where it adds none, None where it adds another tensor."""
    name = _bias_name(node)
    if not name:
        return np.zeros(units, np.float32)
    content = view.graph.values[name].constant
    return content.reshape(-1) if content is not None and content.size == units else None


def _bias_name(node: Node) -> str:
    return next(iter(node.inputs[2:]), "")


def _joint(view: View, mixed: Node) -> _Source | None:
    """The product that joins the heads, with the layout of its operand in terms of the weighted values."""
    name = mixed.outputs[0]
    layout: Layout | None = whole(view.graph.values[name].shapes[0])
    while layout is not None:
        readers = view.readers.get(name, [])
        if len(readers) != 1 or name in view.graph.outputs:
            return None
        node = readers[0]
        if node.op in ("MatMul", "Gemm"):
            fits = node.inputs[0] == name and weights_of(view, node) is not None
            return _Source(node, layout, 1.0) if fits else None
        if node.op not in ("Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"):
            return None
        name = node.outputs[0]
        layout = moved(view, node, name, layout)
    return None


class _Maker:
    """Puts the layer in place of the product that joins the heads, if all layouts are those of the layer."""

    def __init__(self, view: View, softmax: Node, mixed: Node, joint: _Source) -> None:
        self.view, self.softmax, self.mixed, self.joint = view, softmax, mixed, joint
        self.prefix = f"{softmax.outputs[0]} heads"
        self.added: list[Node] = []

    def replace(self, q: _Source, k: _Source, v: _Source, factor: float, mask: Mask) -> bool:
        sizes = self._sizes()
        if sizes is None:
            return False
        rows, heads, time, keys, width = sizes
        shared = heads // k.times
        wanted = {"q": (rows, heads, time, width), "k": (rows, shared, width, keys), "v": (rows, shared, keys, width)}
        scale = factor * math.sqrt(width)
        parts = [
            self._heads("q", q, wanted["q"], (0, 2, 1, 3), scale),
            self._heads("k", k, wanted["k"], (0, 3, 1, 2), 1.0),
            self._heads("v", v, wanted["v"], (0, 2, 1, 3), 1.0),
        ]
        if any(part is None for part in parts):
            return False
        chosen = [part for part in parts if part is not None]
        settings = {"heads": heads, "key_heads": shared, "base": q.base}
        return self._write(chosen, settings, heads * width, mask)

    def _sizes(self) -> tuple[int, int, int, int, int] | None:
        """Rows, heads, queries, keys and the width of a head at the first point; each must be above 1."""
        values = self.view.graph.values
        scores, result = values[self.softmax.outputs[0]].shapes[0], values[self.mixed.outputs[0]].shapes[0]
        if len(scores) == 4:
            rows, heads = scores[:2]
        else:
            split = self._split_rows()
            if split is None:
                return None
            rows, heads = split
        return rows, heads, scores[-2], scores[-1], result[-1]

    def _split_rows(self) -> tuple[int, int] | None:
        """Rows and heads where both are one axis, in this order, by how the heads are joined."""
        order = self.joint.layout.axes[-1]
        heads = next((part.size for part in order if part.axis == 0), 1)
        whole_axis = self.view.graph.values[self.mixed.outputs[0]].shapes[0][0]
        return None if heads == 1 or whole_axis % heads else (whole_axis // heads, heads)

    def _heads(
        self, name: str, source: _Source, shape: tuple[int, ...], order: tuple[int, ...], factor: float
    ) -> _Heads | None:
        """The projection whose heads lie as the layer's: `order` brings rows, time, heads and width of them there."""
        values = self.view.graph.values
        axes = regrouped(source.layout.order, shape)
        made = values[source.node.outputs[0]]
        if axes is None:
            return None
        rows, time, head, width = (axes[place] for place in order)
        if source.base is not None and tuple(map(joined, source.turned)) != (time, width):
            return None
        last = made.rank - 1
        if len(width) != 1 or width[0].axis != last or any(part.axis != last for part in head) or len(head) > 1:
            return None
        inner = np.arange(width[0].size) * width[0].stride
        outer = np.arange(head[0].size)[:, None] * head[0].stride if head else np.zeros((1, 1), int)
        columns = (source.layout.first[last] + outer + inner).reshape(-1)
        if any(source.layout.first[axis] for axis in range(last)):
            return None
        operand = self._operand(source.node, rows, time)
        weights = weights_of(self.view, source.node)
        bias = _bias_of(self.view, source.node, made.shapes[0][-1])
        if operand is None or weights is None or bias is None or columns.max() >= weights.shape[1]:
            return None
        return self._owned(name, source.node, operand, weights[:, columns] * factor, bias[columns] * factor)

    def _owned(self, name: str, node: Node, operand: str, weights: Tensor, bias: Tensor) -> _Heads:
        origin = _bias_name(node)
        held = self._constant(f"{name} bias", bias, origin) if origin else None
        return _Heads(operand, self._constant(f"{name} weights", weights, node.inputs[1]), held)

    def _constant(self, name: str, content: Tensor, origin: str) -> Value:
        """A constant of the layer, under the name of what it was made of."""
        graph = self.view.graph
        turned = self.view.made_by(origin, "Transpose")
        source = graph.values[turned.inputs[0] if turned is not None else origin]
        content = np.ascontiguousarray(content.astype(np.float32))
        points = len(graph.sizes)
        full = f"{self.prefix} {name}"
        graph.values[full] = Value(
            full, "float32", (content.shape,) * points, (content,) * points, source.weight or (source.name,)
        )
        return graph.values[full]

    def _operand(self, node: Node, rows: tuple[Part, ...], time: tuple[Part, ...]) -> str | None:
        """The operand of a projection with its rows first and time behind them."""
        values = self.view.graph.values
        name = node.inputs[0]
        value = values[name]
        lead = values[node.outputs[0]].rank - 1
        if value.rank != lead + 1:
            return None
        plain = whole(values[node.outputs[0]].shapes[0]).axes[:lead]
        if lead == 2 and (rows, time) == plain:
            return name
        if lead == 2 and (time, rows) == plain:
            return self._move("Transpose", name, {"perm": [1, 0, 2]}, [(s[1], s[0], s[2]) for s in value.shapes])
        if lead != 1:
            return None
        split = joined((*time, *rows)) == plain[0]
        if not split and joined((*rows, *time)) != plain[0]:
            return None
        sizes = self._times(node, split, rows, time)
        if sizes is None:
            return None
        name = self._move("Reshape", name, {}, [(*pair, s[1]) for pair, s in zip(sizes, value.shapes, strict=True)])
        if not split:
            return name
        shapes = [(b, a, s[1]) for (a, b), s in zip(sizes, value.shapes, strict=True)]
        return self._move("Transpose", name, {"perm": [1, 0, 2]}, shapes)

    def _times(
        self, node: Node, split: bool, rows: tuple[Part, ...], time: tuple[Part, ...]
    ) -> list[tuple[int, int]] | None:
        """The two sizes of a joint axis at every point: the fixed one of them is that of the first."""
        count = [shape[0] for shape in self.view.graph.values[node.outputs[0]].shapes]
        fixed = math.prod(part.size for part in time)
        if math.prod(part.size for part in rows) * fixed != count[0] or any(n % fixed for n in count):
            return None
        return [(fixed, n // fixed) if split else (n // fixed, fixed) for n in count]

    def _move(self, op: str, name: str, attributes: dict[str, object], shapes: list[tuple[int, ...]]) -> str:
        graph = self.view.graph
        result = f"{self.prefix} {op} {len(self.added)} of {name}"
        graph.values[result] = Value(result, graph.values[name].dtype, tuple(shapes))
        self.added.append(Node(op, (name,), (result,), attributes, self.softmax.place, 13))
        return result

    def _write(self, parts: list[_Heads], settings: dict[str, Any], width: int, mask: Mask) -> bool:
        view, values = self.view, self.view.graph.values
        last = self.joint.node
        weights = weights_of(view, last)
        bias = _bias_of(view, last, values[last.outputs[0]].shapes[0][-1])
        layout = self._joined_layout(settings["heads"])
        q = values[parts[0].operand]
        shared = width // settings["heads"] * settings["key_heads"]
        if weights is None or bias is None or layout is None or weights.shape != (width, width):
            return False
        if (q.shapes[0][-1], *(part.weights.shapes[0][1] for part in parts)) != (width, width, shared, shared):
            return False
        visible = mask.value(view, self._shapes(parts), self.prefix)
        if visible is None:
            return False
        out = self._owned("out", last, "", weights, bias)
        has_bias = any(part.bias is not None for part in (*parts, out))
        inputs = [*(part.operand for part in parts), visible.name]
        for name, part in zip(("q", "k", "v", "out"), (*parts, out), strict=True):
            zeros = np.zeros(part.weights.shapes[0][1], np.float32)
            bias_value = part.bias or self._constant(f"{name} no bias", zeros, part.weights.name)
            inputs += [part.weights.name, bias_value.name if has_bias else ""]
        settings = {**settings, "causal": visible.causal, "bias": has_bias}
        return self._place(Node(LAYER, tuple(inputs), (), settings, last.place, 1), layout, q, visible.nodes)

    def _shapes(self, parts: list[_Heads]) -> list[tuple[int, int, int]]:
        """Rows, queries and keys at every point."""
        values = self.view.graph.values
        q, k = values[parts[0].operand].shapes, values[parts[1].operand].shapes
        return [(a[0], a[1], b[1]) for a, b in zip(q, k, strict=True)]

    def _joined_layout(self, heads: int) -> Axes | None:
        """How rows and time lie in the operand of the last product: its axes but the last, as parts of axes 0 and 1."""
        values = self.view.graph.values
        shape = values[self.mixed.outputs[0]].shapes[0]
        layout = self.joint.layout
        rows = shape[0] if len(shape) == 4 else shape[0] // heads
        head, width = Part(1 if len(shape) == 4 else 0, 1, heads), Part(len(shape) - 1, 1, shape[-1])
        if layout.axes[-1] != joined([head, width] if heads > 1 else [width]) or any(layout.first):
            return None
        turned = {(0, 1 if len(shape) == 4 else heads): Part(0, 1, rows), (len(shape) - 2, 1): Part(1, 1, shape[-2])}
        found: list[tuple[Part, ...]] = []
        for one in layout.axes[:-1]:
            if any((part.axis, part.stride) not in turned for part in one):
                return None
            found.append(tuple(turned[part.axis, part.stride] for part in one))
        wanted = {Part(0, 1, rows), Part(1, 1, shape[-2])}
        return tuple(found) if {part for one in found for part in one} == wanted else None

    def _place(self, layer: Node, layout: Axes, q: Value, before: list[Node]) -> bool:
        """The layer, and the moves that bring its result [rows, time, d] where the last product had it."""
        graph, last = self.view.graph, self.joint.node
        target = graph.values[last.outputs[0]]
        if [part for axis in layout for part in axis] == [
            part for axis in whole(q.shapes[0]).axes[:2] for part in axis
        ]:
            order = None
        else:
            order = [1, 0, 2]
        if order is None and target.shapes == q.shapes:
            self.view.replace(last, Node(layer.op, layer.inputs, last.outputs, layer.attributes, layer.place, 1))
            self.view.put_before(last, [*self.added, *before])
            return True
        made = f"{self.prefix} result"
        graph.values[made] = Value(made, q.dtype, q.shapes)
        nodes = [*self.added, *before, Node(layer.op, layer.inputs, (made,), layer.attributes, layer.place, 1)]
        self.added = []
        name = made
        if order is not None:
            shapes = [(s[1], s[0], s[2]) for s in q.shapes]
            name = self._move("Transpose", made, {"perm": order}, shapes)
        nodes += self.added
        self.view.put_before(last, nodes)
        self.view.replace(last, Node("Reshape", (name,), last.outputs, {}, layer.place, 13))
        return True
