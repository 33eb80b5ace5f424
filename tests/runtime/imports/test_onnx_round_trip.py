"""Models that `dlc export` wrote as ONNX become texts again: layers of the library, with the same outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="reading ONNX needs the extra `onnx`")
pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")

import onnx
from exported_models import trained_model

from compiler.driver import Options
from runtime.exports.onnx_file import onnx_file
from runtime.imports.onnx.importing import import_model

helper, numpy_helper, FLOAT = onnx.helper, onnx.numpy_helper, onnx.TensorProto.FLOAT
CLOSE = 1e-5
GPT = """
model Small {
    input tokens: i32[batch, 6] in 0..11
    embed = embedding(11, 16)
    x = embed(tokens) |> learned_positions(6)
    for _ in 0..3 { x = x |> encoder_block(4, 32, causal = true, pre_norm = true, activation = gelu) }
    output logits = x |> layer_norm |> embed
}
"""
BERT = """
model Masked {
    input x: f32[batch, 5, 8]
    input seen: bool[batch, 5]
    y = x
    for _ in 0..2 { y = y |> encoder_block(2, 16)(where = seen) }
    output z = y |> dense(3)
}
"""
NORMS = """
model Norms {
    input x: f32[batch, 9, 9, 3]
    y = transpose(x, 0, 3, 1, 2) |> conv2d(4, 3) |> batch_norm |> relu |> conv2d(4, 3) |> batch_norm(eps = 1e-3)
    output z = y |> global_average_pool |> dense(6) |> batch_norm |> relu
}
"""


def back(text: str, folder: Path, sample: dict[str, Any] | None = None, opset: int = 17) -> Any:
    """The import of the export of a text, with all parameters and states moved a little from where they begin."""
    trained = trained_model(text, 8)
    random = np.random.default_rng(2)
    for spec in trained.program.parameters:
        start = trained.tensors[spec.path]
        if start.dtype.kind == "f":
            trained.tensors.write(spec.path, (start + np.abs(random.normal(0, 0.1, start.shape))).astype(start.dtype))
    (folder / "model.onnx").write_bytes(onnx_file(trained, False, opset)[0])
    return import_model(folder / "model.onnx", {}, sample or {}, Options(target="reference"))


@pytest.mark.parametrize("opset", [17, 21])
def test_blocks_of_attention(opset: int, tmp_path: Path) -> None:
    found = back(GPT, tmp_path, opset=opset)
    assert found.apart < CLOSE
    assert "for _ in 0..3 { x = x |> encoder_block }" in found.text
    assert "attention(4, causal = true)" in found.text
    assert "embed_W[tokens]" in found.text
    assert "state " not in found.text
    assert all(np.isfinite(one).all() for one in found.weights.values())
    assert len(found.text.splitlines()) <= 20


def test_masks_with_rows_that_see_nothing(tmp_path: Path) -> None:
    seen = np.ones((4, 5), bool)
    seen[0, 3:], seen[2] = False, False
    sample = {"x": np.random.default_rng(1).standard_normal((4, 5, 8)).astype(np.float32), "seen": seen}
    text = BERT.replace("y |> encoder_block(2, 16)(where = seen)", "encoder_block(2, 16)(y, where = seen)")
    found = back(text, tmp_path, sample)
    assert found.apart < CLOSE
    assert "where = " in found.text
    assert "exp(" not in found.text


def test_a_softmax_that_hides(tmp_path: Path) -> None:
    text = """
model Chosen {
    input x: f32[batch, 5]
    input seen: bool[batch, 5]
    output y = softmax(x * 2, where = seen)
}
"""
    seen = np.zeros((3, 5), bool)
    seen[1, 2:] = True
    sample = {"x": np.random.default_rng(1).standard_normal((3, 5)).astype(np.float32), "seen": seen}
    found = back(text, tmp_path, sample)
    assert found.apart < CLOSE
    assert np.array_equal(found.outputs["y"].sum(axis=1) > 0.5, [False, True, False])
    assert "softmax(" in found.text
    assert "exp(" not in found.text


def test_batch_norms_have_their_statistics(tmp_path: Path) -> None:
    found = back(NORMS, tmp_path)
    assert found.apart < CLOSE
    assert found.text.count("batch_norm") == 3
    assert "batch_norm(eps = 0.001)" in found.text
    assert "global_average_pool" in found.text
    assert "param " not in found.text, "the bias of a convolution is its own"
    assert sum(path.endswith("running_var") for path in found.weights) == 3


def test_a_layer_has_no_name_that_the_text_calls(tmp_path: Path) -> None:
    text = """
