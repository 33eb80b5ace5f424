"""A compiled program as a library for any processor: no process of its own, no allocation, no system underneath.

The runner's tables are constants of the library's main object; all that changes lies in memory that the caller gives.
Beside it stand one object for each kernel and one with the weights, which are read where they lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np

from compiler.machine import Machine
from compiler.support.record import record
from compiler.targets.cpu import runner
from compiler.targets.cpu.library_calls import Call, call_text, calls_of
from compiler.targets.cpu.library_layout import Function, Layout, layout_of
from compiler.targets.cpu.library_program import Surroundings, filled, lines, program_text
from compiler.targets.cpu.library_weights import escaped, weights_in_pieces, weights_member
from compiler.targets.llvm.emulated_multiply_add import PROBES, functions_for, probes
from compiler.targets.llvm.jit import compile_module
from compiler.targets.llvm.object_code import ObjectCode
from compiler.targets.manifest import ROUNDING
from compiler.targets.target import (
    ExportedLibrary,
    LibraryForm,
    LibraryFunction,
    LibraryMember,
    LibraryMemory,
    LibraryTensors,
)

Array: TypeAlias = np.ndarray[Any, Any]

ERRORS = (
    ("OK", "no error"),
    (
        "WRONG_ROWS",
        "rows is below 1, or more than the memory was laid out for, or than an update or pairs of rows take",
    ),
    ("SMALL_MEMORY", "the memory is smaller than {upper}_MEMORY(rows), with {upper}_WORKER_MEMORY(rows) a worker more"),
    ("UNALIGNED", "the memory does not begin at a multiple of {upper}_ALIGNMENT bytes"),
    ("NOT_INITIALISED", "{prefix}_init has not laid out this memory"),
    ("NULL_POINTER", "an argument is a null pointer"),
    ("OTHER_HEADER", "the library was made with another header"),
    ("SMALL_FILE", "the file is smaller than {upper}_FILE_BYTES"),
    ("OTHER_FILE", "the file holds other tensors than the model"),
    ("WRONG_WORKERS", "workers is below 1, or above 65536"),
    ("BROKEN_LOOP", "the parallel loop did not call each task once; the memory is to be laid out anew"),
    ("WRONG_LENGTH", "length is below 1, or above 2147483647"),
    ("WRONG_SETTINGS", "a setting is not finite or out of its range, or a seed or a number of updates is negative"),
)
"""Names and texts of the codes in the templates, from 0, with what all names of the library begin with."""
MOST_ROWS = (1 << 31) - 1  # in a call
MOST_WORKERS = 1 << 16
_OF_THE_RUNNER = ("dlc_fetch", "dlc_collect", "dlc_copy")


@record(eq=False)
class _Content:
    """All that goes into the text of a library."""

    functions: tuple[Function, ...]
    calls: tuple[Call, ...]
    tensors: LibraryTensors
    surroundings: Surroundings
    form: LibraryForm
    machine: Machine
    errors: tuple[tuple[str, str], ...]
    abi: int


def library(
    functions: Sequence[LibraryFunction],
    codes: Sequence[ObjectCode],
    tensors: LibraryTensors,
    machine: Machine,
    form: LibraryForm,
) -> ExportedLibrary:
    """The library of some programs on the same tensors; `codes` have the objects of each program's kernels."""
    prefix = form.prefix
    made = tuple(
        Function(number, program, code.manifest)
        for number, (program, code) in enumerate(zip(functions, codes, strict=True))
    )
    places, constants = weights_in_pieces([*tensors.values.values()])
    weights = dict(zip(tensors.values, places, strict=True))
    states = {s.name: s for f in made for s in f.manifest.tensors if s.name not in weights}
    changes = any(function.trains for function in functions)
    layout = layout_of(made, tensors.values if changes else {}, tuple(states.values()), form.window, machine)
    interface = [(f.program.name, f.manifest.inputs, f.manifest.results, f.manifest.settings) for f in made]
    identity = repr((form, runner.ABI_VERSION, layout, tensors.file_header, interface))
    abi = int.from_bytes(sha256(identity.encode()).digest()[:7], "big")
    errors = tuple((name, text.format(prefix=prefix, upper=prefix.upper())) for name, text in ERRORS)
    kernels, own = _kernels(codes, machine, prefix)
    calls = tuple(calls_of(made))
    content = _Content(made, calls, tensors, Surroundings(layout, weights, own), form, machine, errors, abi)
    symbol = f"{prefix}_weights"
    of_weights = () if machine.is_web else (weights_member(symbol, constants, machine),)
    reserved = {symbol: sum(len(piece) for piece in constants)} if machine.is_web else {}
    members = (_main_member(content), *of_weights, *kernels)
    signatures = tuple(call.signature for call in calls)
    return ExportedLibrary(prefix, members, machine, abi, layout.memory, signatures, changes, errors, weights, reserved)


