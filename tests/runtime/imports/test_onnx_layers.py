"""Layers of the library recognised in the operations that exporters write them with, and equal in their numbers."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.driver import Options
from compiler.errors.diagnostics import DlcError

onnx = pytest.importorskip("onnx", reason="reading ONNX needs the extra `onnx`")
helper, floats, whole = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.INT64

HEADS, WIDTH, TIME = 2, 6, 5


class Net:
    """Nodes and constants of a model that are written one after another."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.held: list[Any] = []
        self.numbers = count()
        self.random = np.random.default_rng(5)

    def add(self, op: str, *inputs: str, outputs: int = 1, **settings: Any) -> Any:
        made = [f"{op.lower()}_{next(self.numbers)}" for _ in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), made, **settings))
        return made[0] if outputs == 1 else made

    def hold(self, array: Any, name: str = "val") -> str:
        full = f"{name}_{next(self.numbers)}" if name == "val" else f"m.{next(self.numbers)}.{name}"
        self.held.append(onnx.numpy_helper.from_array(np.asarray(array), full))
        return full

    def weight(self, *shape: int, deviation: float = 1.0) -> str:
        return self.hold(self.random.normal(0, deviation, shape).astype(np.float32), "weight")

    def number(self, value: float) -> str:
        return self.hold(np.float32(value))

    def reshape(self, x: str, *shape: int) -> str:
        return str(self.add("Reshape", x, self.hold(np.array(shape, np.int64))))

    def dense(self, x: str, units: int) -> str:
        return str(self.add("Add", self.add("MatMul", x, self.weight(WIDTH, units)), self.weight(units)))

    def imported(self, result: str, inputs: dict[str, Any], folder: Path, sample: dict[str, Any]) -> Any:
        from runtime.imports.onnx.importing import import_model

        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(result, floats, ["N", "a", "b"])],
            self.held,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
        onnx.save(model, str(folder / "model.onnx"))
        return import_model(folder / "model.onnx", {}, sample, Options(target="reference"))


def parts_of(net: Net, x: str, form: str) -> list[str]:
    """Queries [rows, heads, time, width], keys and values, as exporters make them."""
    width = WIDTH // HEADS
    if form == "separate":
        parts = [net.reshape(net.dense(x, WIDTH), 0, TIME, HEADS, width) for _ in range(3)]
        return [str(net.add("Transpose", part, perm=[0, 2, 1, 3])) for part in parts]
    if form == "split":
        parts = net.add("Split", net.dense(x, 3 * WIDTH), outputs=3, axis=-1, num_outputs=3)
        return [str(net.add("Transpose", net.reshape(p, 0, TIME, HEADS, width), perm=[0, 2, 1, 3])) for p in parts]
    if form == "one":
        made = net.reshape(net.dense(x, 3 * WIDTH), 0, TIME, 3, HEADS, width)
        made = net.add("Transpose", made, perm=[2, 0, 3, 1, 4])
        return [str(net.add("Gather", made, net.hold(np.int64(i)), axis=0)) for i in range(3)]
    if form == "time first":
        made = net.dense(net.add("Transpose", x, perm=[1, 0, 2]), 3 * WIDTH)
        parts = net.add("Split", made, outputs=3, axis=-1, num_outputs=3)
        parts = [net.add("Transpose", net.reshape(p, TIME, -1, width), perm=[1, 0, 2]) for p in parts]
        return [net.reshape(part, -1, HEADS, TIME, width) for part in parts]
    assert form == "interleaved"  # of each head first its queries, then its keys and values
    made = net.reshape(net.dense(x, 3 * WIDTH), 0, TIME, HEADS, 3, width)
    parts = [net.add("Gather", made, net.hold(np.int64(i)), axis=3) for i in range(3)]
    return [str(net.add("Transpose", part, perm=[0, 2, 1, 3])) for part in parts]


def masked(net: Net, scores: str, mask: str) -> str:
    if mask == "causal":
        seen = np.where(np.tri(TIME, dtype=bool), 0, np.finfo(np.float32).min).astype(np.float32)
        return str(net.add("Add", scores, net.hold(seen)))
    if mask == "numbers":
        seen = net.add("Cast", net.add("Unsqueeze", "mask", net.hold(np.array([1, 2]))), to=floats)
        return str(net.add("Add", scores, net.add("Mul", net.add("Sub", net.number(1), seen), net.number(-1e9))))
    if mask == "filled":
        hidden = net.add("Equal", net.add("Unsqueeze", "mask", net.hold(np.array([1, 2]))), net.hold(np.int64(0)))
        return str(net.add("Where", hidden, net.number(-np.inf), scores))
    if mask == "causal and keys":
        keys = net.add("Cast", net.add("Unsqueeze", "mask", net.hold(np.array([1, 2]))), to=onnx.TensorProto.BOOL)
        both = net.add("And", net.hold(np.tri(TIME, dtype=bool)[None, None]), keys)
        return str(net.add("Add", scores, net.add("Where", both, net.number(0), net.number(-3e38))))
    return scores


