"""`dlc export --to shared` and `--to python`: shared libraries, and wheels around them that need NumPy alone."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c_programs import HERE
from exported_models import ROWS, SMALL, fed, predicted, trained_model

from compiler.errors.diagnostics import UsageError
from compiler.machine import AVX2
from runtime.cli.main import main
from runtime.exports.model_library import model_library
from runtime.exports.shared_library import shared_library
from runtime.exports.wheel import wheel
from runtime.inference.model import weight_names
from runtime.runs.tensor_files import replace_tensors
from runtime.runs.trained import Trained

SERVED = """
import numpy as np, small, sys
assert not {"compiler", "runtime", "llvmlite", "lark"} & {*sys.modules}
rows = np.load("rows.npz")
model = small.Model(rows=8)
x, double = rows["x"], rows["double"]
np.savez("outputs.npz", **model.predict(x=x.astype(np.float64), double=double.astype(np.uint8)))
wrong = [(x[:3], double), (x[:, :3], double), (x, double + 3), (x, double + 0.5), (x + 1j, double), ("text", double)]
wrong = [{}, {"x": x}, *({"x": one, "double": other} for one, other in wrong)]
for inputs in wrong:
    try:
        model.predict(**inputs)
    except ValueError:
        continue
    raise AssertionError(inputs)
assert model.predict(x=x[:0], double=double[:0])["scores"].shape == (0, 3)
"""


@pytest.fixture(scope="module")
def trained() -> Trained:
    return trained_model(SMALL, ROWS)


def test_a_shared_library_predicts(trained: Trained, tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    library, tensors = model_library(trained, False)
    (tmp_path / "libmodel.so").write_bytes(shared_library(library))
    loaded = ctypes.CDLL(str(tmp_path / "libmodel.so"))
    bytes_ = library.memory.size(ROWS)
    block = np.zeros(bytes_ + 64, np.uint8)
    memory = ctypes.c_void_p(block.ctypes.data + -block.ctypes.data % 64)
    numbers = (ctypes.c_int64(library.abi), memory, ctypes.c_int64(bytes_), ctypes.c_int64(ROWS))
    assert loaded.model_init_abi(*numbers) == 0
    x, double, _ = fed()
    outputs = [np.zeros((ROWS, 3), np.float32), np.zeros(ROWS, np.float32)]
    places = [ctypes.c_void_p(array.ctypes.data) for array in (x, double, *outputs)]
    assert loaded.model_predict(memory, ctypes.c_int64(ROWS), *places) == 0
    expected = predicted(trained, trained.tensors)
    assert (outputs[0].tobytes(), outputs[1].tobytes()) == (expected["scores"].tobytes(), expected["size"].tobytes())
    assert set(tensors.values) == {*weight_names(trained.program)}


def test_a_linker_that_is_missing_is_said(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda command: None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    library, _ = model_library(trained, False)
    with pytest.raises(UsageError, match="there is no `cc`, and ziglang is not installed"):
        shared_library(library)


def test_a_wheel_predicts_with_numpy_alone(trained: Trained, tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    (tmp_path / "model.dl").write_text(SMALL)
    replace_tensors(tmp_path / "w.safetensors", {name: trained.tensors[name] for name in weight_names(trained.program)})
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors"), "--to", "python"]
    assert main([*command, "-o", str(tmp_path / "dist")]) == 0
    (wheel,) = (tmp_path / "dist").iterdir()
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
        record = [line.split(",") for line in packed.read("small-1.0.0.dist-info/RECORD").decode().splitlines()]
        assert {name for name, *_ in record} == {*packed.namelist()}
    x, double, _ = fed()
    np.savez(tmp_path / "rows.npz", x=x, double=double)
    subprocess.run([sys.executable, "-c", SERVED], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, check=True)
    expected = predicted(trained, trained.tensors)
    with np.load(tmp_path / "outputs.npz") as found:
        for name in ("scores", "size"):
            assert found[name].tobytes() == expected[name].tobytes()


DOUBLED = """
model Doubled {
    input x: f32[batch, 2, 4]
    output y = reshape(x, 2 * batch, 4) + 1.0
    output last = mean(x, axis = 0)
}
"""
SERVED_DOUBLED = """
import numpy as np, doubled
x = np.arange(70 * 8, dtype=np.float32).reshape(70, 2, 4)
outputs = doubled.Model(rows=16).predict(x=x)
assert np.array_equal(outputs["y"], x.reshape(140, 4) + 1)
assert np.array_equal(outputs["last"], x[64:].mean(axis=0))
"""


def test_a_wheel_has_room_for_outputs_with_several_rows_for_each(tmp_path: Path) -> None:
    if not HERE.is_there:
        pytest.skip("there is no compiler of C")
    (tmp_path / "model.dl").write_text(DOUBLED)
    replace_tensors(tmp_path / "w.safetensors", {})
    command = ["export", str(tmp_path / "model.dl"), "--weights", str(tmp_path / "w.safetensors"), "--to", "python"]
    assert main([*command, "-o", str(tmp_path)]) == 0
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as packed:
        packed.extractall(tmp_path / "site")
    path = {"PYTHONPATH": str(tmp_path / "site")}
    subprocess.run([sys.executable, "-c", SERVED_DOUBLED], cwd=tmp_path, env=path, check=True)


@pytest.mark.parametrize(
    ("model", "package"), [("BigNet", "big_net"), ("Class", "class_model"), ("Json", "json_model")]
)
def test_a_package_hides_no_module(model: str, package: str) -> None:
    assert wheel(model, AVX2, {})[0].startswith(f"{package}-1.0.0-py3-none-linux_")


@pytest.mark.parametrize("machine", ["apple-m1", "avx2-windows", "cortex-m4"])
def test_shared_libraries_are_those_of_linux(machine: str, trained: Trained) -> None:
    chosen = replace(trained, options=replace(trained.options, machine=machine))
    with pytest.raises(UsageError, match=f"a shared library for {machine} is not made"):
        shared_library(model_library(chosen, False)[0])
