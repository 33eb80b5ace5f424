"""Compares processors: training steps and predictions as C programs, run under emulation, have the bits of this one.

    python tests/stress/check_processors.py --machines neon,rvv --models digits,gpt_mini

Models are those of the zoo and of the examples. Each is exported as a C library with its training step; a program makes
`--steps` updates on made-up rows and predicts with the weights it got. Cross compilers and QEMU's user mode run it
(Debian: gcc-aarch64-linux-gnu, gcc-riscv64-linux-gnu, qemu-user); wasmtime runs modules of WebAssembly
(`--machines wasm,wasm-simd128`). A difference ends in exit status 1.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(_ROOT), str(_ROOT / "benchmarks"), str(_ROOT / "tests" / "support")]

import numpy as np  # noqa: E402
from c_programs import TOOLCHAINS, Toolchain, different_numbers  # noqa: E402
from keep_bits import rows_of  # noqa: E402
from web_programs import in_wasmtime  # noqa: E402

from compiler import driver  # noqa: E402
from compiler.driver import (  # noqa: E402
    PREDICTION,
    TRAINING,
    Array,
    ExportedLibrary,
    LibraryTensors,
    Options,
    Program,
    Steps,
)
from compiler.errors.diagnostics import DlcError  # noqa: E402
from compiler.types import numpy_dtype  # noqa: E402
from runtime.analysis.made_up_steps import synthetic  # noqa: E402
from runtime.data.dimensions import dimensions_if_there  # noqa: E402
from runtime.data.part import Part, at_epoch, in_precision, numbered  # noqa: E402
from runtime.exports.c_library import C_TYPES, Function, c_files, function_of  # noqa: E402
from runtime.exports.c_library import Array as Argument  # noqa: E402
from runtime.exports.model_library import stored  # noqa: E402
from runtime.exports.wasm_module import wasm_module  # noqa: E402
from runtime.exports.web_library import MACHINES  # noqa: E402
from runtime.inference.model import runtime_settings  # noqa: E402
from runtime.runs.position import Length  # noqa: E402
from runtime.train.jobs import fresh_tensors  # noqa: E402
from starts import Source, sources  # noqa: E402


def differences(source: Source, toolchains: list[Toolchain], steps: int) -> list[str]:
    """What differs, by machine; a model that cannot be exported is said and left out."""
    program = driver.load(source.file, source.experiment, (), dimensions_if_there)
    rows = min(rows_of(program), 8)
    options = driver.options_of(program, Options(batch=rows))
    trains = program.plan is not None and program.plan.accumulation is None
    seed = program.plan.seed if program.plan is not None else 0
    settings = runtime_settings(program, Length(rows, rows, 10_000) if trains else None)
    part = in_precision(Part(synthetic(program.inputs, rows, seed), np.arange(rows)), options.dtype)
    data = at_epoch(numbered(program, part).arrays, 0) if trains else part.arrays
    expected = _results(program, options, data, rows, settings, seed, steps if trains else 0)
    found: list[str] = []
    for toolchain in toolchains:
        chosen = replace(options, machine=toolchain.machine)
        fresh = fresh_tensors(program, options)
        tensors = stored(fresh, fresh.names())
        library = driver.exported_library(program, tensors, settings, chosen, seed if trains else None)
        called = [signature for signature in library.functions if signature.name in ("predict", "step")]
        functions = {signature.name: function_of(program, signature) for signature in called}
        try:
            if library.machine.is_web:
                content = _of_module(library, tensors, functions, data, rows, steps)
            else:
                files = c_files(program, library, tensors, {})
                content = _of_program(files, functions, toolchain, data, rows, steps)
            got = io.BytesIO(content)
        except AssertionError as error:  # of a program that failed, or of the emulator itself
            found.append(f"{toolchain.machine}: {(str(error).strip() or 'a call failed').splitlines()[0]}")
            continue
        different = sum(different_numbers(array, got) for array in expected)
        if different:
            found.append(f"{toolchain.machine}: {different} of {sum(array.size for array in expected)} numbers differ")
    return found


def _results(
    program: Program,
    options: Options,
    data: Mapping[str, Array],
    rows: int,
    settings: Mapping[str, float],
    seed: int,
    steps: int,
) -> list[Array]:
    """The losses of all steps, then the outputs of a prediction."""
    tensors = fresh_tensors(program, options)
    every = np.arange(rows)
    losses: list[Array] = []
    if steps:
        step = driver.compile_program(program, TRAINING, options)
        for number in range(steps):
            found = step.run(Steps(tensors, data, every, rows, number, seed, settings))
            losses.append(found.scalars["loss"])
    predict = driver.compile_program(program, PREDICTION, options)
    found = predict.run(Steps(tensors, data, every, rows, settings=settings))
    shapes = {output.name: output.value.type for output in program.inference_graph.outputs}
    axes = {name: _batch_axis(shapes[name].shape) for name in program.outputs if name in found.arrays}
    arrays = [np.moveaxis(found.arrays[name], axis, 0) for name, axis in axes.items() if axis is not None]
    return losses + [np.ascontiguousarray(array) for array in arrays]


def _batch_axis(shape: tuple[object, ...]) -> int | None:
    return next((axis for axis, extent in enumerate(shape) if not isinstance(extent, int)), None)


def _of_module(
    library: ExportedLibrary,
    tensors: LibraryTensors,
    functions: Mapping[str, Function],
    data: Mapping[str, Array],
    rows: int,
    steps: int,
) -> bytes:
    """Losses and outputs of a module in wasmtime."""
    module = wasm_module([member.content for member in library.members], library.members[0].symbols, library.reserved)
    weights = {library.places[name]: array.tobytes() for name, array in tensors.values.items()}
    run = in_wasmtime(module, weights, library.abi, rows)
    given = {array.name: run.given(data[array.name].tobytes()) for f in functions.values() for array in f.inputs}
    step, predict = functions.get("step"), functions["predict"]
    made = b""
    if step is not None:
        form = np.dtype([(name, numpy_dtype(dtype)) for name, dtype, _ in step.settings], align=True)
        usual = np.array([tuple(value for _, _, value in step.settings)], form)
        settings = [run.given(usual.tobytes())] if step.settings else []
        places = {array.name: run.room(_bytes(array, rows)) for array in step.outputs}
        loss = next(array for array in step.outputs if array.name == "loss")
        for _ in range(steps):
            arguments = [*settings, *(given[array.name] for array in step.inputs), *places.values()]
            assert run.call("step", run.place, rows, *arguments) == 0
            content = run.read(places["loss"], loss.dtype.size)
            made += np.frombuffer(content, numpy_dtype(loss.dtype)).astype(np.float64).tobytes()
    places = {array.name: run.room(_bytes(array, rows)) for array in predict.outputs}
    inputs = [given[array.name] for array in predict.inputs]
    assert run.call("predict", run.place, rows, *inputs, *places.values()) == 0
    return made + b"".join(run.read(places[a.name], _bytes(a, rows)) for a in predict.outputs if a.is_of_rows)


def _bytes(array: Argument, rows: int) -> int:
    return array.elements * array.dtype.size * (rows if array.is_of_rows else 1)


def _of_program(
    files: Mapping[str, bytes],
    functions: Mapping[str, Function],
    toolchain: Toolchain,
    data: Mapping[str, Array],
    rows: int,
    steps: int,
) -> bytes:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file, content in files.items():
            (folder / file).write_bytes(content)
        (folder / "steps.c").write_text(_source(functions, rows, steps))
        given = b"".join(data[array.name].tobytes() for f in functions.values() for array in f.inputs)
        return toolchain.run(toolchain.build(folder, "steps.c", "-Wno-overlength-strings"), given)


def _source(functions: Mapping[str, Function], rows: int, steps: int) -> str:
    """Reads the inputs of each function, makes the steps, predicts, and writes losses and outputs."""
    declared: list[str] = []
    read: list[str] = []
    for name, function in functions.items():
        for array in function.arrays:
            count = array.elements * (rows if array.is_of_rows else 1)
            declared.append(f"static {C_TYPES[array.dtype]} {name}_{array.identifier}[{count}];")
        read += [f"    filled({name}_{a.identifier}, sizeof {name}_{a.identifier});" for a in function.inputs]
    step, predict = functions.get("step"), functions["predict"]
    made: list[str] = []
    if step is not None:
        given = ", ".join([*(["&settings"] if step.settings else []), *(f"step_{a.identifier}" for a in step.arrays)])
        loss = next(a.identifier for a in step.outputs if a.name == "loss")
        made.append(f"    for (step = 0; step < {steps}; step++) {{")
        made.append(f"        const double loss = (model_step(memory, {rows}, {given}), (double)*step_{loss});")
        made.append("        fwrite(&loss, sizeof loss, 1, stdout);\n    }")
    given = ", ".join(f"predict_{a.identifier}" for a in predict.arrays)
    made.append(f"    if (model_predict(memory, {rows}, {given}) != MODEL_OK) return 6;")
    made += [
        f"    fwrite(predict_{a.identifier}, 1, sizeof predict_{a.identifier}, stdout);"
        for a in predict.outputs
        if a.is_of_rows
    ]
    settings = "    struct model_settings settings = MODEL_SETTINGS;\n" if step is not None and step.settings else ""
    return f"""#include "model.h"
