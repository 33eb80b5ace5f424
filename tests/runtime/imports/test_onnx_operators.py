"""Single operators of ONNX, imported: the results of ONNX Runtime or of ONNX's own evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from compiler.driver import Options
from compiler.errors.diagnostics import DlcError
from runtime.cli import import_onnx
from runtime.cli.main import main
from runtime.imports.onnx.importing import Imported, import_model, predicted

onnx = pytest.importorskip("onnx", reason="reading ONNX needs the extra `onnx`")


def imported(folder: Path, op: str, inputs: dict[str, Any], rank: int, opset: int = 22, **settings: Any) -> Imported:
    """The import of a model of one operator whose result has that many axes."""
    arrays = {name: np.asarray(array) for name, array in inputs.items()}
    dtype = onnx.helper.np_dtype_to_tensor_dtype
    held = [onnx.numpy_helper.from_array(a, n) for n, a in arrays.items() if n.startswith("held")]
    given = {n: a for n, a in arrays.items() if not n.startswith("held")}
    result = settings.pop("result", next(iter(arrays.values())).dtype)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, list(inputs), ["y"], **settings)],
        "net",
        [onnx.helper.make_tensor_value_info(n, dtype(a.dtype), a.shape) for n, a in given.items()],
        [onnx.helper.make_tensor_value_info("y", dtype(np.dtype(result)), [f"s{i}" for i in range(rank)])],
        held,
    )
    path = folder / "model.onnx"
    onnx.save(
        onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=10), str(path)
    )
    return import_model(path, {}, given, Options(target="reference"))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
@pytest.mark.parametrize("left", [True, False])
def test_a_shift_by_the_width_or_more_leaves_zeros_or_signs(dtype: Any, left: bool, tmp_path: Path) -> None:
    bits = np.dtype(dtype).itemsize * 8
    a = np.array([[1, 3, 77, 5, np.iinfo(dtype).max, np.iinfo(dtype).min]], dtype)
    by = np.array([[bits - 1, bits, bits + 5, 0, 1, 3]], dtype)
    wide = [int(x) << int(n) if left else int(x) >> int(n) for x, n in zip(a[0], by[0], strict=True)]
    wanted = np.array([[x & (1 << bits) - 1 for x in wide]], f"u{bits // 8}").view(dtype)
    if dtype is np.uint8:
        found = imported(tmp_path, "BitShift", {"a": a, "by": by}, 2, direction="LEFT" if left else "RIGHT")
    else:
        pytest.importorskip("onnx", minversion="1.22", reason="shifts of signed numbers came with opset 28")
        found = imported(tmp_path, "BitShift", {"a": a, "by": by}, 2, 28, direction="LEFT" if left else "RIGHT")
    got = predicted(found, {"a": a, "by": by}, Options(target="reference"))["y"]
    np.testing.assert_array_equal(got, wanted)


def test_a_shared_scale_divides_with_one_rounding(tmp_path: Path) -> None:
    x = np.array([0, 2, -3, -2.5, 1.34, 0.5], np.float32)
    found = imported(
        tmp_path, "QuantizeLinear", {"x": x, "s": np.float32(0.019607844), "z": np.uint8(153)}, 1, result=np.uint8
    )
    assert found.apart == 0
    assert "divided(" in found.text


def test_resize_takes_the_nearest_above_where_it_is_asked_to(tmp_path: Path) -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    inputs = {"x": x, "held_roi": np.zeros(0, np.float32), "held": np.array([1, 1, 2, 2], np.float32)}
    found = imported(tmp_path, "Resize", inputs, 4, 19, mode="nearest", nearest_mode="ceil")
    assert found.apart == 0


def test_a_difference_above_rounding_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    imported(tmp_path, "Exp", {"x": np.ones((2, 3), np.float32)}, 2)
    arguments = ["import", str(tmp_path / "model.onnx"), "-o", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "warning" not in capsys.readouterr().err
    monkeypatch.setattr(import_onnx, "BY_ROUNDING", -1.0)
    assert main(arguments) == 0
    assert "warning: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("mode", "padding", "corners"),
    [("linear", "reflection", 1), ("linear", "border", 0), ("nearest", "reflection", 0), ("cubic", "zeros", 0)],
)
def test_a_grid_of_places_samples_an_image(mode: str, padding: str, corners: int, tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    x = random.standard_normal((2, 3, 5, 4)).astype(np.float32)
    grid = random.uniform(-2, 2, (2, 6, 7, 2)).astype(np.float32)
    found = imported(
        tmp_path, "GridSample", {"x": x, "grid": grid}, 4, mode=mode, padding_mode=padding, align_corners=corners
    )
    assert found.apart < 1e-5
    given = {"x": x, "grid": grid}
    native = predicted(found, given, Options(target="native", threads=1))["y"]
    np.testing.assert_allclose(native, found.outputs["y"], rtol=1e-5, atol=1e-5)


def test_a_grid_by_cubics_that_mirror_is_refused(tmp_path: Path) -> None:
    grid = {"x": np.ones((1, 1, 4, 4), np.float32), "grid": np.zeros((1, 2, 2, 2), np.float32)}
    with pytest.raises(DlcError, match="by cubics with the padding"):
        imported(tmp_path, "GridSample", grid, 4, mode="cubic", padding_mode="reflection")


def test_blocks_add_up_to_an_image(tmp_path: Path) -> None:
    x = np.random.default_rng(4).standard_normal((2, 3 * 6, 16)).astype(np.float32)
    inputs = {"x": x, "held_shape": np.array([7, 6]), "held_block": np.array([2, 3])}
    found = imported(tmp_path, "Col2Im", inputs, 4, pads=[1, 0, 1, 0], strides=[2, 1], dilations=[2, 1])
    assert found.outputs["y"].shape == (2, 3, 7, 6)
    assert found.apart < 1e-5


@pytest.mark.parametrize("circular", [True, False])
def test_a_cache_takes_entries_from_each_rows_own_place_on(circular: bool, tmp_path: Path) -> None:
    pytest.importorskip("onnx", minversion="1.19", reason="TensorScatter came with opset 24")
    random = np.random.default_rng(5)
    cache, new = (random.standard_normal((2, n, 3)).astype(np.float32) for n in (5, 2))
    at = np.array([4 if circular else 3, 1])
    found = imported(
        tmp_path,
        "TensorScatter",
        {"cache": cache, "new": new, "at": at},
        3,
        24,
        mode="circular" if circular else "linear",
    )
    wanted = cache.copy()
    for row in range(2):
        for i in range(2):
            wanted[row, (at[row] + i) % 5] = new[row, i]
    got = predicted(found, {"cache": cache, "new": new, "at": at}, Options(target="reference"))["y"]
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bits_of_every_number_come_and_go(dtype: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnx", minversion="1.21", reason="BitCast came with opset 26")
    whole = np.dtype(f"i{np.dtype(dtype).itemsize}")
    x = np.random.default_rng(6).integers(np.iinfo(whole).min, np.iinfo(whole).max, (1, 500), whole).view(dtype)
    least, most = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    special = [0, -0.0, np.inf, -np.inf, 1, -1, np.finfo(dtype).tiny, least, -least, 5 * least, most, -most]
    x = np.where(np.isnan(x), dtype(2.5), x)
    x[0, : len(special)] = np.array(special, dtype)
    to = onnx.helper.np_dtype_to_tensor_dtype
    bits = imported(tmp_path, "BitCast", {"x": x}, 2, 26, to=to(whole), result=whole)
    floats = imported(tmp_path, "BitCast", {"x": x.view(whole)}, 2, 26, to=to(np.dtype(dtype)), result=dtype)
    for target in ("reference", "native"):
        options = Options(target=target, threads=1)
        np.testing.assert_array_equal(predicted(bits, {"x": x}, options)["y"], x.view(whole))
        got = predicted(floats, {"x": x.view(whole)}, options)["y"]
        np.testing.assert_array_equal(got.view(whole), x.view(whole))


def test_taps_that_move_read_between_pixels(tmp_path: Path) -> None:
    random = np.random.default_rng(7)
    shapes = {"x": (2, 4, 6, 5), "w": (6, 2, 3, 2), "offset": (2, 24, 3, 4), "b": (6,), "mask": (2, 12, 3, 4)}
    given = {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    settings: dict[str, Any] = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 0]}
    settings |= {"group": 2, "offset_group": 2}
    found = imported(tmp_path, "DeformConv", given, 4, 22, **settings)
    assert found.outputs["y"].shape == (2, 6, 3, 4)
    assert found.apart < 1e-5


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("half", ["half_pixel", "output_half_pixel"])
def test_regions_are_aligned(mode: str, half: str, tmp_path: Path) -> None:
    x = np.random.default_rng(8).standard_normal((2, 3, 9, 8)).astype(np.float32)
    boxes = np.array([[0, 0, 7, 8], [-3, 2, 4, 12], [5, 5, 5.2, 5.1], [1, 1, 3, 6]], np.float32)
    settings: dict[str, Any] = {"output_height": 3, "output_width": 2, "sampling_ratio": 2, "spatial_scale": 0.8}
    given = {"x": x, "boxes": boxes, "of": np.array([1, 0, 0, 1])}
    found = imported(tmp_path, "RoiAlign", given, 4, mode=mode, coordinate_transformation_mode=half, **settings)
    assert found.outputs["y"].shape == (4, 3, 3, 2)
    assert found.apart < 1e-5


def test_chosen_boxes_end_with_minus_one(tmp_path: Path) -> None:
    random = np.random.default_rng(9)
    corner = random.uniform(0, 4, (1, 12, 2))
    given = {
        "boxes": np.concatenate([corner, corner + random.uniform(0.5, 3, (1, 12, 2))], axis=-1).astype(np.float32),
        "scores": random.random((1, 2, 12)).astype(np.float32),
        "held_most": np.array([9]),
        "held_overlap": np.array([0.3], np.float32),
        "held_least": np.array([0.2], np.float32),
    }
    found = imported(tmp_path, "NonMaxSuppression", given, 2, 11, result=np.int64)
    got = predicted(found, given, Options(target="reference"))["y"]
    assert got.shape == (18, 3)
    assert (got[got[:, 0] < 0] == -1).all()
    np.testing.assert_array_equal(got[got[:, 0] >= 0], found.outputs["y"])
    assert 2 < len(found.outputs["y"]) < 18
    assert found.apart == 0


def test_places_of_a_pool_put_its_elements_back(tmp_path: Path) -> None:
    x = np.random.default_rng(10).standard_normal((2, 3, 6, 8)).astype(np.float32)
    info = onnx.helper.make_tensor_value_info
    floats, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    pool = {"kernel_shape": [2, 2], "strides": [2, 2]}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("MaxPool", ["x"], ["y", "at"], **pool),
            onnx.helper.make_node("MaxUnpool", ["y", "at"], ["z"], **pool),
        ],
        "net",
        [info("x", floats, x.shape)],
        [info("at", whole, [2, 3, 3, 4]), info("z", floats, x.shape)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "model.onnx"))
    found = import_model(tmp_path / "model.onnx", {}, {"x": x}, Options(target="reference"))
    assert found.apart == 0


@pytest.mark.parametrize("op", ["QLinearConv", "QLinearMatMul"])
def test_products_of_quantised_numbers(op: str, tmp_path: Path) -> None:
    random = np.random.default_rng(11)
    shapes = ((1, 3, 5, 5), (4, 3, 2, 2)) if op == "QLinearConv" else ((3, 6), (6, 4))
    x, w = (random.integers(0, 256, shape).astype(np.uint8) for shape in shapes)
    scale = np.float32
    given = {
        **{"x": x, "held_xs": scale(0.02), "held_xz": np.uint8(120)},
        **{"w": w, "held_ws": scale(0.03), "held_wz": np.uint8(130)},
        **{"held_ys": scale(0.9), "held_yz": np.uint8(100)},
    }
    found = imported(tmp_path, op, given, len(shapes[0]), 10, result=np.uint8)
    assert found.apart == 0
    assert len(np.unique(found.outputs["y"])) > 9


def test_a_row_counts_its_n_grams(tmp_path: Path) -> None:
    x = np.random.default_rng(12).integers(0, 4, (3, 9)).astype(np.int32)
    settings: dict[str, Any] = {
        **{"min_gram_length": 1, "max_gram_length": 3, "max_skip_count": 2, "mode": "TFIDF"},
        **{"ngram_counts": [0, 2, 6], "ngram_indexes": [4, 0, 1, 3, 2]},
        **{"pool_int64s": [1, 3, 0, 1, 2, 2, 3, 0, 1], "weights": [2.0, 1.0, 0.5, 3.0, 1.0]},
    }
    found = imported(tmp_path, "TfIdfVectorizer", {"x": x}, 2, 9, result=np.float32, **settings)
    assert found.outputs["y"].sum() > 9
    assert found.apart < 1e-6


def test_an_output_without_elements_is_left_out(tmp_path: Path) -> None:
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    held = [onnx.numpy_helper.from_array(np.array([n]), f"held{n}") for n in (0, 1)]
    floats = onnx.TensorProto.FLOAT
    nodes = [node("Slice", ["x", "held0", "held0", "held1"], ["none"]), node("Relu", ["x"], ["y"])]
    outputs = [info("none", floats, ["N", 0]), info("y", floats, ["N", 4])]
    graph = onnx.helper.make_graph(nodes, "net", [info("x", floats, ["N", 4])], outputs, held)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    path = tmp_path / "model.onnx"
    onnx.save(model, str(path))
    found = import_model(path, {}, {}, Options(target="reference"))
    assert "## The output none has no elements, and is left out." in found.text
    got = predicted(found, {"x": np.ones((3, 4), np.float32)}, Options(target="reference"))
    assert got["none"].shape == (3, 0)
    assert found.apart == 0
    del model.graph.output[1]
    onnx.save(model, str(path))
    alone = import_model(path, {}, {}, Options(target="reference"))
    for target in ("native", "reference"):
        got = predicted(alone, {"x": np.ones((3, 4), np.float32)}, Options(target=target))
        assert got["none"].shape == (3, 0)


def test_a_model_without_inputs_has_rows_that_nothing_reads(tmp_path: Path) -> None:
    node, info = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node("Constant", [], ["y"], value_floats=[1.5, -2.0])], "net", [], [info("y", onnx.TensorProto.FLOAT, [2])]
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, str(tmp_path / "model.onnx"))
    out = tmp_path / "out"
    assert main(["import", str(tmp_path / "model.onnx"), "-o", str(out)]) == 0
    given = ["--weights", str(out / "weights.safetensors"), "--input", str(out / "inputs.npz")]
    assert main(["predict", str(out / "model.dl"), *given, "--output", str(tmp_path / "out.npz")]) == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out.npz")["y"], np.array([1.5, -2.0], np.float32))


_OF_STORED = (np.float16, np.int8, np.int16, np.uint16, np.uint32, np.uint64)


@pytest.mark.parametrize("dtype", _OF_STORED)
def test_numbers_that_are_only_stored_are_moved(dtype: Any, tmp_path: Path) -> None:
    x = np.array([[1, 2, 3], [4, 5, 100]], dtype)
    found = imported(tmp_path, "Transpose", {"x": x}, 2, perm=[1, 0])
    got = predicted(found, {"x": x}, Options(target="reference"))["y"]
    np.testing.assert_array_equal(got, x.T, strict=True)
    below = {"mask": x > 2, "x": x, "held": np.array(7, dtype)}
    found = imported(tmp_path, "Where", below, 2, result=dtype)
    got = predicted(found, {"mask": x > 2, "x": x}, Options(target="reference"))["y"]
    np.testing.assert_array_equal(got, np.where(x > 2, x, dtype(7)), strict=True)


@pytest.mark.parametrize("dtype", _OF_STORED)
def test_arithmetic_in_a_type_that_is_only_stored_is_refused(dtype: Any, tmp_path: Path) -> None:
    x = np.array([[1, 2, 3]], dtype)
    with pytest.raises(DlcError, match=f"`Add` in {np.dtype(dtype).name}; cast its operands"):
        imported(tmp_path, "Add", {"a": x, "b": x}, 2)
    if dtype is np.uint64:
        with pytest.raises(DlcError, match="`Greater` in uint64"):
            imported(tmp_path, "Greater", {"a": x, "b": x}, 2, result=np.bool_)


def test_a_table_of_f16_keeps_its_type(tmp_path: Path) -> None:
    held = np.array([[0.1, 2.0], [3.0, 65504.0]], np.float16)
    found = imported(tmp_path, "Gather", {"held": held, "places": np.array([[1, 0, 1]])}, 3, result=np.float16)
    got = predicted(found, {"places": np.array([[1, 0, 1]])}, Options(target="reference"))["y"]
    np.testing.assert_array_equal(got, held[[[1, 0, 1]]], strict=True)
