"""Recurrences as exporters of Keras and PyTorch write them: layers, loops, scans, and steps one after the other."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.driver import Options

onnx = pytest.importorskip("onnx", reason="reading ONNX needs the extra `onnx`")
helper, floats, whole = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
info = helper.make_tensor_value_info

TIME, WIDTH, UNITS = 4, 3, 5


class Net:
    """Nodes and constants that are written one after another."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.held: list[Any] = []
        self.numbers = count()
        self.random = np.random.default_rng(3)

    def add(self, op: str, *inputs: str, outputs: int = 1, **settings: Any) -> Any:
        made = [f"{op.lower()}_{next(self.numbers)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, **settings))
        return made[0] if outputs == 1 else made

    def hold(self, array: Any) -> str:
        self.held.append(onnx.numpy_helper.from_array(np.asarray(array), f"val_{next(self.numbers)}"))
        return str(self.held[-1].name)

    def whole(self, *numbers: int) -> str:
        return self.hold(np.array(numbers, np.int64))

    def weight(self, *shape: int) -> str:
        content = self.random.standard_normal(shape).astype(np.float32)
        self.held.append(onnx.numpy_helper.from_array(content, f"m.{next(self.numbers)}.weight"))
        return str(self.held[-1].name)

    def zero_state(self, *around: int) -> str:
        """Zeros of [*around, batch, UNITS], by the shape of x, as tf2onnx has them."""
        rows = self.add("Slice", self.add("Shape", "x"), self.whole(0), self.whole(1), self.whole(0))
        shape = self.add("Concat", *([self.whole(*around)] if around else []), rows, self.whole(UNITS), axis=0)
        return str(self.add("Expand", self.hold(np.float32(0)), shape))

    def imported(self, result: str, folder: Path, gives: str = "last") -> Any:
        from runtime.imports.onnx.importing import import_model

        shape = ["N", UNITS] if gives == "last" else ["N", TIME, UNITS]
        inputs = [info("x", floats, ["N", TIME, WIDTH])]
        graph = helper.make_graph(self.nodes, "net", inputs, [info(result, floats, shape)], self.held)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, str(folder / "model.onnx"))
        return import_model(folder / "model.onnx", {}, {}, Options(target="reference"))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("gives", ["sequence", "last"])
def test_layers_with_states_of_zeros_are_the_librarys(kind: str, gives: str, tmp_path: Path) -> None:
    net, gates = Net(), {"LSTM": 4, "GRU": 3}[kind]
    weights = net.weight(1, gates * UNITS, WIDTH), net.weight(1, gates * UNITS, UNITS), net.weight(1, 2 * gates * UNITS)
    states = [net.zero_state(1)] if kind == "GRU" else [net.zero_state(1), net.zero_state(1)]
    settings = {"linear_before_reset": 1} if kind == "GRU" else {}
    x = net.add("Transpose", "x", perm=[1, 0, 2])
    found = net.add(kind, x, *weights, "", *states, outputs=2, hidden_size=UNITS, **settings)
    result = net.add(
        "Squeeze", found[0] if gives == "sequence" else found[1], net.whole(1 if gives == "sequence" else 0)
    )
    result = net.add("Transpose", result, perm=[1, 0, 2]) if gives == "sequence" else result
    model = net.imported(result, tmp_path, gives)
    assert f"{kind.lower()}({UNITS}" in model.text
    assert "transpose(" not in model.text
    assert "full(" not in model.text
    assert model.apart < 1e-5


def test_steps_share_their_weights_and_keep_the_bias(tmp_path: Path) -> None:
    net = Net()
    W, U, b, c = net.weight(WIDTH, UNITS), net.weight(UNITS, UNITS), net.weight(UNITS), net.weight(UNITS)
    x = net.add("Add", net.add("MatMul", net.add("Transpose", "x", perm=[1, 0, 2]), W), b)
    state = net.zero_state()
    for step in range(TIME):
        given = net.add("Gather", x, net.hold(np.int64(step)), axis=0)
        state = net.add("Tanh", net.add("Add", net.add("Add", net.add("MatMul", state, U), c), given))
    assert net.imported(state, tmp_path).apart < 1e-5