def _main_member(content: _Content) -> LibraryMember:
    """The object with all functions."""
    machine, prefix = content.machine, content.form.prefix
    text = (_main_text(content) + functions_for(machine)).replace("$PREFIX", prefix)
    names = ["memory", "worker_memory", "init_abi", "error_text", "tensor", *(call.name for call in content.calls)]
    names += ["save", "load", "continue"] if content.surroundings.layout.tensors else []
    names += PROBES if machine.is_web else ["set_parallel"]
    text += probes(machine) if machine.is_web else ""
    return LibraryMember("model.o", (compile_module(text, machine),), tuple(f"{prefix}_{name}" for name in names))


def _kernels(
    codes: Sequence[ObjectCode], machine: Machine, prefix: str
) -> tuple[list[LibraryMember], Mapping[str, str]]:
    """The objects of all kernels, whose symbols no other library has, and these by the symbols that they had.

    A symbol is that of a kernel's text; the kernels of two libraries in one program may be for different processors.
    Symbols are found again by their bytes, which nothing else in an object has, and keep their length.
    """
    objects = {
        symbol: content
        for code in codes
        for symbol, content in zip(code.symbols, code.objects, strict=False)  # behind them stands a process's runner
    }
    identity = (prefix, machine.triple, machine.cpu, machine.features)
    own = {
        symbol: symbol[:2] + sha256(repr((*identity, symbol)).encode()).hexdigest()[: len(symbol) - 2]
        for symbol in objects
    }
    members = [
        LibraryMember(f"{own[symbol]}.o", (content.replace(symbol.encode(), own[symbol].encode()),), (own[symbol],))
        for symbol, content in objects.items()
    ]
    return members, own


def _main_text(content: _Content) -> str:
    """The LLVM text of the object with all functions."""
    around, functions, machine = content.surroundings, content.functions, content.machine
    layout, header = around.layout, content.tensors.file_header
    parallel = [] if machine.is_web else ["parallel"]
    templates = ("library", "tensors", *parallel, *(["changing_tensors"] if layout.tensors else []))
    texts = ", ".join(f"ptr @text.{number}" for number in range(len(content.errors)))
    called = sorted({name for f in functions for name in f.manifest.functions} - {*_OF_THE_RUNNER})
    settings = {program.number: call.settings for call in content.calls for program in call.programs}
    words = _words(content)
    return "\n".join(
        [
            runner.runner_text(machine, alone=True),
            *(f"declare void @{around.kernels[kernel]}(ptr, i64, i64, ptr)" for kernel in called),
            "@$PREFIX_weights = external hidden constant i8",
            *(_text(f"text.{number}", text) for number, (_, text) in enumerate(content.errors)),
            _text("unknown", "unknown error"),
            f"@texts = internal constant [{len(content.errors)} x ptr] [{texts}]",
            *_tensor_table(layout.tensors or around.weights, content.tensors.values),
            f'@file_header = internal constant [{len(header)} x i8] c"{escaped(header)}"',
            *(filled(name, words) for name in templates),
            *(program_text(function, around, settings[function.number]) for function in functions),
            *(call_text(call, content.form, layout.sequence) for call in content.calls),
        ]
    )


