"""Any program as an exported library, called on rows of data: where its arrays have other bits than here.

The library is run as a program in C, under emulation where the machine is another one, or as a module of WebAssembly
by wasmtime or by Node.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from c_programs import TOOLCHAINS, Array, Toolchain, different_numbers
from network_checks import STEPS, Network
from web_programs import in_node, in_wasmtime

from compiler import driver
from compiler.driver import (
    BATCH_EVALUATION,
    PREDICTION,
    TRAINING,
    ExportedLibrary,
    GraphKind,
    LibraryTensors,
    Options,
    Program,
    Steps,
)
from compiler.support.record import record
from compiler.types import DType, numpy_dtype
from runtime.exports.c_library import C_TYPES, Function, c_files, function_of
from runtime.exports.c_library import Array as Argument
from runtime.exports.model_library import model_library, settings_of
from runtime.exports.wasm_module import wasm_module
from runtime.exports.web_library import MACHINES, MODULE, web_files
from runtime.inference.model import batch_axes
from runtime.runs.tensor_files import replace_tensors, tensors_in
from runtime.runs.trained import Trained
from runtime.train.jobs import fresh_tensors

NODE = {"node": None, "node-simd128": MODULE}
"""Ways to run the files for the web: as they are, and where an engine does not take the fast module."""
_NO_MODULE = b"\0asm\2\0\0\0"  # of a version that no engine knows


@record(eq=False)
class Call:
    """A call of a function of the library: its rows, the arrays that it reads, and those that it gives here."""

    name: str
    rows: int
    given: Mapping[str, Array]
    expected: Mapping[str, Array]


@record(eq=False)
class ExportedProgram:
    """A program as any machine's library, and calls of it; where there are steps, `weights` are its tensors then."""

    trained: Trained
    calls: Sequence[Call]
    weights: Mapping[str, Array]

    @property
    def capacity(self) -> int:
        return max(call.rows for call in self.calls)

    def differences(self, where: str | None, folder: Path) -> list[str]:
        """A line for each array that has other bits on a machine, or in one of NODE; its files go to the folder."""
        if where in NODE:
            return [*self._in_node(where, folder)]
        if where in MACHINES:
            return [*self._in_wasmtime(where)]
        return [*self._in_c(next(toolchain for toolchain in TOOLCHAINS if toolchain.machine == where), folder)]

    def _library(self, machine: str | None) -> tuple[ExportedLibrary, LibraryTensors, dict[str, Function]]:
        options = replace(self.trained.options, machine=machine)
        library, tensors = model_library(replace(self.trained, options=options), bool(self.weights))
        functions = {one.name: function_of(self.trained.program, one, library.prefix) for one in library.functions}
        return library, tensors, functions

    def _in_c(self, toolchain: Toolchain, folder: Path) -> Iterator[str]:
        library, tensors, functions = self._library(toolchain.machine)
        for name, content in c_files(self.trained.program, library, tensors, {}).items():
            (folder / name).write_bytes(b"".join(content))
        (folder / "calls.c").write_text(_source(self, functions))
        given = [_bytes(call.given[item.name], item) for call in self.calls for item in functions[call.name].inputs]
        program = toolchain.build(folder, "calls.c", "-Wno-overlength-strings")
        got = io.BytesIO(toolchain.run(program, b"".join(given)))
        for number, call in enumerate(self.calls):
            for item in functions[call.name].outputs:
                yield from _difference(number, call, item, got)
        yield from self._of_weights(got.read())

    def _in_wasmtime(self, machine: str) -> Iterator[str]:
        library, tensors, functions = self._library(machine)
        module = wasm_module(
            [b"".join(m.content) for m in library.members], library.members[0].symbols, library.reserved
        )
        weights = {library.places[name]: array.tobytes() for name, array in tensors.values.items()}
        run = in_wasmtime(module, weights, library.abi, self.capacity)
        for number, call in enumerate(self.calls):
            function = functions[call.name]
            settings = [run.given(_settings_of(function))] if function.settings else []
            given = [run.given(_bytes(call.given[item.name], item)) for item in function.inputs]
            made = [run.room(_count(item, call.rows) * item.dtype.size) for item in function.outputs]
            assert run.call(call.name, run.place, call.rows, *settings, *given, *made) == 0
            for item, place in zip(function.outputs, made, strict=True):
                got = io.BytesIO(run.read(place, _count(item, call.rows) * item.dtype.size))
                yield from _difference(number, call, item, got)
        if self.weights:
            file = run.room(tensors.file_bytes)
            assert run.call("save", run.place, file, tensors.file_bytes) == 0
            yield from self._of_weights(run.read(file, tensors.file_bytes))

    def _in_node(self, where: str, folder: Path) -> Iterator[str]:
        made = [self._library(machine) for machine in MACHINES]
        _, tensors, functions = made[0]
        files = web_files(self.trained.program, [library for library, _, _ in made], tensors, {}, None)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        replace_tensors(folder / "weights.safetensors", tensors.values)
        if (module := NODE[where]) is not None:
            (folder / module).write_bytes(_NO_MODULE)
        calls: list[tuple[object, ...]] = [
            (call.name, {item.name: _cast(call.given[item.name], item) for item in functions[call.name].inputs})
            for call in self.calls
        ]
        how, *answers = in_node(folder, self.capacity, [*calls, *([("save",)] if self.weights else [])])
        assert how["isFast"] is (module is None)
        for number, (call, answer) in enumerate(zip(self.calls, answers, strict=False)):
            assert isinstance(answer, dict), answer
            assert "error" not in answer, json.dumps(answer)
            for item in functions[call.name].outputs:
                yield from _difference(number, call, item, io.BytesIO(_stored(answer[item.name], item)))
        yield from self._of_weights(answers[-1])

    def _of_weights(self, file: bytes) -> Iterator[str]:
        saved = tensors_in(file, Path("saved")) if self.weights else {}
        assert {*saved} == {*self.weights}
        for name, array in saved.items():
            kept = array.astype(self.weights[name].dtype)  # f16 is read as f32
            if wrong := different_numbers(self.weights[name], io.BytesIO(kept.tobytes())):
                yield f"tensor {name}: {wrong} of {array.size} numbers differ"


