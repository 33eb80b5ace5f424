"""Every op, and some networks, as code of other processors under emulation, and of WebAssembly: bits of this one."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import conversions
import numpy as np
import pytest
from c_programs import TOOLCHAINS, Array, Toolchain, different_numbers
from conversions import all_conversions
from exported_programs import exported_network
from op_samples import NATIVE_SAMPLES, arrays_of, with_extremes
from random_networks import random_network
from web_programs import in_wasmtime

from compiler.driver import ExportedLibrary, LibraryTensors, Options
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.machine import WASM
from compiler.programs.compilation import prepared_compilation
from compiler.programs.executables import executable
from compiler.programs.stages import prepared
from compiler.schedule.build import schedule
from compiler.targets.cpu.lower import lower
from compiler.targets.llvm.jit import assembly
from compiler.targets.manifest import ResultSlot
from compiler.targets.registry import kernel_target_of
from compiler.targets.target import LibraryForm, LibraryFunction
from runtime.exports.archive import archive
from runtime.exports.wasm_module import wasm_module
from runtime.exports.web_library import MACHINES

ROWS = 3
OTHERS = [toolchain for toolchain in TOOLCHAINS if toolchain.machine is not None]


def all_ops() -> Graph:
    """All samples in one graph: inputs `x0.0`, ..., outputs `y0.0`, ..."""
    builder = GraphBuilder("ops")
    for number, sample in enumerate(NATIVE_SAMPLES):
        inputs = [builder.input(f"x{number}.{i}", Role.DATA, type_) for i, type_ in enumerate(sample.operands)]
        for i, result in enumerate(builder.emit_all(sample.op, *inputs)):
            builder.output(f"y{number}.{i}", Role.OUTPUT, result)
    return builder.build()


Case: TypeAlias = tuple[Mapping[str, Array], Mapping[str, Array]]


def ops_and_arrays() -> tuple[Graph, Sequence[Mapping[str, Array]]]:
    """All samples, with common and extreme arrays for all inputs."""
    given = {
        f"x{n}.{i}": array for n, sample in enumerate(NATIVE_SAMPLES) for i, array in enumerate(arrays_of(sample, ROWS))
    }
    return all_ops(), [given, {name: with_extremes(array) for name, array in given.items()}]


GRAPHS = {"ops": ops_and_arrays, "conversions": lambda: (all_conversions(), [conversions.given()])}


def compiled(machine: str | None, kind: str) -> tuple[Sequence[Case], ExportedLibrary]:
    """Arrays for all inputs of a graph, with the results of this processor, and the library for a machine."""
    graph, given = GRAPHS[kind]()
    here = executable(graph, Options(threads=1))
    cases = [(arrays, here.call(arrays, ROWS)) for arrays in given]
    options = Options(threads=1, machine=machine)
    function = LibraryFunction("predict", prepared_compilation(lambda: graph, options), {})
    return cases, kernel_target_of(options).library([function], LibraryTensors({}, b"{}"), LibraryForm("model"))


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("toolchain", OTHERS, ids=lambda one: one.machine or "here")
def test_every_op_has_the_bits_of_this_processor(toolchain: Toolchain, kind: str, tmp_path: Path) -> None:
    if not toolchain.is_there:
        pytest.skip(f"there is no {toolchain.compiler}")
    cases, library = compiled(toolchain.machine, kind)
    given, expected = cases[0]
    (tmp_path / "libmodel.a").write_bytes(b"".join(archive(library)))
    signature = library.functions[0]
    sizes = [given[item.name].nbytes for item in signature.inputs] + [
        expected[o.name].nbytes for o in signature.outputs
    ]
    (tmp_path / "ops.c").write_text(source(sizes, len(signature.inputs), library.abi, library.memory.size(ROWS)))
    program = toolchain.build(tmp_path, "ops.c")
    for given, expected in cases:
        content = b"".join(rows_first(given[i.name], i.batch_axis or 0) for i in signature.inputs)
        got = io.BytesIO(toolchain.run(program, content))
        for output in signature.outputs:
            expect_same(output, expected, got)


@pytest.mark.parametrize("kind", GRAPHS)
@pytest.mark.parametrize("machine", MACHINES)
def test_every_op_has_the_bits_of_this_processor_in_wasmtime(machine: str, kind: str) -> None:
    pytest.importorskip("wasmtime", reason="wasmtime is not installed")
    cases, library = compiled(machine, kind)
    module = wasm_module([b"".join(m.content) for m in library.members], library.members[0].symbols, library.reserved)
    run = in_wasmtime(module, {}, library.abi, ROWS)
    signature = library.functions[0]
    for given, expected in cases:
        inputs = [run.given(rows_first(given[item.name], item.batch_axis or 0)) for item in signature.inputs]
        outputs = {output.name: run.room(expected[output.name].nbytes) for output in signature.outputs}
        assert run.call("predict", run.place, ROWS, *inputs, *outputs.values()) == 0
        for output in signature.outputs:
            got = run.read(outputs[output.name], expected[output.name].nbytes)
            expect_same(output, expected, io.BytesIO(got))


def test_no_relaxed_instruction_but_multiply_adds_is_in_any_op() -> None:
    """Others depend on the engine: V8's relaxed minimum loses a NaN that wasmtime's keeps."""
    graph = prepared(all_ops(), Options(threads=1))
    texts = lower(graph, schedule(graph, machine=WASM), WASM, 32).texts.values()
    found = {name for text in texts for name in re.findall(r"\w+\.relaxed_\w+", assembly(text, WASM))}
    assert found == {"f32x4.relaxed_madd", "f64x2.relaxed_madd"}


@pytest.mark.parametrize(("seed", "where"), [(3, "neon"), (2, "rvv"), (48, "wasm"), (1, "node-simd128")])
def test_a_random_network_has_the_bits_of_this_processor(seed: int, where: str, tmp_path: Path) -> None:
    """Steps, an evaluation and a prediction; `tests/stress/check_processors.py` tries many more. 48 is of f64."""
    toolchain = next((toolchain for toolchain in OTHERS if toolchain.machine == where), None)
    if toolchain is not None and not toolchain.is_there:
        pytest.skip(f"there is no {toolchain.compiler}")
    assert exported_network(random_network(seed), seed).differences(where, tmp_path) == []


def expect_same(output: ResultSlot, expected: Mapping[str, Array], got: io.BytesIO) -> None:
    """The next numbers are those of an output."""
    axis = next((k for k, extent in enumerate(output.shape) if not isinstance(extent, int)), 0)
    array = np.moveaxis(expected[output.name], axis, 0) if output.shape else expected[output.name]
    wrong = different_numbers(np.ascontiguousarray(array), got)
    what = str(NATIVE_SAMPLES[int(output.name[1:].split(".")[0])].op) if output.name.startswith("y") else output.name
    assert not wrong, f"{what}: {wrong} of {array.size} numbers differ"


def rows_first(array: Array, axis: int) -> bytes:
    return np.ascontiguousarray(np.moveaxis(array, axis, 0) if array.ndim else array).tobytes()


def source(sizes: list[int], inputs: int, abi: int, memory: int) -> str:
    """Reads all inputs, calls the function, and writes all outputs."""
    arrays = "\n".join(f"static double a{number}[{size // 8 + 1}];" for number, size in enumerate(sizes))
    reads = "\n".join(
        f"    if (fread(a{n}, 1, {size}, stdin) != {size}) return 2;" for n, size in enumerate(sizes[:inputs])
    )
    writes = "\n".join(f"    fwrite(a{n}, 1, {sizes[n]}, stdout);" for n in range(inputs, len(sizes)))
    return f"""#include <stdint.h>
#include <stdio.h>
{arrays}
static char block[{memory + 64}];
int model_init_abi(int64_t, void *, int64_t, int64_t);
int model_predict(void *, int64_t{", void *" * len(sizes)});
int main(void) {{
    void *memory = block + (64 - (uintptr_t)block % 64);
    if (model_init_abi({abi}, memory, {memory}, {ROWS})) return 3;
{reads}
    if (model_predict(memory, {ROWS}, {", ".join(f"a{n}" for n in range(len(sizes)))})) return 4;
{writes}
    return 0;
}}
"""
