"""Rows a second of an exported C library, and of the program that `dlc predict` runs, each on one thread.

    python benchmarks/libraries.py [--models digits,lenet] [--rows 1,32,1024] [--seconds 1] [--json]

Both compute the same rows with the weights from which a training starts, in turns, and must give the same bits. Calls
of the library go through ctypes, those of the program through Python. It needs a C compiler for `--to shared`.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from clock import time_latency  # noqa: E402
from compiler import driver  # noqa: E402
from compiler.driver import Array, GraphKind, Options, Purpose, Steps  # noqa: E402
from compiler.types import numpy_dtype  # noqa: E402
from exports import write_start_weights  # noqa: E402
from run import machine  # noqa: E402
from runtime.cli.main import main as dlc  # noqa: E402
from runtime.data.dimensions import dimensions_if_there  # noqa: E402
from runtime.data.specs import row_shape  # noqa: E402
from runtime.inference.model import runtime_settings  # noqa: E402
from runtime.runs.tensor_files import read_tensors  # noqa: E402
from starts import EXAMPLES, Source, sources  # noqa: E402

USUAL = "digits,lenet,gpt,sentiment,vision_transformer,resnet20"
ALIGNMENT = 64


class Library:
    """A shared library with memory for so many rows."""

    def __init__(self, folder: Path, rows: int) -> None:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        self._function = manifest["functions"]["model_predict"]
        self._library = ctypes.CDLL(str(folder / "libmodel.so"))
        self._library.model_memory.restype = ctypes.c_int64
        size = self._library.model_memory(ctypes.c_int64(rows))
        self._block = np.zeros(size + ALIGNMENT, np.uint8)
        start = self._block.ctypes.data
        self._memory = ctypes.c_void_p(start + -start % ALIGNMENT)
        sizes = (ctypes.c_int64(size), ctypes.c_int64(rows))
        if self._library.model_init_abi(ctypes.c_int64(manifest["abi"]), self._memory, *sizes):
            raise SystemExit("the library refuses its memory")

    def prediction(self, inputs: dict[str, Array], outputs: dict[str, Array], rows: int) -> Callable[[], object]:
        """A call that fills `outputs`."""
        given = [inputs[item["name"]] for item in self._function["inputs"]]
        made = [outputs[item["name"]] for item in self._function["outputs"]]
        places = [ctypes.c_void_p(array.ctypes.data) for array in (*given, *made)]
        return lambda: self._library.model_predict(self._memory, ctypes.c_int64(rows), *places)


def measured(source: Source, counts: list[int], seconds: float, folder: Path) -> dict[int, tuple[float, float]]:
    """Milliseconds of a call of the library and of the program by the number of rows."""
    weights = folder / "weights.safetensors"
    write_start_weights(source, weights)
    experiment = ["--experiment", source.experiment] if source.experiment else []
    out = folder / "library"
    if dlc(["export", str(source.file), "--weights", str(weights), "--to", "shared", *experiment, "-o", str(out)]):
        raise SystemExit(f"{source.name} is not exported")
    program = driver.load(source.file, source.experiment, (), dimensions_if_there)
    options = replace(driver.options_of(program, Options()), threads=1)
    tensors = driver.allocate(program, options)
    for name, array in read_tensors(weights).items():
        tensors.write(name, array)
    executable = driver.compile_program(program, GraphKind(Purpose.PREDICTION), options)
    found: dict[int, tuple[float, float]] = {}
    for rows in counts:
        drawn = np.random.default_rng(0)
        inputs = {
            spec.name: drawn.integers(spec.low or 0, spec.high or 2, (rows, *row_shape(spec))).astype(
                numpy_dtype(spec.type.dtype)
            )
            for spec in program.inputs
            if not spec.is_target
        }
        steps = Steps(tensors, inputs, np.arange(rows), rows, settings=runtime_settings(program))
        wanted = {name: array.copy() for name, array in executable.run(steps).arrays.items()}
        made = {name: np.zeros_like(array) for name, array in wanted.items()}
        call = Library(out, rows).prediction(inputs, made, rows)
        call()
        if any(made[name].tobytes() != wanted[name].tobytes() for name in wanted):
            raise SystemExit(f"{source.name}: the library gives other bits than the program")
        halves = [
            (time_latency(call, seconds / 2), time_latency(lambda steps=steps: executable.run(steps), seconds / 2))
            for _ in range(2)
        ]
        library, program_time = (min(half[k]["median_ms"] for half in halves) for k in (0, 1))
        found[rows] = library, program_time
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=USUAL, help=f"names of examples with commas between (default: {USUAL})")
    parser.add_argument("--rows", default="1,32,1024", help="rows of a call (default: 1,32,1024)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for each number (default: 1)")
    parser.add_argument("--json", action="store_true", help="milliseconds of a call, not the table")
    arguments = parser.parse_args()
    counts = [int(count) for count in arguments.rows.split(",")]
    found: dict[str, dict[int, tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="dlc-libraries-") as name:
        known = {n: s for n, s in sources(Path(name)).items() if EXAMPLES in s.file.parents}
        for model in arguments.models.split(","):
            if model not in known:
                raise SystemExit(f"there is no example {model}; known: {', '.join(known)}")
            with tempfile.TemporaryDirectory(dir=name) as place:
                found[model] = measured(known[model], counts, arguments.seconds, Path(place))
    if arguments.json:
        print(json.dumps({"machine": machine(), "milliseconds": found}, indent=1))
        return
    print("| model | rows of a call | library, rows/s | dlc predict, rows/s | ratio |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for model, times in found.items():
        for rows, (library, program) in times.items():
            speeds = (1000 * rows / library, 1000 * rows / program)
            print(f"| {model} | {rows} | {speeds[0]:,.0f} | {speeds[1]:,.0f} | {program / library:.2f} |")


if __name__ == "__main__":
    main()