def exported_program(program: Program, options: Options, batches: Sequence[Mapping[str, Array]]) -> ExportedProgram:
    """A step on each of some batches, an evaluation and a prediction; no step where it cannot be exported."""
    plan = program.plan
    trains = plan is not None and plan.accumulation is None
    tensors = fresh_tensors(program, options)
    rows = [_rows_of(program, batch) for batch in batches]
    trained = Trained(program, tensors, options, None, None, (), training_rows=sum(rows) if trains else None)
    store = driver.allocate(program, options)
    for name in tensors.names():
        store.write(name, tensors[name])
    signatures, _ = model_library(trained, trains)
    known = {signature.name for signature in signatures.functions}
    kinds: list[tuple[str, GraphKind]] = [("step", TRAINING)] * len(batches)
    kinds += [("evaluate", BATCH_EVALUATION), ("predict", PREDICTION)]
    settings, axes = settings_of(trained), batch_axes(program)
    calls: list[Call] = []
    for number, (name, kind) in enumerate(kinds):
        if name not in known:
            continue
        count, batch = rows[number % len(batches)], batches[number % len(batches)]
        seed = plan.seed if plan is not None else 0
        steps = Steps(store, batch, np.arange(count), count, number, seed, settings)
        found = driver.compile_program(program, kind, options).run(steps)
        arrays = {
            k: np.moveaxis(array, axes.get(k) or 0, 0) if array.ndim else array for k, array in found.arrays.items()
        }
        calls.append(Call(name, count, batch, arrays if kind is PREDICTION else found.scalars))
    weights = {name: store[name].copy() for name in store.names()} if "step" in known else {}
    return ExportedProgram(trained, calls, weights)


