"""Bits change only with the version of the numerics: small trainings end in the tensors that are recorded for it.

A failure says that a program gives other bits than before. Where that is meant, raise
`compiler.support.numerics.NUMERICS`, say in docs/numerics.md what changed, and run this with `--update-golden`, which
refuses other bits of the same version.
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from golden import Golden

from compiler import driver
from compiler.driver import Options
from compiler.interface import Steps
from compiler.programs.kinds import TRAINING
from compiler.support.numerics import NUMERICS

ROWS, STEPS = 48, 3
TRAIN = """
train M {
    target t: i32[batch] in 0..10
    loss = cross_entropy(y, t)
    optimizer = adam(lr = 0.01)
    batch = 48
}
"""
PROGRAMS = {
    "dense": ((700,), "x |> dense(300) |> relu |> dense(10)"),
    "convolutions": (
        (3, 20, 20),
        "x |> conv2d(24, 3, padding = 1) |> batch_norm |> relu |> conv2d(32, 3, stride = 2) |> relu"
        " |> global_average_pool |> dense(10)",
    ),
    "depthwise": ((16, 12, 12), "x |> depthwise_conv2d(3, padding = 1) |> gelu |> global_average_pool |> dense(10)"),
    "attention": ((40, 32), "x |> layer_norm |> attend() |> layer_norm |> flatten |> dense(10)"),
    "recurrence": ((30, 12), 'x |> lstm(40, output = "last") |> dense(10)'),
}


ATTEND = """
layer attend()(x: [batch, i, d]) = attention(heads = 4, causal = true)(x, x, x)
"""


def text_of(name: str) -> str:
    shape, layers = PROGRAMS[name]
    model = f"model M {{\n    input x: f32[batch, {', '.join(map(str, shape))}]\n    output y = {layers}\n}}\n"
    return model + TRAIN + ATTEND


def bits_of(name: str, folder: Path) -> str:
    """A digest of all tensors after some steps, from data that no library's generator decides."""
    path = folder / f"{name}.dl"
    path.write_text(text_of(name))
    program, options = driver.load(path), Options(threads=2, batch=ROWS)
    shape = (ROWS * STEPS, *PROGRAMS[name][0])
    numbers = np.arange(np.prod(shape), dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
    x = (numbers.astype(np.float64) / 2**31 - 1).astype(np.float32).reshape(shape)
    data = {"x": x, "t": (np.arange(len(x)) * 7 % 10).astype(np.int32)}
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    settings = {s.name: float(s.value) for s in program.settings if s.is_runtime and isinstance(s.value, int | float)}
    executable = driver.compile_program(program, TRAINING, options)
    results = executable.run(Steps(tensors, data, np.arange(len(x), dtype=np.int64), ROWS, settings=settings))
    assert np.isfinite(results.scalars["loss"]).all()
    digest = sha256()
    for tensor in sorted(tensors.names()):
        digest.update(tensor.encode() + tensors[tensor].tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("name", PROGRAMS)
def test_bits_change_only_with_the_version(name: str, tmp_path: Path, golden: Golden) -> None:
    file = f"numerics/{name}.bits"
    found = f"version {NUMERICS}\n{bits_of(name, tmp_path)}\n"
    stored = golden.folder / file
    if golden.update and stored.exists():
        before = stored.read_text()
        assert before == found or before.split("\n")[0] != f"version {NUMERICS}", "other bits: raise NUMERICS first"
    golden(file, found)
