"""Trainings over pairs of rows: the same bits by any threads, the numbers of NumPy, and what is refused."""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from elaboration import mistakes

import dlc
from runtime.cli.main import main

Array: TypeAlias = np.ndarray[Any, Any]

HEAD = "model M {\n    input x: f32[batch, 24]\n"
TRAIN = """
train M {
    target label: i32[batch] in 0..3
    loss = LOSS
    optimizer = adam(lr = 1e-2)
    epochs = 2
    batch = 40
}
"""
SCANS = """
    steps = reshape(x, batch, 3, 8)
    hs, h = scan xt in steps over 1 carry h = zeros(batch, 8) {
        mixed = softmax(xt @ xt.T) @ h + xt
        h = tanh(mixed |> dense(8))
        emit h
    }
    total = scan yt in steps over 1 carry s = zeros(batch, batch) { s = s + tanh(yt @ yt.T) }
    output z = h + total @ h
}
"""
DENSE = "\n    output z = x |> dense(6)\n}\n"
MANY = """
fn of_many(a: [batch, d], label: i32[batch]) {
    s = a @ a.T
    own = same_row(a)
    p = softmax(where(own, -inf, s), axis = 1) + softmax(s, axis = 0)
    spread = variance(s, axis = 1) + max(s - s.T, axis = 0)
    near = min(where(same_label(label), inf, squared_distances(a, a)), axis = 1)
    running = einsum("i i -> i", cumsum(tanh(s), axis = 1))
    chosen = cast(argmax(s, axis = 1), f32)
    return mean(p ^ 2) + mean(spread) + mean(where(near < inf, near, 0)) + mean(running) + 0 * mean(chosen)
}
"""
TEXTS = {
    "scans": HEAD + SCANS + TRAIN.replace("LOSS", "supervised_contrastive(z, label)"),
    "many": HEAD + DENSE + TRAIN.replace("LOSS", "of_many(z, label)") + MANY,
    "shares": HEAD + DENSE + TRAIN.replace("LOSS", "nt_xent(z, x[:, :6])").replace("40", "20\n    accumulate = 2"),
}


def rows_of(count: int = 101) -> dict[str, Array]:
    random = np.random.default_rng(0)
    return {
        "x": random.normal(size=(count, 24)).astype(np.float32),
        "label": random.integers(0, 3, count).astype(np.int32),
    }


def weights_of(path: Path, **options: Any) -> dict[str, Array]:
    model = dlc.load(path, **options)
    model.train(rows_of())
    return {name: np.array(array) for name, array in model.parameters.items()}


@pytest.mark.parametrize("name", TEXTS)
def test_threads_change_no_bit(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.dl"
    path.write_text(TEXTS[name])
    first = weights_of(path, threads=1)
    for parameter, found in weights_of(path, threads=2).items():
        np.testing.assert_array_equal(found, first[parameter])


@pytest.mark.parametrize("name", ["scans", "many"])
def test_numpy_gives_the_same_weights(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.dl"
    path.write_text(TEXTS[name])
    expected = weights_of(path, target="reference", precision="f64")
    for parameter, found in weights_of(path, threads=1, precision="f64").items():
        np.testing.assert_allclose(found, expected[parameter], rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("output y = x @ x.T", "E0410"),
        ("input y: f32[batch, batch]\n    output z = x", "E0410"),
        ("param w: [batch, batch] = zeros\n    output z = x", "E0410"),
        ("output y = sum(sum(x, axis = 1)[:, None] - sum(x, axis = 1), axis = 1)", "E0402"),
        ("output y = sum(x @ x.T - sum(x, axis = 1), axis = 1)", "E0402"),
        ("output y = sum(reverse(x @ x.T, 1), axis = 1)", "E0417"),
        ("output y = sum(reshape(x @ x.T, 2 * batch, batch), axis = 1)", "E0407"),
        ("output y = sum(concat(x @ x.T, x @ x.T, axis = 1), axis = 1)", "E0417"),
    ],
)
def test_what_pairs_cannot(line: str, code: str) -> None:
    assert [found.code for found in mistakes(f"{HEAD}    {line}\n}}\n") if found.severity == "error"] == [code]


def test_a_mean_over_all_pairs_does_not_add_up() -> None:
    text = HEAD + DENSE + TRAIN.replace("LOSS", "mean(z @ z.T)").replace("40", "20\n    accumulate = 2")
    assert "E0614" in [found.code for found in mistakes(text)]
    assert "E0614" not in [
        found.code for found in mistakes(text.replace("mean(z @ z.T)", "mean(mean(z @ z.T, axis = 1))"))
    ]


def test_pairs_are_no_metric() -> None:
    text = HEAD + DENSE + TRAIN.replace("LOSS", "mean(z ^ 2)\n    metrics = [mean(max(z @ z.T, axis = 1))]")
    assert "E0616" in [found.code for found in mistakes(text)]


def library_of(folder: Path) -> tuple[ctypes.CDLL, Mapping[str, Any]]:
    return ctypes.CDLL(str(folder / "libmodel.so")), json.loads((folder / "manifest.json").read_text())


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler links a library")
def test_an_exported_function_refuses_rows_that_have_no_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    nearest = "    output near = min(where(same_row(z), inf, squared_distances(z, z)), axis = 1)\n}\n"
    text = HEAD + DENSE.replace("}\n", nearest) + TRAIN.replace("LOSS", "supervised_contrastive(z, label)")
    Path("model.dl").write_text(text.replace("epochs", 'data = npz("rows.npz")\n    epochs'))
    np.savez("rows.npz", **rows_of())  # type: ignore[arg-type]
    assert main(["train", "model.dl", "--out", "run"]) == 0
    assert main(["export", "run", "--to", "shared", "--output", "made"]) == 0
    assert "a call takes up to 48 of them" in (tmp_path / "made" / "model.h").read_text()
    library, manifest = library_of(tmp_path / "made")
    library.model_memory.restype = ctypes.c_int64
    size = library.model_memory(ctypes.c_int64(60))
    room = np.zeros(size + 64, np.uint8)
    memory = ctypes.c_void_p(room.ctypes.data + -room.ctypes.data % 64)
    abi = ctypes.c_int64(manifest["abi"])
    assert library.model_init_abi(abi, memory, ctypes.c_int64(size), ctypes.c_int64(60)) == 0
    x = rows_of()["x"]
    z, near = np.zeros((60, 6), np.float32), np.zeros(60, np.float32)
    for rows, code in ((49, 1), (48, 0), (5, 0)):
        given = (ctypes.c_void_p(array.ctypes.data) for array in (x, z, near))
        assert library.model_predict(memory, ctypes.c_int64(rows), *given) == code
    expected = dlc.load("run").predict({"x": x[:5]})
    np.testing.assert_array_equal(near[:5], expected["near"])
    np.testing.assert_array_equal(z[:5], expected["z"])
    capsys.readouterr()