#include <stdio.h>
#include <stdlib.h>
{chr(10).join(declared)}
static void filled(void *target, size_t bytes) {{ if (fread(target, 1, bytes, stdin) != bytes) exit(4); }}
int main(void) {{
    const int64_t bytes = MODEL_MEMORY({rows});
    char *block = malloc((size_t)bytes + MODEL_ALIGNMENT);
    void *memory = block + (MODEL_ALIGNMENT - (uintptr_t)block % MODEL_ALIGNMENT);
    int step;
{settings}    (void)step;
    if (model_memory({rows}) != bytes || model_init(memory, bytes, {rows}) != MODEL_OK) return 3;
{chr(10).join(read)}
{chr(10).join(made)}
    return 0;
}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", default="neon,rvv", help="names of compiler/machine, separated by commas")
    parser.add_argument("--models", help="names of models, separated by commas (default: all)")
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    machines = arguments.machines.split(",")
    toolchains = [t for t in TOOLCHAINS if t.machine in machines and t.is_there]
    toolchains += [Toolchain(name, "") for name in MACHINES if name in machines]
    chosen = None if arguments.models is None else arguments.models.split(",")
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        for source in sources(Path(name)).values():
            if chosen is not None and source.name.removeprefix("zoo/") not in chosen:
                continue
            try:
                found = differences(source, toolchains, arguments.steps)
            except DlcError as error:
                print(f"{source.name}: left out: {error}", flush=True)
                continue
            failures += len(found)
            print(f"{source.name}: {'; '.join(found) or 'the same bits'}", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
