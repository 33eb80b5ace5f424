"""Minutes on a machine with a GPU: bits and times of the zoo, bandwidth of rows, and products, by the device's clock.

    python benchmarks/gpu.py [mlp_small lenet5 …] [--steps 20] [--no-bits] [--no-peers]

For each model, three training steps on the GPU and on this processor, and whether all tensors have the same bits; then
the time of a step as a graph. The other tables count what rows and products move and compute; a step of these gathers
its rows and hands its results over on the device, which counts too. Beside them stand a copy, cuBLAS, and the steps of
PyTorch (eager and compiled, as one graph) and JAX in f32, tf32 and bf16 (`gpu_peers.py`), as far as they are installed.
Without a GPU the script says so, and ends with 1.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from catalogue import CATALOGUE
from compiler import driver
from compiler.driver import PREDICTION, TRAINING, Array, Options, Program, Steps
from compiler.errors.diagnostics import DlcError
from compiler.targets.gpu.executable import GpuExecutable
from compiler.targets.gpu.opened import device_memory
from compiler.targets.registry import kernel_target_of, why_no_gpu
from compiler.types import DType
from gpu_peers import figures_of_peers
from runtime.analysis.made_up_steps import MadeUpSteps

ZOO = Path(__file__).parent / "zoo"
MODELS = ("mlp_small", "mlp", "lenet5", "gpt_mini", "lstm")
PRODUCTS = (512, 1024, 2048, 4096, 8192)
ROWS, COLUMNS = 65_536, 1024  # of the tables of bandwidth: 256 MiB
REPEATS = 5
PRODUCT = "model P {{\n    input x: f32[batch, {0}]\n    output y = x |> dense({0}, bias = false)\n}}\n"
WALKS = {"elementwise": "gelu(x * 1.5 + 0.25) * sigmoid(x)", "softmax": "softmax(x)", "layer norm": "x |> layer_norm"}
WALK = "model W {{\n    input x: f32[batch, {0}]\n    output y = {1}\n}}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS, metavar="MODEL")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="steps of a timed call (default: 20)")
    parser.add_argument("--no-bits", action="store_true", help="time the models, and compare nothing")
    parser.add_argument("--no-peers", action="store_true", help="leave out cuBLAS, PyTorch and JAX")
    arguments = parser.parse_args()
    reason = why_no_gpu()
    if reason is not None:
        print(f"no GPU is measured: {reason}", file=sys.stderr)
        return 1
    gpu = device_memory().gpu
    print(f"{gpu.name}, {gpu.processors} multiprocessors, CUDA {gpu.driver_version // 1000} of the driver\n")
    own: dict[str, float] = {}  # milliseconds by the name of a model or the size of a product
    print(f"{'model':<16} {'batch':>6} {'ms a step':>10}  tensors with the bits of this processor")
    for name in arguments.models:
        print(row_of_model(name, arguments.steps, not arguments.no_bits, own), flush=True)
    print(f"\n{'rows':<16} {'GB/s':>8}")
    peaks = kernel_target_of(Options("gpu")).peaks(Options("gpu"), 1, DType.F32)
    print(f"{'copy':<16} {peaks.memory:8.0f}")
    for name, text in WALKS.items():
        print(f"{name:<16} {bandwidth(WALK.format(COLUMNS, text)):8.0f}", flush=True)
    print(f"\n{'product of f32':<16} {'TFLOP/s':>8}")
    print(f"{'multiply-adds':<16} {peaks.gflops / 1e3:8.1f}")
    for size in PRODUCTS:
        seconds = seconds_of_prediction(PRODUCT.format(size), size)
        own[str(size)] = seconds * 1e3
        print(f"{size:<16} {2 * size**3 / seconds / 1e12:8.1f}", flush=True)
    if not arguments.no_peers:
        print_peers(own, [name for name in arguments.models if name in CATALOGUE])
    return 0


def print_peers(own: Mapping[str, float], models: Sequence[str], device: str = "cuda") -> None:
    """The steps and products of others, and how many times as long as the own ones they take."""
    print(f"\n{'peer':<20} {'model or product':<18} {'ms':>10} {'times':>7}", flush=True)
    for figure in figures_of_peers(models, PRODUCTS, device):
        name = figure["name"]
        if "error" in figure:
            print(f"{figure['peer']:<20} {name:<18} {figure['error']}", flush=True)
            continue
        times = f"{figure['ms'] / own[name]:7.2f}" if name in own else ""
        print(f"{figure['peer']:<20} {name:<18} {figure['ms']:10.4f} {times}", flush=True)


def row_of_model(name: str, steps: int, has_bits: bool, own: dict[str, float]) -> str:
    """The row of a model of the zoo; an error of one does not keep the others from being measured.

    `own` is given its milliseconds.
    """
    try:
        program = driver.load(ZOO / f"{name}.dl")
        batch = program.plan.usual_rows if program.plan is not None else 1
        options = Options("gpu", batch=batch)
        executable = driver.compile_program(program, TRAINING, options)
        made = MadeUpSteps(program, "train", batch, options)
        made.run(executable, 3)
        bits = compared(program, batch, made) if has_bits else "not compared"
        own[name] = timed(executable, made, steps) * 1e3
        return f"{name:<16} {batch:6} {own[name]:10.4f}  {bits}"
    except DlcError as error:
        return f"{name:<16} {error}"


def compared(program: Program, batch: int, made: MadeUpSteps) -> str:
    """How many tensors are those of the same three steps on this processor."""
    options = Options("native", batch=batch)
    wanted = MadeUpSteps(program, "train", batch, options)
    wanted.run(driver.compile_program(program, TRAINING, options), 3)
    names = wanted.tensors.names()
    same = sum(made.tensors[name].tobytes() == wanted.tensors[name].tobytes() for name in names)
    return f"{same} of {len(names)}"


def timed(executable: Any, made: MadeUpSteps, steps: int) -> float:
    """The seconds of a step: the median of some calls of so many."""
    found: list[float] = []
    made.run(executable, steps)
    for _ in range(REPEATS):
        device_program(executable).is_timed = True
        made.run(executable, steps)
        found.append(device_program(executable).seconds / steps)
    return float(np.median(found))


def bandwidth(text: str) -> float:
    """GB/s of a step that reads rows and writes as many: as they are gathered, computed, and handed over."""
    return 6 * ROWS * COLUMNS * 4 / seconds_of_prediction(text, ROWS, COLUMNS) / 1e9


def seconds_of_prediction(text: str, rows: int, columns: int | None = None) -> float:
    """The seconds on the device of a step of a model with an input `x` of so many rows and columns."""
    program, options = driver.load_text(text, "model.dl"), Options("gpu", batch=rows)
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    data: dict[str, Array] = {"x": np.random.default_rng(0).random((rows, columns or rows), np.float32)}
    executable = driver.compile_program(program, PREDICTION, options)
    steps = Steps(tensors, data, np.arange(rows), rows, lasting=True)
    executable.run(steps)
    found: list[float] = []
    for _ in range(REPEATS):
        device_program(executable).is_timed = True
        executable.run(replace(steps))
        found.append(device_program(executable).seconds)
    return float(np.median(found))


def device_program(executable: Any) -> GpuExecutable:
    assert isinstance(executable, GpuExecutable), "a program of one part"
    return executable


if __name__ == "__main__":
    sys.exit(main())
