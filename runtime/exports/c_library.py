"""A model as a C library: header, static library, weights, an example program, and a manifest of all that is in it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from compiler.driver import (
    ExportedLibrary,
    InputSlot,
    InputSpec,
    LibraryMemory,
    LibrarySignature,
    LibraryTensors,
    Program,
)
from compiler.support.record import record
from compiler.types import BatchExtent, DType, Shape
from runtime.exports.archive import archive
from runtime.exports.c_names import c_names
from runtime.support.files import JsonValue

C_TYPES = {
    DType.F32: "float",
    DType.F64: "double",
    DType.I64: "int64_t",
    DType.I32: "int32_t",
    DType.U8: "uint8_t",
    DType.BOOL: "uint8_t",
}


@record
class Function:
    """A function of the library; `settings` have identifiers, types and usual values."""

    name: str
    settings: tuple[tuple[str, DType, float], ...]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (*self.inputs, *self.outputs)

    @property
    def parameters(self) -> str:
        settings = ["const struct model_settings *settings"] if self.settings else []
        given = [f"const {C_TYPES[array.dtype]} *{array.identifier}" for array in self.inputs]
        made = [f"{C_TYPES[array.dtype]} *{array.identifier}" for array in self.outputs]
        return ", ".join(["void *memory", "int64_t rows", *settings, *given, *made])


@record
class Array:
    """An input or an output: `shape` has None for the rows, which stand first."""

    name: str
    identifier: str
    dtype: DType
    shape: tuple[int | None, ...]
    rows: int  # of it for each row of a call
    low: int | None = None  # integers lie in `low <= x < high`
    high: int | None = None

    @property
    def is_of_rows(self) -> bool:
        return None in self.shape

    @property
    def elements(self) -> int:
        """Of one row of a call, or of the whole where it has no rows."""
        return self.rows * math.prod(extent for extent in self.shape if extent is not None)

    def said(self) -> str:
        """For a reader: `pixels: f32[rows, 64]`."""
        shape = ", ".join(self.extent("rows") if extent is None else str(extent) for extent in self.shape)
        limits = "" if self.low is None or self.high is None else f" in {self.low}..{self.high}"
        return f"{self.name}: {self.dtype.value}[{shape}]{limits}"

    def extent(self, rows: str) -> str:
        """How many there are along the axis of rows, where a call has so many: `2 * rows`."""
        return rows if self.rows == 1 else f"{self.rows} * {rows}"

    def to_json(self) -> dict[str, object]:
        return {
            "name": self.name,
            "identifier": self.identifier,
            "dtype": self.dtype.value,
            "shape": [self.extent("batch") if extent is None else extent for extent in self.shape],
            "rows": self.rows if self.is_of_rows else 0,
            "low": self.low,
            "high": self.high,
            "bytes_per_row": self.elements * self.dtype.size if self.is_of_rows else None,
            "bytes": None if self.is_of_rows else self.elements * self.dtype.size,
        }


def c_files(
    program: Program,
    library: ExportedLibrary,
    tensors: LibraryTensors,
    settings: Mapping[str, object],
    preparation: JsonValue = None,
) -> dict[str, bytes]:
    """The files of a C library by their names.

    `settings` are those that the program was made with, `preparation` is how its data became the numbers of the inputs.
    """
    functions = [function_of(program, signature) for signature in library.functions]
    manifest = manifest_of(program, library, tensors, functions, settings) | {"preparation": preparation}
    files = {
        "model.h": _header(program, library, tensors, functions),
        "example.c": _example(functions[0]),
        "CMakeLists.txt": _CMAKE,
        "manifest.json": json.dumps(manifest, indent=2) + "\n",
    }
    return {name: text.encode() for name, text in files.items()} | {"libmodel.a": archive(library)}


def function_of(program: Program, signature: LibrarySignature) -> Function:
    """A function with the names of its arguments in C."""
    names = [array.name for array in (*signature.inputs, *signature.outputs)]
    identifiers = c_names(names)
    specs = {spec.name: spec for spec in program.inputs}
    settings = c_names(name for name, _, _ in signature.settings)
    return Function(
        signature.name,
        tuple((settings[name], dtype, value) for name, dtype, value in signature.settings),
        tuple(_input(i, specs.get(i.name), identifiers) for i in signature.inputs),
        tuple(_array(o.name, o.dtype, o.shape, identifiers) for o in signature.outputs),
    )


def _input(slot: InputSlot, spec: InputSpec | None, identifiers: Mapping[str, str]) -> Array:
    """An input; one without `spec` is the compiler's own: a number for each row, or one for all."""
    if spec is None:
        return _array(slot.name, slot.dtype, () if slot.batch_axis is None else (BatchExtent(1),), identifiers)
    return replace(_array(slot.name, slot.dtype, spec.type.shape, identifiers), low=spec.low, high=spec.high)


