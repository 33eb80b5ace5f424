"""`dlc predict` of a model that was trained with `stream` reads files block by block, with the results of memory."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from runtime.cli.main import main

DRAWN = np.random.default_rng(0)
KINDS = {
    "idx": (
        'idx("data")',
        "input image: u8[batch, 8, 8]\n    output p = flatten(image / 255) |> dense(3)",
        "target label: u8[batch] in 0..3\n    loss = cross_entropy(p, label)",
    ),
    "cifar": (
        'cifar("data")',
        "input image: u8[batch, 3, 32, 32]\n    output p = flatten(image / 255) |> dense(10)",
        "target label: u8[batch] in 0..10\n    loss = cross_entropy(p, label)",
    ),
    "series": (
        'csv("series.csv", window = 6, stride = 2, columns = ["a", "b"], target = "b", normalise = true)',
        "input x: f32[batch, 6, 2]\n    output p = flatten(x) |> dense(1)",
        "target y: f32[batch, 1]\n    loss = mse(p, y)",
    ),
}


def write_idx(path: Path, values: np.ndarray) -> None:
    head = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(head + values.astype(np.uint8).tobytes())


def write_data(kind: str) -> None:
    Path("data").mkdir()
    if kind == "idx":
        for part, rows in (("train", 100), ("t10k", 60)):
            write_idx(Path(f"data/{part}-images-idx3-ubyte"), DRAWN.integers(0, 256, (rows, 8, 8)))
            write_idx(Path(f"data/{part}-labels-idx1-ubyte"), DRAWN.integers(0, 3, rows))
    elif kind == "cifar":
        for name, rows in (("data_batch_1", 40), ("test_batch", 30)):
            records = DRAWN.integers(0, 256, (rows, 3073), np.uint8)
            records[:, 0] %= 10
            records.tofile(f"data/{name}.bin")
    else:
        rows = (f"{a:.3f},{b:.3f}\n" for a, b in DRAWN.normal(size=(200, 2)).cumsum(axis=0))
        Path("series.csv").write_text("a,b\n" + "".join(rows))


@pytest.mark.parametrize(
    ("kind", "given", "rows"),
    [
        ("idx", "data", 60),
        ("idx", "data/t10k-images-idx3-ubyte", 60),
        ("cifar", "data", 30),
        ("cifar", "data/data_batch_1.bin", 40),
        ("series", "series.csv", 195),
    ],
)
def test_blocks_give_what_memory_gives(
    kind: str,
    given: str,
    rows: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_data(kind)
    data, model, train = KINDS[kind]
    Path("model.dl").write_text(
        f"model M {{\n    {model}\n}}\n\ntrain M {{\n    data = {data}\n    {train}\n"
        "    optimizer = adam(lr = 0.01)\n    epochs = 1\n    batch = 16\n}\n"
    )
    assert main(["train", "model.dl", "--out", "run"]) == 0
    capsys.readouterr()
    assert main(["predict", "run", "--input", given]) == 0
    held = capsys.readouterr()
    assert held.out.count("\n") == rows
    monkeypatch.setattr("runtime.cli.predict.load_rows", None)  # blocks alone are read
    for stream in ("7", "1000"):
        assert main(["predict", "run", "--input", given, "--set", f"stream={stream}"]) == 0
        assert capsys.readouterr() == held
