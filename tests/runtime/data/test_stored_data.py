"""Data of types that are only stored: its bytes, its way into wider types, and the row of a number that is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_specs import idx_bytes, source, source_of, spec, write

from compiler.errors.diagnostics import DataError
from compiler.types import STORED, DType, numpy_dtype, widens
from runtime.analysis.made_up_steps import synthetic
from runtime.data.loading import LoadedData, load_training_data
from runtime.data.specs import Cuts, DataSource, InputSpec

TYPES = [dtype for dtype in DType if dtype is not DType.BF16]


def load(specs: list[InputSpec], data: DataSource) -> LoadedData:
    return load_training_data(specs, data, Cuts(None, None, 7))


def npz(folder: Path, **arrays: Any) -> DataSource:
    np.savez(folder / "data.npz", **arrays)
    return source(folder / "data.npz")


def ends(dtype: DType) -> np.ndarray[Any, Any]:
    """The least and the greatest number, and 1."""
    numbers = (-1.5, 0.25, 1) if dtype.is_float else (*dtype.limits, 1)
    return np.array(numbers, numpy_dtype(dtype))


@pytest.mark.parametrize("dtype", STORED, ids=lambda d: d.value)
def test_an_array_keeps_its_type_and_bytes(dtype: DType, tmp_path: Path) -> None:
    array = np.stack([ends(dtype)] * 4)
    found = load([spec("x", dtype.value, (3,))], npz(tmp_path, x=array)).train.arrays["x"]
    np.testing.assert_array_equal(found, array, strict=True)
    assert found.nbytes == 12 * dtype.size


@pytest.mark.parametrize("declared", STORED, ids=lambda d: d.value)
@pytest.mark.parametrize("held", TYPES, ids=lambda d: d.value)
def test_an_array_of_another_type_is_kept_or_refused_by_its_row(held: DType, declared: DType, tmp_path: Path) -> None:
    """Whole numbers that the declared type has are taken from any type; fractions go to floats alone."""
    array = ends(held)
    wanted = np.array([1, *array.tolist()])  # the first row fits everywhere
    given = np.concatenate([array[2:], array])
    with np.errstate(all="ignore"):
        kept = given.astype(numpy_dtype(declared))
    fits = [bool(float(kept[k]) == float(given[k])) for k in range(4)]
    if declared is DType.F16 and not held.is_float:  # of larger whole numbers, it has not all
        fits = [abs(int(number)) <= 2**11 for number in given]
    data = npz(tmp_path, x=given)
    if widens(held, declared):
        assert all(fits)
    if all(fits):
        found = load([spec("x", declared.value)], data).train.arrays["x"]
        np.testing.assert_array_equal(found.astype(np.float64), wanted.astype(np.float64))
        assert found.dtype == numpy_dtype(declared)
    else:
        with pytest.raises(DataError, match=r"out of range|whole number|exactly|too large") as caught:
            load([spec("x", declared.value)], data)
        assert caught.value.row == fits.index(False) + 1


def test_floats_are_rounded_to_f16_with_a_note(tmp_path: Path) -> None:
    data = load([spec("x", "f16")], npz(tmp_path, x=np.array([0.1, 65519.0])))
    assert data.train.arrays["x"].tolist() == [float(np.float16(0.1)), 65504.0]
    assert data.notes == ("data.npz: `x` is f64 and was rounded to f16",)
    with pytest.raises(DataError, match="65520 is too large for f16") as caught:
        load([spec("x", "f16")], npz(tmp_path, x=np.array([1.0, 65520.0], np.float32)))
    assert caught.value.row == 2
    assert "declare it f32" in caught.value.fix


def test_columns_of_a_table(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "a,b,c,d\n0.5,-128,true,65535\n2,127,false,0\n")
    specs = [spec("a", "f16"), spec("b", "i8"), spec("c", "bool"), spec("d", "u16", target=True)]
    arrays = load(specs, source(path)).train.arrays
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        **{"a": "float16", "b": "int8", "c": "bool", "d": "uint16"}
    }
    assert [arrays[name].tolist() for name in "abcd"] == [[0.5, 2], [-128, 127], [True, False], [65535, 0]]
    with pytest.raises(DataError, match="-128 is out of range: `b` is u8") as caught:
        load([specs[0], spec("b", "u8"), *specs[2:]], source(path))
    assert caught.value.row == 2


def test_a_file_of_idx_keeps_its_signs(tmp_path: Path) -> None:
    folder = tmp_path / "idx"
    folder.mkdir()
    images = np.array([[[-300, 7]], [[300, -7]]], np.int16)
    for prefix in ("train", "t10k"):
        (folder / f"{prefix}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(np.array([-1, 1], np.int8)))
    specs = [spec("image", "i16", (1, 2)), spec("label", "i8", target=True)]
    arrays = load(specs, source(folder)).train.arrays
    assert (arrays["image"].tolist(), arrays["label"].tolist()) == (images.tolist(), [-1, 1])


@pytest.mark.parametrize("form", ["parquet", "arrow"])
def test_columns_of_arrow(form: str, tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow", reason="the extra `arrow` is not installed")
    held = {
        "h": np.array([0.5, 65504], np.float16),
        "i": np.array([-5, 5], np.int8),
        "w": np.array([1, 65535], np.uint16),
    }
    held |= {
        "u": np.array([0, 2**32 - 1], np.uint32),
        "k": np.array([3, 2**53], np.uint64),
        "f": np.array([True, False]),
    }
    table = arrow.table({name: arrow.array(array) for name, array in held.items()})
    path = tmp_path / f"a.{form}"
    if form == "parquet":
        arrow.parquet = pytest.importorskip("pyarrow.parquet")
        arrow.parquet.write_table(table, path)
    else:
        pytest.importorskip("pyarrow.feather").write_feather(table, path, compression="uncompressed")
    types = {"h": "f16", "i": "i8", "w": "u16", "u": "u32", "k": "u64", "f": "bool"}
    arrays = load([spec(name, dtype) for name, dtype in types.items()], source_of(form, path)).train.arrays
    for name, array in held.items():
        np.testing.assert_array_equal(arrays[name], array, strict=True)


@pytest.mark.parametrize("dtype", STORED, ids=lambda d: d.value)
def test_made_up_rows_have_the_type(dtype: DType) -> None:
    low, high = (None, None) if dtype.is_float else (0, 5)
    found = synthetic([spec("x", dtype.value, (50,), low=low, high=high)], 4, 0)["x"]
    assert found.dtype == numpy_dtype(dtype)
    assert len(np.unique(found)) > 3
