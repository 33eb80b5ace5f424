"""LSTM, GRU and RNN: layers of the library where they own their weights, or else functions with weights as operands."""

from __future__ import annotations

import numpy as np

from runtime.imports.onnx import code
from runtime.imports.onnx.code import Code, Weight
from runtime.imports.onnx.graph import Tensor
from runtime.imports.onnx.site import Site, Translation, joined

# The gates of ONNX in the order of the library's layers.
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
_USUAL = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}


def _recurrent(site: Site) -> list[Code]:
    op = site.node.op
    both = site.attribute("direction", "forward") == "bidirectional"
    directions = 2 if both else 1
    usual = _USUAL[op] * directions
    given = [name.capitalize() if name.islower() else name for name in site.attribute("activations") or usual]
    if given != usual and not (op == "RNN" and set(given) <= {"Tanh", "Relu"} and len(set(given)) == 1):
        raise site.refuse(f"with the activations {', '.join(given)}", "write its step as a `scan`")
    if site.attribute("clip") is not None or site.attribute("input_forget", 0):
        raise site.refuse("with clipping, or with coupled gates", "write its step as a `scan`")
    if site.has(4) and not _is_full(site):
        raise site.refuse("with rows of several lengths", "give all rows the same length, or use `where` of the layer")
    constant = all(not site.has(i) or site.value(i).is_constant for i in (1, 2, 3, 7))
    return _by_layers(site, both, given[0]) if constant and not site.has(7) else _by_scan(site, both, given[0])


def _is_full(site: Site) -> bool:
    lengths = site.value(4).constant
    time = site.value(0).shapes[0][1 if site.attribute("layout", 0) else 0]
    return lengths is not None and bool((lengths == time).all())


def _gates(array: Tensor, op: str, units: int) -> Tensor:
    """The rows of gates in the library's order, and transposed: columns are gates."""
    parts = array.reshape(len(_ORDER[op]), units, -1)
    return np.ascontiguousarray(parts[list(_ORDER[op])].reshape(len(_ORDER[op]) * units, -1).T)


def _weights(site: Site, direction: int) -> tuple[list[Weight], bool]:
    """The weights of a layer in its order, and whether it has biases."""
    op, units = site.node.op, int(site.attribute("hidden_size"))
    W, U = (site.value(i).constant for i in (1, 2))
    assert W is not None
    assert U is not None
    origin = site.value(1).weight or (site.node.inputs[1],)
    w, u = _gates(W[direction], op, units), _gates(U[direction], op, units)
    bias = site.value(3).constant if site.has(3) else None
    size = len(_ORDER[op]) * units
    b, d = (
        (None, None)
        if bias is None
        else (_gates(bias[direction][:size], op, units)[0], _gates(bias[direction][size:], op, units)[0])
    )
    found: list[Tensor | None]
    if op == "GRU" and not site.attribute("linear_before_reset", 0):
        if b is not None and d is not None:
            b = b + d
        found = [w, b, u[:, : 2 * units], u[:, 2 * units :]]
    elif op == "GRU":
        found = [w, b, u, d]
    else:
        found = [w, u, b, d]
    return [Weight(np.ascontiguousarray(one), origin) for one in found if one is not None], bias is not None


def _stage(site: Site, has_bias: bool, activation: str) -> str:
    op, units = site.node.op, int(site.attribute("hidden_size"))
    settings = [str(units)]
    if op == "GRU" and site.attribute("linear_before_reset", 0):
        settings.append('reset = "after"')
    if op == "GRU":
        settings.append('z_weighs = "old"')
    if op == "RNN" and activation == "Relu":
        settings.append("relu")
    settings.append('output = "states"')
    if not has_bias:
        settings.append("bias = false")
    elif op != "GRU":
        settings.append("recurrent_bias = true")
    return f"{ {'LSTM': 'lstm', 'GRU': 'gru', 'RNN': 'simple_rnn'}[op] }({', '.join(settings)})"


def _starts(site: Site, direction: int) -> list[Code]:
    """The states that the model gives, [batch, units] each."""
    found: list[Code] = []
    axis = "" if not site.attribute("layout", 0) else ":, "
    for place in (5, 6) if site.node.op == "LSTM" else (5,):
        if not site.has(place):
            continue
        value = site.value(place)
        if value.constant is not None and not value.constant.any():
            continue
        found.append(code.index(site.tensor(place), f"{axis}{direction}"))
    return found