def exported_network(text: str, seed: int) -> ExportedProgram:
    """A network of `random_networks` with the data that its seed gives."""
    network = Network(text, seed)
    options = driver.options_of(network.program, Options(threads=1))
    parts = [network.rows[number * network.usual :][: network.usual] for number in range(STEPS)]
    batches = [{name: array[rows] if array.ndim else array for name, array in network.data.items()} for rows in parts]
    return exported_program(network.program, options, batches)


def _rows_of(program: Program, batch: Mapping[str, Array]) -> int:
    return len(batch[program.inputs[0].name])


def _cast(array: Array, argument: Argument) -> Array:
    """An array as a function of a library reads it, in its type."""
    return np.ascontiguousarray(array, numpy_dtype(argument.dtype))


def _bytes(array: Array, argument: Argument) -> bytes:
    return _cast(array, argument).tobytes()


def _stored(given: bytes, argument: Argument) -> bytes:
    """What model.js gives, as it lies in memory: it gives f16 as f32."""
    return np.frombuffer(given, np.float32).astype(np.float16).tobytes() if argument.dtype is DType.F16 else given


def _difference(number: int, call: Call, argument: Argument, got: io.BytesIO) -> Iterator[str]:
    expected = _cast(call.expected[argument.name], argument)
    if wrong := different_numbers(expected, got):
        yield f"call {number}, {call.name}: {wrong} of {expected.size} numbers of {argument.name} differ"


def _settings_of(function: Function) -> bytes:
    types = np.dtype([(name, numpy_dtype(dtype)) for name, dtype, _ in function.settings], align=True)
    return np.array([tuple(value for _, _, value in function.settings)], types).tobytes()


def _source(program: ExportedProgram, functions: Mapping[str, Function]) -> str:
    """A program in C that reads the arrays of all calls, and writes what they give, then the saved tensors."""
    arrays = "\n".join(
        f"static {C_TYPES[item.dtype]} {name}_{item.identifier}[{_count(item, program.capacity)}];"
        for name, function in functions.items()
        for item in function.arrays
    )
    saves = "    if (model_save(memory, file, MODEL_FILE_BYTES)) return 5;\n    fwrite(file, 1, sizeof file, stdout);\n"
    has_settings = any(function.settings for function in functions.values())
    return f"""#include "model.h"
#include <stdio.h>
static char block[MODEL_MEMORY({program.capacity}) + 64]{", file[MODEL_FILE_BYTES]" if program.weights else ""};
{arrays}
int main(void) {{
    void *memory = block + (64 - (uintptr_t)block % 64);
    {"const struct model_settings settings = MODEL_SETTINGS;" if has_settings else ""}
    if (model_init(memory, MODEL_MEMORY({program.capacity}), {program.capacity})) return 2;
{"".join(_call(functions[call.name], call.rows) for call in program.calls)}
{saves if program.weights else ""}    return 0;
}}
"""


def _call(function: Function, rows: int) -> str:
    """Statements that read the inputs of a call, make it and write its outputs."""
    places = {item: f"{function.name}_{item.identifier}" for item in function.arrays}
    given = [*(["&settings"] if function.settings else []), *places.values()]
    sizes = {item: f"sizeof *{place}, {_count(item, rows)}" for item, place in places.items()}
    return "".join(
        [
            *(
                f"    if (fread({places[item]}, {sizes[item]}, stdin) != {_count(item, rows)}) return 3;\n"
                for item in function.inputs
            ),
            f"    if (model_{function.name}(memory, {rows}, {', '.join(given)})) return 4;\n",
            *(f"    fwrite({places[item]}, {sizes[item]}, stdout);\n" for item in function.outputs),
        ]
    )


def _count(argument: Argument, rows: int) -> int:
    return argument.elements * (rows if argument.is_of_rows else 1)