model Deep {
    input x: f32[batch, 6]
    y = x
    for _ in 0..5 { y = y + tanh(y |> dense(6) |> layer_norm) * 0.5 - sin(y) + cos(y * 0.25) }
    output z = y |> dense(2)
}
"""
    found = back(text, tmp_path)
    assert found.apart < CLOSE
    assert "layer dense" not in found.text
    assert "for _ in 0..5" in found.text


@pytest.mark.parametrize("index", [0, 4, 5, 100, -1, -7])
def test_indices_out_of_range_are_clamped_as_before(index: int, tmp_path: Path) -> None:
    text = "model Rows { input i: i32[batch, 2] in 0..5\n output y = i |> embedding(5, 3) }\n"
    sample = {"i": np.array([[1, index], [index, 2]], np.int32)}
    found = back(text, tmp_path, sample)
    assert found.apart == 0
    assert "embedding(5, 3)" in found.text
    assert "min(" not in found.text


def test_extremes_pass_nan(tmp_path: Path) -> None:
    text = "model Most { input x: f32[batch, 3]\n output y = max(x, axis = 1)\n output z = min(x, axis = 1) }\n"
    sample = {"x": np.array([[1, np.nan, 2], [3, 2, 4], [-np.inf, 1, np.inf]], np.float32)}
    found = back(text, tmp_path, sample)
    assert np.isnan(found.outputs["y"][0])
    assert found.apart == 0
    assert "where" not in found.text
    assert not found.weights


def test_nan_is_a_literal(tmp_path: Path) -> None:
    text = "model Gaps { input x: f32[batch, 3]\n output y = where(x > 0, x, inf - inf) }\n"
    found = back(text, tmp_path)
    assert found.apart == 0
    assert not found.weights


def built(nodes: list[Any], held: dict[str, Any], folder: Path, shape: tuple[int, ...], rank: int) -> Any:
    """The import of nodes from `x`, [n, …], to `y`, which has `rank` axes."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", FLOAT, ["n", *shape])],
        [helper.make_tensor_value_info("y", FLOAT, [None] * rank)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "model.onnx"))
    return import_model(folder / "model.onnx", {}, {}, Options(target="reference"))


def test_a_sum_times_another_number_is_no_mean(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [node("ReduceSum", ["x", "axes"], ["s"], keepdims=0), node("Mul", ["s", "val_0"], ["y"])]
    found = built(nodes, {"axes": np.array([1]), "val_0": np.float32(0.2)}, tmp_path, (4,), 1)
    assert found.apart < CLOSE
    assert "mean" not in found.text
    found = built(nodes, {"axes": np.array([1]), "val_0": np.float32(0.25)}, tmp_path, (4,), 1)
    assert found.apart < CLOSE
    assert "mean(x, axis = -1)" in found.text


def test_axes_that_are_put_elsewhere_stay(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[2], keepdims=0), node("Unsqueeze", ["m", "axes"], ["y"])]
    for axis, kept in ((2, True), (1, False), (-1, True)):
        found = built(nodes, {"axes": np.array([axis])}, tmp_path, (4, 5), 3)
        assert found.apart < CLOSE
        assert ("keepdims = true" in found.text) == kept, found.text


def test_a_quotient_by_another_sum_is_no_softmax(tmp_path: Path) -> None:
    node = helper.make_node
    begin = [node("ReduceMax", ["x"], ["m"], axes=[1], keepdims=1), node("Sub", ["x", "m"], ["d"])]
    begin += [node("Exp", ["d"], ["e"])]
    for axis, function in ((1, True), (2, False)):
        nodes = [*begin, node("ReduceSum", ["e", "axes"], ["s"], keepdims=1), node("Div", ["e", "s"], ["y"])]
        found = built(nodes, {"axes": np.array([axis])}, tmp_path, (3, 4), 3)
        assert found.apart < CLOSE
        assert ("softmax" in found.text) == function


def test_another_scale_is_no_batch_norm(tmp_path: Path) -> None:
    node = helper.make_node
    vectors = np.random.default_rng(4).random((4, 3)).astype(np.float32)
    held = dict(zip(("bn.gamma", "bn.beta", "bn.mean", "bn.var"), vectors, strict=True)) | {"val_1": np.float32(1e-5)}
    for factor, norm in ((1.0, True), (1.01, False)):
        nodes = [
            node("Add", ["bn.var", "val_1"], ["a"]),
            node("Sqrt", ["a"], ["r"]),
            node("Div", ["bn.gamma", "r"], ["q"]),
            node("Mul", ["q", "val_2"], ["g"]),
            node("Sub", ["x", "bn.mean"], ["d"]),
            node("Mul", ["d", "g"], ["p"]),
            node("Add", ["p", "bn.beta"], ["y"]),
        ]
        found = built(nodes, {**held, "val_2": np.float32(factor)}, tmp_path, (3,), 2)
        assert found.apart < CLOSE
        assert ("batch_norm" in found.text) == norm
