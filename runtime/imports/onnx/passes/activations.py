"""GELU, SiLU and others from the operations that exporters write them with."""

from __future__ import annotations

import math

from runtime.imports.onnx.graph import Graph, Node
from runtime.imports.onnx.passes.matching import View, each


def recognise_activations(graph: Graph) -> Graph:
    """`x * sigmoid(x)` is `Swish`; `0.5 x (1 + erf(x / sqrt 2))` and its form by tanh are `Gelu`."""
    return each(graph, ("Mul",), _product)


def _product(view: View, node: Node) -> bool:
    return _swish(view, node) or _gelu(view, node)


def _swish(view: View, node: Node) -> bool:
    for i in (0, 1):
        gate = view.inner(node.inputs[i], "Sigmoid")
        if gate is not None and gate.inputs[0] == node.inputs[1 - i]:
            view.replace(node, Node("Swish", (gate.inputs[0],), node.outputs, {}, node.place, node.version), [gate])
            return True
    return False


def _gelu(view: View, node: Node) -> bool:
    """A product of 0.5, x and `1 + erf(…)`, in any order."""
    factors, inner = _factors(view, node)
    numbers = [f for f in factors if view.number(f) is not None]
    others = [f for f in factors if view.number(f) is None]
    if len(numbers) != 1 or not view.is_number(numbers[0], 0.5) or len(others) != 2:
        return False
    for x, gate in (others, others[::-1]):
        add = view.inner(gate, "Add")
        split = view.split(add) if add is not None else None
        if add is None or split is None or split[0] != 1:
            continue
        found = _erf_of(view, split[1], x) or _tanh_of(view, split[1], x)
        if found is not None:
            kind, taken = found
            gelu = Node("Gelu", (x,), node.outputs, {"approximate": kind}, node.place, 20)
            view.replace(node, gelu, [*inner, add, *taken])
            return True
    return False


def _factors(view: View, node: Node) -> tuple[list[str], list[Node]]:
    """The operands of a product of products, and the inner nodes."""
    factors: list[str] = []
    inner: list[Node] = []
    for name in node.inputs:
        deeper = view.inner(name, "Mul")
        if deeper is None:
            factors.append(name)
        else:
            more, nodes = _factors(view, deeper)
            factors += more
            inner += [deeper, *nodes]
    return factors, inner


def _erf_of(view: View, name: str, x: str) -> tuple[str, list[Node]] | None:
    erf = view.inner(name, "Erf")
    scaled = view.inner(erf.inputs[0], "Div", "Mul") if erf is not None else None
    if erf is None or scaled is None or x not in scaled.inputs:
        return None
    root = math.sqrt(2) if scaled.op == "Div" else math.sqrt(0.5)
    other = view.other(scaled, x)
    fits = other is not None and view.is_number(other, root) and (scaled.op == "Mul" or scaled.inputs[0] == x)
    return ("none", [erf, scaled]) if fits else None


def _tanh_of(view: View, name: str, x: str) -> tuple[str, list[Node]] | None:
    """`tanh(sqrt(2 / pi) (x + 0.044715 x^3))`."""
    tanh = view.inner(name, "Tanh")
    scaled = view.inner(tanh.inputs[0], "Mul") if tanh is not None else None
    split = view.split(scaled) if scaled is not None else None
    if (
        tanh is None
        or scaled is None
        or split is None
        or not math.isclose(split[0], math.sqrt(2 / math.pi), rel_tol=1e-5)
    ):
        return None
    total = view.inner(split[1], "Add")
    cubic = view.other(total, x) if total is not None else None
    product = view.inner(cubic, "Mul") if cubic is not None else None
    inner = view.split(product) if product is not None else None
    if total is None or product is None or inner is None or not math.isclose(inner[0], 0.044715, rel_tol=1e-4):
        return None
    cube = _cube_of(view, inner[1], x)
    return None if cube is None else ("tanh", [tanh, scaled, total, product, *cube])


def _cube_of(view: View, name: str, x: str) -> list[Node] | None:
    power = view.inner(name, "Pow")
    if power is not None:
        return [power] if power.inputs[0] == x and view.is_number(power.inputs[1], 3) else None
    outer = view.inner(name, "Mul")
    square = view.other(outer, x) if outer is not None else None
    product = view.inner(square, "Mul", "Pow") if square is not None else None
    if outer is None or product is None or product.inputs[0] != x:
        return None
    fits = product.inputs[1] == x if product.op == "Mul" else view.is_number(product.inputs[1], 2)
    return [outer, product] if fits else None