def test_gates_are_cut_by_the_shape_of_a_product_of_zeros(tmp_path: Path) -> None:
    net = Net()
    U, c = net.weight(UNITS, 3 * UNITS), net.weight(3 * UNITS)
    state = net.add("Add", net.add("MatMul", net.zero_state(), U), c)
    size = net.add("Gather", net.add("Shape", state), net.whole(1), axis=0)
    third = net.add("Div", net.add("Add", size, net.whole(2)), net.whole(3))
    part = net.add("Slice", state, net.whole(0), third, net.whole(1))
    mean = net.add("ReduceMean", "x", net.whole(1, 2), keepdims=0)
    result = net.add("Add", part, net.add("Unsqueeze", mean, net.whole(1)))
    assert net.imported(result, tmp_path).apart < 1e-5


def body_of(net: Net, state: str, given: str, made: str) -> list[Any]:
    """A step of a simple recurrence, with weights from outside."""
    W, U, b = net.weight(WIDTH, UNITS), net.weight(UNITS, UNITS), net.weight(UNITS)
    return [
        helper.make_node("MatMul", [given, W], ["from_x"]),
        helper.make_node("MatMul", [state, U], ["from_state"]),
        helper.make_node("Add", ["from_x", "from_state"], ["both"]),
        helper.make_node("Add", ["both", b], ["whole"]),
        helper.make_node("Tanh", ["whole"], [made]),
        helper.make_node("Identity", [made], ["given_out"]),
    ]


@pytest.mark.parametrize("gives", ["sequence", "last"])
def test_a_scan_over_time(gives: str, tmp_path: Path) -> None:
    net = Net()
    body = helper.make_graph(
        body_of(net, "state", "row", "next"),
        "body",
        [info("state", floats, ["N", UNITS]), info("row", floats, ["N", WIDTH])],
        [info("next", floats, ["N", UNITS]), info("given_out", floats, ["N", UNITS])],
    )
    x = net.add("Transpose", "x", perm=[1, 0, 2])
    last, sequence = net.add("Scan", net.zero_state(), x, outputs=2, body=body, num_scan_inputs=1)
    result = last if gives == "last" else net.add("Transpose", sequence, perm=[1, 0, 2])
    assert net.imported(result, tmp_path, gives).apart < 1e-5


@pytest.mark.parametrize("gives", ["sequence", "last"])
def test_a_loop_over_time_that_gathers_its_rows(gives: str, tmp_path: Path) -> None:
    net = Net()
    x = net.add("Transpose", "x", perm=[1, 0, 2])
    nodes = [
        helper.make_node("Gather", [x, "round"], ["row"], axis=0),
        *body_of(net, "state", "row", "next"),
        helper.make_node("Add", ["round", net.hold(np.int64(1))], ["following"]),
        helper.make_node("Less", ["following", net.hold(np.int64(TIME))], ["goes_on"]),
    ]
    made = [info(name, floats, ["N", UNITS]) for name in ("next", "given_out")]
    body = helper.make_graph(
        nodes,
        "body",
        [info("round", whole, []), info("before", onnx.TensorProto.BOOL, []), info("state", floats, ["N", UNITS])],
        [info("goes_on", onnx.TensorProto.BOOL, []), *made],
    )
    times = net.add("Squeeze", net.add("Slice", net.add("Shape", x), net.whole(0), net.whole(1)))
    last, sequence = net.add("Loop", times, net.hold(np.bool_(True)), net.zero_state(), outputs=2, body=body)
    result = last if gives == "last" else net.add("Transpose", sequence, perm=[1, 0, 2])
    assert net.imported(result, tmp_path, gives).apart < 1e-5
