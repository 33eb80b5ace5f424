"""Steps of few rows run on one thread, with the bits that all threads give."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np

from compiler import driver
from compiler.driver import GraphKind, Options, Purpose, Steps
from compiler.targets.cpu.executable import NativeExecutable

DIGITS = Path(__file__).resolve().parents[2] / "examples" / "digits" / "model.dl"


def test_few_rows_take_one_thread() -> None:
    program = driver.load(DIGITS)
    options = replace(driver.options_of(program, Options()), threads=3)
    executable = driver.compile_program(program, GraphKind(Purpose.PREDICTION), options)
    alone = driver.compile_program(program, GraphKind(Purpose.PREDICTION), replace(options, threads=1))
    assert isinstance(executable, NativeExecutable)
    least = executable.manifest.shared_rows
    assert 8 < least <= options.batch
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 1, options)
    pixels = np.random.default_rng(0).random((options.batch, 64), np.float32)
    begun = set(threading.enumerate())

    def run(rows: int) -> int:
        """The threads that are new behind steps of so many rows, whose logits must be those of one thread."""
        steps = Steps(tensors, {"pixels": pixels}, np.arange(rows), options.batch)
        found, wanted = (one.run(steps).arrays["logits"].copy() for one in (executable, alone))
        assert found.tobytes() == wanted.tobytes()
        return len(set(threading.enumerate()) - begun)

    assert [run(rows) for rows in (1, least - 1)] == [0, 0]
    assert [run(rows) for rows in (least, 2, options.batch, 1, least)] == [2] * 5