FORMS = ("separate", "split", "one", "time first", "interleaved")
MASKS = ("none", "causal", "numbers", "filled", "causal and keys")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mask", MASKS)
def test_attention_is_the_librarys(form: str, mask: str, tmp_path: Path) -> None:
    if form != "separate" and mask not in ("none", "numbers"):
        pytest.skip("masks do not depend on how the heads are made")
    net = Net()
    x = net.dense("x", WIDTH)
    q, k, v = parts_of(net, x, form)
    keys = net.add("Transpose", k, perm=[0, 1, 3, 2])
    if form == "one":  # a part of the scale on both sides
        root = net.number((WIDTH // HEADS) ** -0.25)
        scores = net.add("MatMul", net.add("Mul", q, root), net.add("Mul", keys, root))
    else:
        scores = net.add("Div", net.add("MatMul", q, keys), net.number((WIDTH // HEADS) ** 0.5))
    weights = net.add("Softmax", masked(net, scores, mask), axis=-1)
    mixed = net.reshape(net.add("Transpose", net.add("MatMul", weights, v), perm=[0, 2, 1, 3]), 0, TIME, WIDTH)
    inputs: dict[str, Any] = {"x": (floats, ["N", TIME, WIDTH])}
    rows = np.random.default_rng(2).standard_normal((3, TIME, WIDTH)).astype(np.float32)
    sample = {"x": rows}
    if mask in ("numbers", "filled", "causal and keys"):
        inputs["mask"] = (whole, ["N", TIME])
        sample["mask"] = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 1, 0, 1]])
    found = net.imported(net.dense(mixed, WIDTH), inputs, tmp_path, sample)
    settings = ", causal = true" if "causal" in mask else ""
    where = ", where = " if len(inputs) > 1 else ")"
    assert f"attention({HEADS}{settings})(m, m, m{where}" in found.text
    assert "softmax" not in found.text
    assert len(found.weights) == 2 + 8
    assert found.apart < 1e-5


@pytest.mark.parametrize("change", ["", "another table", "halves that change places", "other positions of keys"])
def test_rotary_positions_and_shared_heads_are_those_of_the_library(change: str, tmp_path: Path) -> None:
    heads, shared, size, base = 4, 2, 4, 500.0
    net = Net()
    angles = np.arange(TIME)[:, None] * base ** (-2 * np.arange(size // 2) / size)
    angles = np.tile(angles, (1, 2)) * (1.1 if change == "another table" else 1.0)
    tables = [f(angles).astype(np.float32)[None, None] for f in (np.cos, np.sin)]
    later = [f(angles + 1).astype(np.float32)[None, None] for f in (np.cos, np.sin)]

    def turned(x: str, tables: list[Any]) -> str:
        low, high = net.add("Split", x, outputs=2, axis=-1, num_outputs=2)
        if change == "halves that change places":
            low, high = high, low
        crossed = net.add("Concat", net.add("Neg", high), low, axis=-1)
        return str(net.add("Add", *(net.add("Mul", a, net.hold(b)) for a, b in zip((x, crossed), tables, strict=True))))

    def heads_of(count: int) -> str:
        weight = net.weight(16, count * size, deviation=0.25)  # scores of some 50 would show the rounding of f32
        made = net.reshape(net.add("MatMul", "x", weight), 0, TIME, count, size)
        return str(net.add("Transpose", made, perm=[0, 2, 1, 3]))

    def spread(x: str) -> str:
        wide = net.add("Unsqueeze", x, net.hold(np.array([2])))
        wide = net.add("Expand", wide, net.hold(np.array([1, 1, heads // shared, 1, 1])))
        return net.reshape(wide, -1, heads, TIME, size)

    q, k, v = turned(heads_of(heads), tables), heads_of(shared), spread(heads_of(shared))
    k = spread(turned(k, later if change == "other positions of keys" else tables))
    scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 1, 3, 2]))
    weights = net.add("Softmax", net.add("Mul", scores, net.number(size**-0.5)), axis=-1)
    mixed = net.reshape(net.add("Transpose", net.add("MatMul", weights, v), perm=[0, 2, 1, 3]), 0, TIME, 16)
    result = net.add("MatMul", mixed, net.weight(16, 16))
    found = net.imported(result, {"x": (floats, ["N", TIME, 16])}, tmp_path, {})
    layer = "attention(4, bias = false, rotate = rotary(base = 500.0, halves = true), key_heads = 2)(x, x, x)"
    assert (layer in found.text) == (not change)
    assert ("softmax" in found.text) == bool(change)
    assert found.apart < 1e-5


@pytest.mark.parametrize(
    "change", ["a mask of scores", "a mask of floats", "another order of heads", "weights that are read"]
)
def test_what_is_no_attention_of_the_library_stays_a_formula(change: str, tmp_path: Path) -> None:
    net = Net()
    q, k, v = parts_of(net, "x", "separate")
    scores = net.add("MatMul", q, net.add("Transpose", k, perm=[0, 1, 3, 2]))
    if change == "a mask of scores":
        scores = net.add("Add", scores, net.weight(1, HEADS, TIME, TIME))
    inputs: dict[str, Any] = {"x": (floats, ["N", TIME, WIDTH])}
    if change == "a mask of floats":
        inputs["mask"] = (floats, ["N", TIME])
        shown = net.add("Unsqueeze", "mask", net.hold(np.array([1, 2])))
        scores = net.add("Add", scores, net.add("Mul", net.add("Sub", net.number(1), shown), net.number(-1e4)))
    weights = net.add("Softmax", scores, axis=-1)
    mixed = net.add("MatMul", weights, v)
    if change == "weights that are read":
        mixed = net.add("Mul", mixed, net.add("ReduceMax", weights, net.hold(np.array([-1]))))
    order = [0, 2, 3, 1] if change == "another order of heads" else [0, 2, 1, 3]
    mixed = net.reshape(net.add("Transpose", mixed, perm=order), 0, TIME, WIDTH)
    found = net.imported(net.dense(mixed, WIDTH), inputs, tmp_path, {})
    assert "attention(" not in found.text
    assert found.apart < 1e-5


def test_norms_of_small_operations_are_layers(tmp_path: Path) -> None:
    net = Net()
    centred = net.add("Sub", "x", net.add("ReduceMean", "x", net.hold(np.array([-1]))))
    spread = net.add("ReduceMean", net.add("Pow", centred, net.number(2)), net.hold(np.array([-1])))
    divided = net.add("Div", centred, net.add("Sqrt", net.add("Add", spread, net.number(1e-3))))
    x = net.add("Add", net.add("Mul", divided, net.weight(WIDTH)), net.weight(WIDTH))
    square = net.add("ReduceMean", net.add("Mul", x, x), net.hold(np.array([-1])))
    inverse = net.add("Reciprocal", net.add("Sqrt", net.add("Add", square, net.number(1e-6))))
    result = net.add("Mul", net.weight(WIDTH), net.add("Mul", x, inverse))
    found = net.imported(result, {"x": (floats, ["N", TIME, WIDTH])}, tmp_path, {})
    assert "x |> layer_norm(eps = 0.001) |> rms_norm(eps = 1e-6)" in found.text
    assert found.apart < 1e-5


def test_rows_come_first_around_an_lstm(tmp_path: Path) -> None:
    net = Net()
    x = net.add("Transpose", "x", perm=[1, 0, 2])
    for width in (WIDTH, 4):
        weights = (net.weight(1, 16, width), net.weight(1, 16, 4), net.weight(1, 32))
        x = net.add("Squeeze", net.add("LSTM", x, *weights, hidden_size=4), net.hold(np.array([1])))
    result = net.add("Transpose", x, perm=[1, 0, 2])
    found = net.imported(result, {"x": (floats, ["N", TIME, WIDTH])}, tmp_path, {})
    assert found.text.count("lstm(4") == 2
    assert "transpose(" not in found.text
    assert found.apart < 1e-5


@pytest.mark.parametrize(("stride", "further"), [(10, 2), (3, 2), (12, 10), (2, 0), (2, 2), (2, 10)])
def test_padding_of_the_output_is_below_the_stride(stride: int, further: int, tmp_path: Path) -> None:
    """Of weights that the graph computes."""
    net = Net()
    weights = net.add("Neg", net.hold(net.random.standard_normal((TIME, 2, 3)).astype(np.float32), "weight"))
    result = net.add("ConvTranspose", "x", weights, strides=[stride], output_padding=[further])
    inputs = {"x": (floats, ["N", TIME, WIDTH])}
    if further < stride:
        assert net.imported(result, inputs, tmp_path, {}).apart < 1e-5
        return
    with pytest.raises(DlcError, match="with as much output padding as its stride, or more"):
        net.imported(result, inputs, tmp_path, {})


def test_classes_of_a_net_of_scikit_learn_are_chosen_natively(tmp_path: Path) -> None:
    net = Net()
    net.nodes.append(
        helper.make_node(
            "Scaler", ["x"], ["scaled"], domain="ai.onnx.ml", offset=[0.5] * WIDTH, scale=[float(WIDTH)] * WIDTH
        )
    )
    best = net.add("ArgMax", net.add("Mul", "scaled", net.hold(np.float32(2.0), "weight")), axis=1, keepdims=1)
    classes = net.hold(np.arange(WIDTH))
    net.nodes.append(helper.make_node("ArrayFeatureExtractor", [classes, best], ["row"], domain="ai.onnx.ml"))
    labels = net.add("Cast", net.reshape("row", -1, 1, 1), to=floats)
    graph = helper.make_graph(
        net.nodes,
        "net",
        [helper.make_tensor_value_info("x", floats, ["N", WIDTH])],
        [helper.make_tensor_value_info(labels, floats, ["N", 1, 1])],
        net.held,
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "model.onnx"))
    from runtime.imports.onnx.importing import import_model

    rows = np.roll(np.eye(WIDTH, dtype=np.float32), 1, axis=1)
    found = import_model(tmp_path / "model.onnx", {}, {"x": rows})
    assert found.outputs[labels].reshape(-1).tolist() == [1, 2, 3, 4, 5, 0]
    assert found.apart == 0
    assert [array.shape for array in found.weights.values()].count(()) == 1