def _words(content: _Content) -> dict[str, object]:
    """The words of the templates that are not of one function."""
    around = content.surroundings
    layout, tensors = around.layout, content.tensors
    memory = layout.memory
    return {
        "LESS_THAN_ROUNDING": ROUNDING - 1,
        "ROUNDING": ROUNDING,
        "SCRATCH_OF_ROW": memory.scratch_of_row,
        "FIXED": memory.fixed,
        "VALUES": lines(_most_values(memory)),
        "MOST_ROWS": MOST_ROWS,
        "ABI": content.abi,
        "SEED": content.form.seed,
        "STATE": layout.state,
        "SCRATCH_BEHIND_STATE": layout.scratch - layout.state,
        "TEAM": layout.team,
        "MOST_WORKERS": MOST_WORKERS,
        "ERRORS": len(ERRORS),
        "TENSOR_COUNT": len(around.weights),
        "TENSOR_BASE": "%memory" if layout.tensors else "@$PREFIX_weights",
        "HEADER_BYTES": len(tensors.file_header),
        "FILE_BYTES": tensors.file_bytes,
        "TENSORS": lines(_copied_weights(layout, tensors.values, around.weights)),
        "FUNCTIONS": lines(
            [
                f"call void @{function.program.name}_lay_out(ptr %memory, i64 %rows, ptr %numbers)"
                for function in content.functions
            ]
        ),
    }


def _text(name: str, text: str) -> str:
    return f'@{name} = internal constant [{len(text) + 1} x i8] c"{text}\\00"'


def _most_values(memory: LibraryMemory) -> list[str]:
    """The most bytes that the values of a function's rows take, as `%values`."""
    rows: list[str] = []
    most = "0"
    for number, values in enumerate(memory.values):
        name = "%values" if number + 1 == len(memory.values) else f"%values.{number}"
        rows.append(f"%filled.{number} = add i64 %rows, {values.rounding - 1}")
        rows.append(f"%rounded.{number} = and i64 %filled.{number}, -{values.rounding}")
        rows.append(f"%grown.{number} = mul i64 %rounded.{number}, {values.of_row}")
        rows.append(f"%padded.{number} = add i64 %grown.{number}, {values.overshoot + 63}")
        rows.append(f"%whole.{number} = and i64 %padded.{number}, -64")
        rows.append(f"{name} = call i64 @llvm.umax.i64(i64 {most}, i64 %whole.{number})")
        most = name
    return rows


def _copied_weights(layout: Layout, values: Mapping[str, Array], weights: Mapping[str, int]) -> list[str]:
    """Put tensors that change into the caller's memory."""
    rows: list[str] = []
    for number, (name, place) in enumerate(layout.tensors.items()):
        rows.append(f"%tensor.{number} = getelementptr i8, ptr %memory, i64 {place}")
        start = f"ptr getelementptr (i8, ptr @$PREFIX_weights, i64 {weights[name]})"
        operands = f"ptr %tensor.{number}, {start}, i64 {values[name].nbytes}, i1 false"
        rows.append(f"call void @llvm.memcpy.p0.p0.i64({operands})")
    return rows


def _tensor_table(places: Mapping[str, int], values: Mapping[str, Array]) -> list[str]:
    """Of each tensor: its name, its place, and its bytes."""
    names = [
        f'@name.{n} = internal constant [{len(name.encode()) + 1} x i8] c"{escaped(name.encode())}\\00"'
        for n, name in enumerate(places)
    ]
    line = "{ ptr, i64, i64 }"
    rows = [f"{line} {{ ptr @name.{n}, i64 {places[k]}, i64 {values[k].nbytes} }}" for n, k in enumerate(places)]
    return [*names, f"@tensors = internal constant [{len(rows)} x {line}] [{', '.join(rows)}]"]
