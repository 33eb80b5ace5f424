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