def _array(name: str, dtype: DType, shape: Shape, identifiers: Mapping[str, str]) -> Array:
    """The rows are in front, as the compiled program has them."""
    rest = [extent for extent in shape if not isinstance(extent, BatchExtent)]
    multiples = [extent.multiple for extent in shape if isinstance(extent, BatchExtent)]
    return Array(name, identifiers[name], dtype, (*(None for _ in multiples), *rest), *(multiples or [1]))


def _header(program: Program, library: ExportedLibrary, tensors: LibraryTensors, functions: Sequence[Function]) -> str:
    codes = ",\n".join(f"    MODEL_{name} = {code}" for code, (name, _) in enumerate(library.errors))
    return _HEADER.format(
        model=program.model,
        machine=library.machine.name,
        abi=library.abi,
        rounding=library.memory.rounding,
        less=library.memory.rounding - 1,
        scratch=library.memory.scratch_of_row,
        fixed=library.memory.fixed,
        values=_most_values(library.memory),
        errors=codes,
        functions="\n\n".join(_declaration(function) for function in functions),
        changing=_CHANGING.format(file_bytes=tensors.file_bytes) if library.changes else "",
    )


def _most_values(memory: LibraryMemory) -> str:
    """The most bytes that values take, as an expression of C."""
    terms = [
        f"({v.of_row} * {'MODEL_ROUNDED(rows)' if v.is_rounded else '(int64_t)(rows)'} + {v.overshoot + 63}) / 64 * 64"
        for v in memory.values
    ]
    most = terms[0]
    for term in terms[1:]:
        most = f"({most} > {term} ? {most} : {term})"
    return f"{most}" if len(terms) > 1 else f"({most})"


def _declaration(function: Function) -> str:
    arrays = "\n".join(f" *   {array.said()}" for array in function.arrays)
    settings = ""
    if function.settings:
        fields = "\n".join(f"    {C_TYPES[dtype]} {name};" for name, dtype, _ in function.settings)
        values = ", ".join(f"{value!r}{'f' if dtype is DType.F32 else ''}" for _, dtype, value in function.settings)
        settings = _SETTINGS.format(fields=fields, values=values)
    return settings + _DECLARATIONS[function.name].format(arrays=arrays, parameters=function.parameters)


def _example(function: Function) -> str:
    calls = [f"filled({_row_of(a)}, {a.elements} * sizeof *{a.identifier}" for a in function.inputs if a.is_of_rows]
    read = [f"            ended = !{call}, 0);" for call in calls[:1]]
    read += [f"            if (!ended) {call}, 1);" for call in calls[1:]]
    fixed = [a for a in function.inputs if not a.is_of_rows]
    made = [a for a in function.outputs if a.is_of_rows]
    return _EXAMPLE.format(
        declarations="\n".join(f"    static {C_TYPES[a.dtype]} {a.identifier}[{_room(a)}];" for a in function.arrays),
        fixed="".join(f"    filled({a.identifier}, sizeof {a.identifier}, 1);\n" for a in fixed),
        read="\n".join(read),
        written="\n".join(
            f"            fwrite({_row_of(a)}, sizeof *{a.identifier}, {a.elements}, stdout);" for a in made
        ),
        arguments=", ".join(a.identifier for a in function.arrays),
    )


def _room(array: Array) -> str:
    return f"ROWS * {array.elements}" if array.is_of_rows else str(array.elements)


def _row_of(array: Array) -> str:
    return f"{array.identifier} + row * {array.elements}"


def manifest_of(
    program: Program,
    library: ExportedLibrary,
    tensors: LibraryTensors,
    functions: Sequence[Function],
    settings: Mapping[str, object],
) -> dict[str, object]:
    """All that can be called, with the model's settings; `preparation` is the caller's."""
    machine = library.machine
    return {
        "model": program.model,
        "abi": library.abi,
        "target": {
            "machine": machine.name,
            "triple": machine.triple,
            "cpu": machine.cpu,
            "features": machine.features,
        },
        "functions": {
            f"model_{function.name}": {
                "settings": [
                    {"name": name, "dtype": dtype.value, "usual": value} for name, dtype, value in function.settings
                ],
                "inputs": [array.to_json() for array in function.inputs],
                "outputs": [array.to_json() for array in function.outputs],
            }
            for function in functions
        },
        "tensors": [
            {"name": name, "dtype": array.dtype.name, "shape": array.shape} for name, array in tensors.values.items()
        ],
        "errors": [
            {"name": f"MODEL_{name}", "code": code, "text": text} for code, (name, text) in enumerate(library.errors)
        ],
        "bytes_of_memory": {str(rows): library.memory.size(rows) for rows in (1, 32, 1024)},
        "settings": dict(settings),
    }


