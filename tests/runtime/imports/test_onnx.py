"""ONNX models to model files: the same outputs, by ONNX's names, and refusals in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.driver import Options
from compiler.errors.diagnostics import DlcError
from runtime.cli.main import main
from runtime.imports.onnx.recording import own_results

onnx = pytest.importorskip("onnx", reason="reading ONNX needs the extra `onnx`")
helper, floats = onnx.helper, onnx.TensorProto.FLOAT

RANDOM = np.random.default_rng(1)


def weights(**shapes: tuple[int, ...]) -> list[Any]:
    """Initialisers by name; `__` in a name stands for a dot."""
    return [
        onnx.numpy_helper.from_array(RANDOM.standard_normal(shape).astype(np.float32), name.replace("__", "."))
        for name, shape in shapes.items()
    ]


def model_of(nodes: list[Any], inputs: dict[str, list[Any]], outputs: dict[str, Any], held: list[Any] = []) -> Any:  # noqa: B006
    """A model of float32 inputs with those shapes."""
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info(name, floats, shape) for name, shape in inputs.items()],
        [helper.make_tensor_value_info(name, floats, shape) for name, shape in outputs.items()],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def perceptron() -> Any:
    """Two dense layers, the first as a `MatMul` with an `Add`, and names that are no identifiers."""
    node = helper.make_node
    nodes = [
        node("MatMul", ["in.1", "fc1.weight"], ["a"]),
        node("Add", ["a", "fc1.bias"], ["b"]),
        node("Relu", ["b"], ["c"]),
        node("Gemm", ["c", "fc2.weight", "fc2.bias"], ["out-1"], transB=1),
    ]
    held = weights(fc1__weight=(4, 8), fc1__bias=(8,), fc2__weight=(3, 8), fc2__bias=(3,))
    return model_of(nodes, {"in.1": ["N", 4]}, {"out-1": ["N", 3]}, held)


def imported(model: Any, folder: Path, **given: Any) -> Any:
    from runtime.imports.onnx.importing import import_model

    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return import_model(path, given.get("sizes", {}), given.get("sample", {}), Options(target="reference"))


def refusal(model: Any, folder: Path, **given: Any) -> str:
    with pytest.raises(DlcError) as error:
        imported(model, folder, **given)
    return f"{error.value} {error.value.fix}"


def test_layers_are_recognised_and_weights_stand_under_their_paths(tmp_path: Path) -> None:
    found = imported(perceptron(), tmp_path)
    assert "input in_1: f32[batch, 4]" in found.text
    assert "in_1 |> dense(8) |> relu |> dense(3)" in found.text
    assert [array.shape for array in found.weights.values()] == [(4, 8), (8,), (8, 3), (3,)]
    assert found.apart < 1e-5


def test_a_text_that_somebody_wrote_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, own = tmp_path / "net.onnx", tmp_path / "own" / "model.dl"
    onnx.save(perceptron(), str(path))
    command = ["import", str(path), "-o", str(own.parent)]
    assert [main(command), main(command)] == [0, 0]  # its own text may be written again
    own.write_text(own.read_text() + "## mine\n")
    before = {file.name: file.read_bytes() for file in own.parent.iterdir()}
    assert main(command) == 2
    assert "is there, with another text" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in own.parent.iterdir()} == before


def test_weights_that_are_not_finite_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = perceptron()
    broken = onnx.numpy_helper.from_array(np.full(8, np.nan, np.float32), "fc1.bias")
    model.graph.initializer[1].CopyFrom(broken)
    onnx.save(model, str(tmp_path / "net.onnx"))
    assert main(["import", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out")]) == 0
    assert "1 of 4 tensors hold numbers that are not finite" in capsys.readouterr().err


def test_a_name_of_any_length_is_refused_or_taken(tmp_path: Path) -> None:
    for length in (1000, 1001, 100_000):
        model = model_of([helper.make_node("Relu", ["x" * length], ["y"])], {"x" * length: ["N", 2]}, {"y": ["N", 2]})
        if length > 1000:
            assert "longer than 1000 bytes export the model with shorter names" in refusal(model, tmp_path)
        else:
            assert imported(model, tmp_path).apart == 0


def test_predict_takes_and_gives_arrays_by_the_names_of_onnx(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "imported"
    onnx.save(perceptron(), str(path))
    assert main(["import", str(path), "-o", str(out)]) == 0
    x = RANDOM.standard_normal((70, 4)).astype(np.float32)
    np.savez(tmp_path / "in.npz", allow_pickle=False, **{"in.1": x})
    arguments = ["--weights", str(out / "weights.safetensors"), "--input", str(tmp_path / "in.npz")]
    assert main(["predict", str(out / "model.dl"), *arguments, "--output", str(tmp_path / "out.npz")]) == 0
    wanted = own_results(onnx.load(str(path)), {"in.1": x})["out-1"]
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["out-1"], wanted, rtol=1e-5, atol=1e-5)
    assert "largest difference" in capsys.readouterr().err
    np.savez(tmp_path / "in.npz", allow_pickle=False, **{"in.1": x, "in.2": x, "mask": x})
    assert main(["predict", str(out / "model.dl"), *arguments, "--output", str(tmp_path / "out.npz")]) == 0
    assert "note: in.npz: not used: `in.2`, `mask`" in capsys.readouterr().err


def test_a_tensor_without_rows_is_one_row(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["a", "b"], ["y"])]
    path, out = tmp_path / "model.onnx", tmp_path / "imported"
    onnx.save(model_of(nodes, {"a": [2, 3], "b": [3, 5]}, {"y": [2, 5]}), str(path))
    assert main(["import", str(path), "-o", str(out)]) == 0
    arrays = {"a": np.ones((2, 3), np.float32), "b": np.arange(15, dtype=np.float32).reshape(3, 5)}
    np.savez(tmp_path / "in.npz", allow_pickle=False, **arrays)
    arguments = ["--weights", str(out / "weights.safetensors"), "--input", str(tmp_path / "in.npz")]
    assert main(["predict", str(out / "model.dl"), *arguments, "--output", str(tmp_path / "out.npz")]) == 0
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["y"], arrays["a"] @ arrays["b"])


def test_a_chain_of_shapes_is_a_reshape(tmp_path: Path) -> None:
    node = helper.make_node
    held = [
        onnx.numpy_helper.from_array(np.array(v, np.int64), k)
        for k, v in {"zero": 0, "axis": [0], "rest": [-1]}.items()
    ]
    nodes = [
        node("Shape", ["x"], ["shape"]),
        node("Gather", ["shape", "zero"], ["rows"]),
        node("Unsqueeze", ["rows", "axis"], ["first"]),
        node("Concat", ["first", "rest"], ["target"], axis=0),
        node("Reshape", ["x", "target"], ["y"]),
    ]
    found = imported(model_of(nodes, {"x": ["batch", 3, 2, 2]}, {"y": ["batch", 12]}, held), tmp_path)
    assert "output y = flatten(x)" in found.text


def test_every_missing_operator_is_listed(tmp_path: Path) -> None:
    node = helper.make_node
    nodes = [node("MaxRoiPool", ["x", "r"], ["a"], name="first", pooled_shape=[2, 2])]
    nodes += [node("NonZero", ["x"], ["b"], name="second")]
    inputs = {"x": ["batch", 3, 8, 8], "r": ["batch", 5]}
    text = refusal(model_of(nodes, inputs, {"a": ["batch", 3, 2, 2], "b": [4, None]}), tmp_path)
    assert "`MaxRoiPool`" in text
    assert "first" in text
    assert "NonZero" in text
    assert "second" in text


def test_operators_newer_than_the_package_are_refused(tmp_path: Path) -> None:
    model = perceptron()
    model.opset_import[0].version = 99
    assert "operators of opset 99, and the package `onnx` knows up to" in refusal(model, tmp_path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(perceptron().SerializeToString()[:-40])
    assert main(["import", str(path), "-o", str(tmp_path / "out")]) == 1
    assert not (tmp_path / "out").exists()


def test_a_circle_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])]
    assert "not valid" in refusal(model_of(nodes, {"x": ["batch", 3]}, {"b": ["batch", 3]}), tmp_path)


def test_a_weight_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    model = perceptron()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    (tmp_path / "inner").mkdir()
    path = tmp_path / "inner" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    from runtime.imports.onnx.importing import import_model

    with pytest.raises(DlcError, match="leads out of the folder"):
        import_model(path, {}, {})


def test_a_huge_declared_tensor_is_refused(tmp_path: Path) -> None:
    model = perceptron()
    model.graph.initializer[0].dims[:] = [1 << 40, 1 << 20]
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert main(["import", str(path), "-o", str(tmp_path / "out")]) == 1


def test_names_that_become_one_identifier_stay_apart(tmp_path: Path) -> None:
    nodes = [helper.make_node("Sub", ["a.b", "a-b"], ["a b"])]
    found = imported(model_of(nodes, {"a.b": ["N", 2], "a-b": ["N", 2]}, {"a b": ["N", 2]}), tmp_path)
    assert list(found.names.inputs) == ["a_b", "a_b_2"]
    assert found.names.outputs == {"a_b_3": "a b"}
    assert found.apart == 0


def tower(blocks: int) -> Any:
    """Residual blocks of two dense layers, each of its own width, and a head."""
    node = helper.make_node
    nodes: list[Any] = []
    held: list[Any] = []
    x = "x"
    for i in range(blocks):
        held += weights(**{f"blocks__{i}__up__weight": (6, 12), f"blocks__{i}__down__weight": (12, 6)})
        nodes += [
            node("MatMul", [x, f"blocks.{i}.up.weight"], [f"a{i}"]),
            node("Sigmoid", [f"a{i}"], [f"g{i}"]),
            node("Mul", [f"a{i}", f"g{i}"], [f"s{i}"]),
            node("MatMul", [f"s{i}", f"blocks.{i}.down.weight"], [f"d{i}"]),
            node("Add", [x, f"d{i}"], [f"x{i}"]),
        ]
        x = f"x{i}"
    nodes.append(node("Tanh", [x], ["y"]))
    return model_of(nodes, {"x": ["batch", 6]}, {"y": ["batch", 6]}, held)


def test_repeated_blocks_are_a_layer_and_a_loop(tmp_path: Path) -> None:
    found = imported(tower(5), tmp_path)
    assert found.apart < 1e-5
    assert "for _ in 0..5 {" in found.text
    assert found.text.count("|> swish") == 1
    assert len(found.weights) == 10


def test_an_imported_model_trains(tmp_path: Path) -> None:
    path, out = tmp_path / "model.onnx", tmp_path / "imported"
    onnx.save(perceptron(), str(path))
    assert main(["import", str(path), "-o", str(out)]) == 0
    train = """
