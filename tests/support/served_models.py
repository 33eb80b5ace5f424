"""Models for tests of the server: texts to models with the weights of a seed, and servers in a process of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from compiler import driver
from compiler.driver import Options
from runtime.runs.trained import Trained
from runtime.train.jobs import fresh_tensors

PAIR = """
model Pair(width = 8) {
    input x: f32[batch, 4]
    input kind: i32[batch] in 0..5
    output scores = (x |> dense(width) |> relu |> dense(3)) + (kind |> embedding(5, 3))
}

train Pair {
    target label: i32[batch] in 0..3
    loss = cross_entropy(scores, label)
    optimizer = adam(lr = 0.01)
    epochs = 1
    batch = 16
}
"""


def trained_with_seed(text: str, weights: Path = Path("weights.safetensors"), threads: int = 2) -> Trained:
    """The model of a text, with the weights from which its training would start."""
    program = driver.load_text(text, "model.dl")
    options = driver.options_of(program, Options(threads=threads))
    return Trained(program, fresh_tensors(program, options), options, None, None, (), weights=weights)


@contextmanager
def server(place: Path, *arguments: str) -> Generator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """`dlc serve PLACE` in a process, and what it says at its start; it is killed where a test leaves it running."""
    command = [sys.executable, "-m", "runtime.cli", "serve", str(place), "--port", "0", "--json", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            lines: list[str] = []
            while not lines or lines[-1] != "}\n":
                lines.append(process.stdout.readline())
                if not lines[-1]:
                    raise AssertionError(f"the server did not begin: {process.communicate()[1]}")
            yield process, json.loads("".join(lines))
        finally:
            if process.poll() is None:
                process.kill()