_HEADER = """\
/* {model}, a model compiled by dlc for {machine}.
 *
 * All memory is the caller's: no function allocates, prints, or keeps anything elsewhere, so several threads may each
 * use a memory of their own. Functions give 0 (MODEL_OK), or another code of enum model_error. Arrays are dense, rows
 * first, the last dimension varying fastest. Inputs hold the numbers that the model reads: normalised columns, words
 * and tokens as numbers. `preparation` in manifest.json says how those of the training data were made.
 */
#ifndef DLC_MODEL_H
#define DLC_MODEL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

#define MODEL_ABI INT64_C({abi})
#define MODEL_ALIGNMENT 64
/* The bytes of memory for calls of up to `rows` rows. */
#define MODEL_MEMORY(rows) ({fixed} + MODEL_SCRATCH(rows) + MODEL_VALUES(rows) + 8 * (int64_t)(rows))
#define MODEL_ROUNDED(rows) (((int64_t)(rows) + {less}) / {rounding} * {rounding} + {rounding})
#define MODEL_SCRATCH(rows) (({scratch} * MODEL_ROUNDED(rows) + 63) / 64 * 64)
#define MODEL_VALUES(rows) {values}

enum model_error {{
{errors}
}};

/* The text of an error code. */
const char *model_error_text(int error);

/* MODEL_MEMORY(rows), or 0 where `rows` is below 1 or above 2147483647. */
int64_t model_memory(int64_t rows);

/* Lay out memory of at least MODEL_MEMORY(rows) bytes, which begins at a multiple of MODEL_ALIGNMENT. */
#define model_init(memory, bytes, rows) model_init_abi(MODEL_ABI, memory, bytes, rows)
int model_init_abi(int64_t abi, void *memory, int64_t bytes, int64_t rows);

{functions}

/* The persistent tensor called `name`, dense, and its bytes unless `bytes` is NULL; NULL where there is none, or no
 * memory was laid out. It is for reading: predictions may use copies that were made of it. */
const void *model_tensor(void *memory, const char *name, int64_t *bytes);
{changing}
#ifdef __cplusplus
}}
#endif
#endif
"""

_DECLARATIONS = {
    "predict": """\
/* Compute the outputs of `rows` rows.
 *
{arrays}
 */
int model_predict({parameters});""",
    "evaluate": """\
/* Compute the loss and the metrics of `rows` rows, as one batch; no weight changes.
 *
{arrays}
 */
int model_evaluate({parameters});""",
    "step": """\
/* Make one update of the weights in this memory from `rows` rows.
 *
{arrays}
 */
int model_step({parameters});""",
}

_SETTINGS = """\
/* Settings of the training, and their values in the model's text. */
struct model_settings {{
{fields}
}};
#define MODEL_SETTINGS {{{values}}}

"""

_CHANGING = """
/* All tensors as a safetensors file, with the states of the optimizer; weights.safetensors is one. */
#define MODEL_FILE_BYTES INT64_C({file_bytes})
int model_save(void *memory, void *file, int64_t bytes);
int model_load(void *memory, const void *file, int64_t bytes);

/* Go on as after so many updates, with the random numbers of a seed. model_init begins with that of the text, and 0. */
int model_continue(void *memory, int64_t seed, int64_t updates);
"""

_EXAMPLE = """\
/* Reads rows of the inputs from standard input and writes the outputs of each row to standard output.
 *
 * Numbers are raw, in this processor's byte order (little-endian), inputs and outputs in the order of manifest.json.
 *
 *     cc -std=c99 example.c libmodel.a -o example
 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

enum {{ ROWS = 32 }};

/* Whether there was more to read. Input that ends in the middle of a row ends the program. */
static int filled(void *target, size_t bytes, int in_row) {{
    const size_t got = fread(target, 1, bytes, stdin);
    if (got == bytes) {{
        return 1;
    }}
    if (got > 0 || in_row) {{
        fprintf(stderr, "the input ends in the middle of a row\\n");
        exit(2);
    }}
    return 0;
}}

int main(void) {{
{declarations}
    const size_t bytes = (size_t)MODEL_MEMORY(ROWS);
    char *block = (char *)malloc(bytes + MODEL_ALIGNMENT);
    void *memory;
    int error, ended = 0;
#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
#endif
    if (block == NULL) {{
        fprintf(stderr, "there is not enough memory\\n");
        return 1;
    }}
    memory = block + (MODEL_ALIGNMENT - (uintptr_t)block % MODEL_ALIGNMENT);
    error = model_init(memory, (int64_t)bytes, ROWS);
{fixed}    while (error == MODEL_OK && !ended) {{
        long row = 0, rows;
        while (row < ROWS && !ended) {{
{read}
            row += !ended;
        }}
        rows = row;
        if (rows == 0) {{
            break;
        }}
        error = model_predict(memory, rows, {arguments});
        for (row = 0; error == MODEL_OK && row < rows; row++) {{
{written}
        }}
    }}
    if (error != MODEL_OK) {{
        fprintf(stderr, "%s\\n", model_error_text(error));
    }}
    free(block);
    return error == MODEL_OK ? 0 : 1;
}}
"""

_CMAKE = """\
cmake_minimum_required(VERSION 3.13)
project(model C)
add_library(model STATIC IMPORTED)
set_target_properties(model PROPERTIES
    IMPORTED_LOCATION ${CMAKE_CURRENT_SOURCE_DIR}/libmodel.a
    INTERFACE_INCLUDE_DIRECTORIES ${CMAKE_CURRENT_SOURCE_DIR})
add_executable(example example.c)
target_link_libraries(example model)
"""