train Net {
    target label: i64[batch] in 0..3
    data = npz("rows.npz")
    init_from = "weights.safetensors"
    loss = cross_entropy(out_1, label)
    optimizer = adam(lr = 0.01)
    epochs = 2
    batch = 16
}
"""
    with (out / "model.dl").open("a") as file:
        file.write(train)
    x = RANDOM.standard_normal((64, 4)).astype(np.float32)
    np.savez(out / "rows.npz", in_1=x, label=(x[:, 0] > 0).astype(np.int64))
    assert main(["train", str(out / "model.dl"), "--out", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        ({"out-1": (2, 3)}, "--sample has `out-1`, which is no input of the model inputs: in.1"),
        ({"in.1": (2, 5)}, "--sample has `in.1` with the shape [2, 5] the model takes [N, 4]"),
        ({"in.1": (4,)}, "--sample has `in.1` with the shape [4] the model takes [N, 4]"),
        ({"in.1": (2, 4)}, "--sample has `in.1` as float64 the model takes float32"),
    ],
)
def test_other_arrays_than_inputs_are_no_sample(sample: dict[str, Any], message: str, tmp_path: Path) -> None:
    dtype = np.float64 if "float64" in message else np.float32
    arrays = {name: np.zeros(shape, dtype) for name, shape in sample.items()}
    assert refusal(perceptron(), tmp_path, sample=arrays) == message


def test_axes_of_one_name_have_one_size_in_a_sample(tmp_path: Path) -> None:
    added = model_of([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ["N", 4], "b": ["N", 4]}, {"y": ["N", 4]})
    arrays = {"a": np.zeros((2, 4), np.float32), "b": np.zeros((3, 4), np.float32)}
    assert (
        refusal(added, tmp_path, sample=arrays) == "in --sample, the axis `N` is 2 in `a` and 3 in `b` give it one size"
    )


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrent_layers_own_their_weights(kind: str, tmp_path: Path) -> None:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    held = weights(W=(2, gates * 5, 3), R=(2, gates * 5, 5), B=(2, 2 * gates * 5))
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    layer = helper.make_node(kind, ["x", "W", "R", "B"], ["y"], hidden_size=5, direction="bidirectional", **more)
    found = imported(model_of([layer], {"x": [4, "batch", 3]}, {"y": [4, 2, "batch", 5]}, held), tmp_path)
    assert {"LSTM": "lstm(5", "GRU": "gru(5", "RNN": "simple_rnn(5"}[kind] in found.text
    assert found.names.inputs["x"].rows == 1
    assert found.apart < 1e-5


def test_inputs_that_decide_a_shape_are_fixed_by_the_sample(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        "net",
        [info("x", floats, [2, 6]), info("shape", onnx.TensorProto.INT64, [2])],
        [info("y", floats, ["a", "b"])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    assert "--sample" in refusal(model, tmp_path)
    sample = {"x": np.arange(12, dtype=np.float32).reshape(2, 6), "shape": np.array([3, 4])}
    assert imported(model, tmp_path, sample=sample).apart == 0
