"""Inputs, outputs and states of types that are only stored, in libraries of C, of WebAssembly and of Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from c_programs import HERE, Array
from exported_programs import ExportedProgram, exported_program
from stored_states import MEMORY
from web_programs import in_node, node

from compiler import driver
from compiler.driver import Options
from compiler.types import STORED, DType, numpy_dtype
from runtime.exports import served_model
from runtime.exports.c_library import C_TYPES

TEXT = (
    MEMORY
    + """
model Stored {
    input x: f16[batch, 5]
    input small: i8[batch, 5]
    input middle: i16[batch, 5]
    input words: u16[batch, 3] in 0..70
    input large: u32[batch]
    input key: u64[batch]
    input flag: bool[batch]
    h = x |> memory(5) |> dense(4) |> tanh
    e = words |> embedding(70, 4) |> mean(axis = 1)
    output score = (concat(h, e) |> dense(1))[:, 0] + (large % 7) * 0.001 + where(flag, 1.0, 0.0)
    output half = cast(concat(h * 1000, x * 70000.0), f16)
    output moved = concat(x, x[:, ::-1])
    output chosen = where(flag[:, None], small, reverse(small, 1))
    output narrowed = cast(middle * 3, i8)
    output kept = middle
    output rows = words[:, 1:]
    output count = large
    output id = key
}

train Stored {
    target y: f16[batch]
    loss = mean((score - y) ^ 2)
    optimizer = adam(lr = 0.01)
    epochs = 1
    batch = 6
}
"""
)
SHAPES = {"x": (5,), "small": (5,), "middle": (5,), "words": (3,), "large": (), "key": (), "flag": (), "y": ()}
TYPES = dict(zip(SHAPES, ("f16", "i8", "i16", "u16", "u32", "u64", "bool", "f16"), strict=True))


def rows_of(count: int, seed: int) -> dict[str, Array]:
    """Numbers over the whole ranges of their types."""
    random, found = np.random.default_rng(seed), dict[str, Array]()
    for name, shape in SHAPES.items():
        dtype = DType(TYPES[name])
        if dtype.is_float:
            found[name] = random.normal(size=(count, *shape)).astype(np.float16)
            continue
        low, high = (0, 69) if name == "words" else dtype.limits
        found[name] = random.integers(low, high, (count, *shape), numpy_dtype(dtype).name, endpoint=True)
    return found


@pytest.fixture(scope="module")
def exported() -> ExportedProgram:
    program = driver.load_text(TEXT, "model.dl")
    return exported_program(program, driver.options_of(program, Options(threads=1)), [rows_of(6, 0), rows_of(6, 1)])


def test_the_model_has_every_such_type() -> None:
    assert {DType(name) for name in TYPES.values()} >= {*STORED, DType.BOOL}


@pytest.mark.parametrize("where", [None, "wasm", "wasm-simd128", "node"], ids=str)
def test_a_library_has_the_bits_of_this_process(exported: ExportedProgram, where: str | None, tmp_path: Path) -> None:
    if where is None and not HERE.is_there:
        pytest.skip("there is no compiler of C")
    if where == "node":
        node()
    elif where is not None:
        pytest.importorskip("wasmtime", reason="wasmtime is not installed")
    assert exported.differences(where, tmp_path) == []
    if where == "node":
        _expect_refusals(tmp_path)


def test_the_package_of_python_has_every_type() -> None:
    """It stands alone, so its table is one of its own."""
    assert {dtype.value: numpy_dtype(dtype).type for dtype in C_TYPES} == served_model.TYPES


@pytest.mark.parametrize("number", [70000.0, 65520.0])
def test_the_package_of_python_refuses_numbers_beyond_f16(number: float) -> None:
    item = {"name": "x", "dtype": "f16", "shape": ["batch"], "low": None, "high": None}
    checked = served_model._checked  # pyright: ignore[reportPrivateUsage]
    assert checked(item, [65519.0, np.inf]).dtype == np.float16
    with pytest.raises(ValueError, match="x is of f16, which does not hold all numbers"):
        checked(item, [1.0, number])


def _expect_refusals(folder: Path) -> None:
    """What a typed array of the input would round or wrap is refused; nested lists of numbers are taken."""
    given = {name: array[:1] for name, array in rows_of(1, 3).items() if name != "y"}
    wrong = ({"small": [[128] * 5]}, {"words": [[-1, 0, 0]]}, {"x": [[65520.0] * 5]}, {"large": [2**32]})
    calls = [("predict", given), *(("predict", {**given, name: array}) for one in wrong for name, array in one.items())]
    listed = {**given, "x": np.asarray(given["x"], np.float64)}
    _, first, *refused, second = in_node(folder, 4, [*calls, ("predict", listed)])
    assert first == second
    for answer, name in zip(refused, ("small", "words", "x", "large"), strict=True):
        assert name in answer["error"], answer


def test_the_header_says_how_f16_lies_in_memory(exported: ExportedProgram, tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    exported.differences(None, tmp_path)
    header = (tmp_path / "model.h").read_text()
    assert "x: f16[rows, 5], each the bits of a binary16 of IEEE 754" in header
    for declared in ("const uint16_t *x", "const int8_t *small", "const int16_t *middle", "const uint32_t *large"):
        assert declared in header
    assert "uint64_t *id" in header