def _by_layers(site: Site, both: bool, activation: str) -> list[Code]:
    x = site.tensor(0)
    x = x if site.attribute("layout", 0) else code.call("transpose", x, *(code.number(a) for a in (1, 0, 2)))
    if both:
        (x,) = site.bind(x, 1)
    backward = both or site.attribute("direction", "forward") == "reverse"
    outputs: list[list[Code]] = []
    for direction in range(2 if both else 1):
        turned = backward and (direction == 1 or not both)
        weights, has_bias = _weights(site, direction)
        fed = code.call("reverse", x, code.number(1)) if turned else x
        operands = ", ".join(one.argument for one in (fed, *_starts(site, direction)))
        made = Code(f"{_stage(site, has_bias, activation)}({operands})", code.TIGHT, fed.weights + tuple(weights))
        parts = site.bind(made, 3 if site.node.op == "LSTM" else 2)
        outputs.append([code.call("reverse", parts[0], code.number(1)) if turned else parts[0], *parts[1:]])
    return _arranged(site, outputs)


def _arranged(site: Site, outputs: list[list[Code]]) -> list[Code]:
    """The results of ONNX from those of each direction: hs [batch, time, units], h and c [batch, units]."""
    results: list[Code] = []
    layout = bool(site.attribute("layout", 0))
    for place, parts in enumerate(zip(*outputs, strict=True)):
        if place == 0 and site.attribute("joined", 0):  # by a pass
            results.append(joined(parts, 2))
            continue
        if place == 0:
            items = ":, :, None" if layout else ":, None"
            parts = [
                one if layout else code.call("transpose", one, *(code.number(a) for a in (1, 0, 2))) for one in parts
            ]
            axis = 2 if layout else 1
        else:
            items, axis = (":, None", 1) if layout else ("None", 0)
        results.append(joined([code.index(one, items) for one in parts], axis))
    return results


def _by_scan(site: Site, both: bool, activation: str) -> list[Code]:
    """One direction with weights that are operands, as a function that is written into the file."""
    op = site.node.op
    if activation == "Relu":
        raise site.refuse("whose weights are computed, with Relu", "make them constants")
    helper = f"{op.lower()}_by"
    site.helper(helper)
    layout = bool(site.attribute("layout", 0))
    x = site.tensor(0)
    x = code.call("transpose", x, *(code.number(a) for a in (1, 0, 2))) if layout else x
    if both:
        (x,) = site.bind(x, 1)
    backward = both or site.attribute("direction", "forward") == "reverse"
    outputs: list[list[Code]] = []
    for direction in range(2 if both else 1):
        turned = backward and (direction == 1 or not both)
        fed = code.call("reverse", x, code.number(0)) if turned else x
        setting = f"({'true' if site.attribute('linear_before_reset', 0) else 'false'})" if op == "GRU" else ""
        operands = [fed, *_scan_operands(site, direction)]
        hs, *last = site.bind(code.call(helper + setting, *operands), 3 if op == "LSTM" else 2)
        hs = code.call("reverse", hs, code.number(0)) if turned else hs
        outputs.append([code.call("transpose", hs, *(code.number(a) for a in (1, 0, 2))), *last])
    return _arranged(site, outputs)


def _scan_operands(site: Site, direction: int) -> list[Code]:
    """Weights, biases and states of one direction, as the functions of `helpers` take them."""
    op, units = site.node.op, int(site.attribute("hidden_size"))
    layout = bool(site.attribute("layout", 0))
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    at = str(direction)
    batch = site.extent(site.value(0), 0 if layout else 1)
    bias = code.index(site.tensor(3), at) if site.has(3) else Code(f"zeros({2 * gates * units})")
    operands = [code.index(site.tensor(1), at), code.index(site.tensor(2), at), bias]
    for place in (5, 6) if op == "LSTM" else (5,):
        given = site.has(place)
        start = (
            code.index(site.tensor(place), f":, {at}" if layout else at) if given else Code(f"zeros({batch}, {units})")
        )
        operands.append(start)
    if op == "LSTM":
        operands.append(code.index(site.tensor(7), at) if site.has(7) else Code(f"zeros({3 * units})"))
    return operands


RECURRENT: dict[str, Translation] = {"LSTM": _recurrent, "GRU": _recurrent, "RNN": _recurrent}
