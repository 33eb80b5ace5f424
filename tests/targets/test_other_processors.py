"""Every op as code of other processors, run under emulation, and of WebAssembly: the bits of this one."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from c_programs import TOOLCHAINS, Array, Toolchain, different_numbers
from op_samples import SAMPLES, Sample, arrays_of
from web_programs import in_wasmtime

from compiler.driver import ExportedLibrary, LibraryTensors, Options
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.programs.compilation import prepared_compilation
from compiler.programs.executables import executable
from compiler.targets.manifest import ResultSlot
from compiler.targets.registry import kernel_target_of
from compiler.targets.target import LibraryFunction
from compiler.types import DType
from runtime.exports.archive import archive
from runtime.exports.wasm_module import wasm_module
from runtime.exports.web_library import MACHINES

ROWS = 3
OTHERS = [toolchain for toolchain in TOOLCHAINS if toolchain.machine is not None]


def is_native(sample: Sample) -> bool:
    """bf16 is a type of storage that native code does not have; passes over the graph remove two ops."""
    types = (*sample.operands, *sample.op.result_types(sample.operands))
    is_resolved = sample.op.name in ("stop_gradient", "custom_gradient")
    return not is_resolved and all(type_.dtype is not DType.BF16 for type_ in types)


SOME = [sample for sample in SAMPLES if is_native(sample)]


def all_ops() -> Graph:
    """All samples in one graph: inputs `x0.0`, ..., outputs `y0.0`, ..."""
    builder = GraphBuilder("ops")
    for number, sample in enumerate(SOME):
        inputs = [builder.input(f"x{number}.{i}", Role.DATA, type_) for i, type_ in enumerate(sample.operands)]
        for i, result in enumerate(builder.emit_all(sample.op, *inputs)):
            builder.output(f"y{number}.{i}", Role.OUTPUT, result)
    return builder.build()


def compiled(machine: str | None) -> tuple[dict[str, Array], Mapping[str, Array], ExportedLibrary]:
    """Arrays for all inputs, what this processor makes of them, and the library for a machine."""
    graph = all_ops()
    given = {f"x{n}.{i}": array for n, sample in enumerate(SOME) for i, array in enumerate(arrays_of(sample, ROWS))}
    expected = executable(graph, Options(threads=1)).call(given, ROWS)
    options = Options(threads=1, machine=machine)
    function = LibraryFunction("predict", prepared_compilation(graph, options), {})
    return given, expected, kernel_target_of(options).library([function], LibraryTensors({}, b"{}"), 0)


@pytest.mark.parametrize("toolchain", OTHERS, ids=lambda one: one.machine or "here")
def test_every_op_has_the_bits_of_this_processor(toolchain: Toolchain, tmp_path: Path) -> None:
    if not toolchain.is_there:
        pytest.skip(f"there is no {toolchain.compiler}")
    given, expected, library = compiled(toolchain.machine)
    (tmp_path / "libmodel.a").write_bytes(archive(library))
    signature = library.functions[0]
    sizes = [given[item.name].nbytes for item in signature.inputs] + [
        expected[o.name].nbytes for o in signature.outputs
    ]
    (tmp_path / "ops.c").write_text(source(sizes, len(signature.inputs), library.abi, library.memory.size(ROWS)))
    content = b"".join(rows_first(given[i.name], i.batch_axis or 0) for i in signature.inputs)
    got = io.BytesIO(toolchain.run(toolchain.build(tmp_path, "ops.c"), content))
    for output in signature.outputs:
        expect_same(output, expected, got)


@pytest.mark.parametrize("machine", MACHINES)
def test_every_op_has_the_bits_of_this_processor_in_wasmtime(machine: str) -> None:
    pytest.importorskip("wasmtime", reason="wasmtime is not installed")
    given, expected, library = compiled(machine)
    module = wasm_module([m.content for m in library.members], library.members[0].symbols, library.reserved)
    run = in_wasmtime(module, {}, library.abi, ROWS)
    signature = library.functions[0]
    inputs = [run.given(rows_first(given[item.name], item.batch_axis or 0)) for item in signature.inputs]
    outputs = {output.name: run.room(expected[output.name].nbytes) for output in signature.outputs}
    assert run.call("predict", run.place, ROWS, *inputs, *outputs.values()) == 0
    for output in signature.outputs:
        got = run.read(outputs[output.name], expected[output.name].nbytes)
        expect_same(output, expected, io.BytesIO(got))


def expect_same(output: ResultSlot, expected: Mapping[str, Array], got: io.BytesIO) -> None:
    """The next numbers are those of an output."""
    axis = next((k for k, extent in enumerate(output.shape) if not isinstance(extent, int)), 0)
    array = np.moveaxis(expected[output.name], axis, 0) if output.shape else expected[output.name]
    wrong = different_numbers(np.ascontiguousarray(array), got)
    assert not wrong, f"{SOME[int(output.name[1:].split('.')[0])].op}: {wrong} of {array.size} numbers differ"


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
