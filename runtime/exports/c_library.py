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
    Pieces,
    Program,
)
from compiler.support.record import record
from compiler.types import BatchExtent, DType, Shape
from runtime.exports.archive import archive
from runtime.exports.c_names import c_names
from runtime.exports.c_texts import CHANGING, CMAKE, DECLARATIONS, EXAMPLE, HEADER, SETTINGS, TITLES
from runtime.support.files import JsonValue

C_TYPES = {
    DType.F32: "float",
    DType.F64: "double",
    DType.I64: "int64_t",
    DType.I32: "int32_t",
    DType.U8: "uint8_t",
    DType.BOOL: "uint8_t",
    DType.F16: "uint16_t",  # its bits: C has no such type everywhere
    DType.I8: "int8_t",
    DType.I16: "int16_t",
    DType.U16: "uint16_t",
    DType.U32: "uint32_t",
    DType.U64: "uint64_t",
}


SEQUENCE = "generate_next"


@record
class Function:
    """A function of the library; `settings` have identifiers, types and usual values, and by identifiers `limits`."""

    prefix: str
    name: str
    settings: tuple[tuple[str, DType, float], ...]
    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    limits: Mapping[str, tuple[tuple[str, float], ...]]
    most_rows: int = 0

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (*self.inputs, *self.outputs)

    @property
    def struct(self) -> str:
        """The name of the struct of its settings."""
        return f"{self.prefix}_{'sampling' if self.name == SEQUENCE else 'settings'}"

    @property
    def parameters(self) -> str:
        settings = [f"const struct {self.struct} *settings"] if self.settings else []
        if self.name == SEQUENCE:
            (tokens,), (token,) = self.inputs, self.outputs
            given = [f"const {C_TYPES[tokens.dtype]} *tokens", "int64_t length", f"{C_TYPES[token.dtype]} *token"]
            return ", ".join(["void *memory", *settings, "int64_t seed", *given])
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
) -> dict[str, Pieces]:
    """The files of a C library by their names, in pieces.

    `settings` are those that the program was made with, `preparation` is how its data became the numbers of the inputs.
    """
    functions = [function_of(program, signature, library.prefix) for signature in library.functions]
    manifest = manifest_of(program, library, tensors, functions, settings) | {"preparation": preparation}
    files = {
        f"{library.prefix}.h": _header(program, library, tensors, functions),
        "example.c": _example(functions[0]),
        "CMakeLists.txt": CMAKE.format(prefix=library.prefix),
        "manifest.json": json.dumps(manifest, indent=2) + "\n",
    }
    return {name: (text.encode(),) for name, text in files.items()} | {f"lib{library.prefix}.a": archive(library)}


def function_of(program: Program, signature: LibrarySignature, prefix: str) -> Function:
    """A function with the names of its arguments in C."""
    names = [array.name for array in (*signature.inputs, *signature.outputs)]
    identifiers = c_names(names, prefix)
    specs = {spec.name: spec for spec in program.inputs}
    settings = c_names((name for name, _, _ in signature.settings), prefix)
    return Function(
        prefix,
        signature.name,
        tuple((settings[name], dtype, value) for name, dtype, value in signature.settings),
        tuple(_input(i, specs.get(i.name), identifiers) for i in signature.inputs),
        tuple(_array(o.name, o.dtype, o.shape, identifiers) for o in signature.outputs),
        {settings[name]: limits for name, limits in signature.limits.items()},
        signature.most_rows,
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
    upper = library.prefix.upper()
    codes = ",\n".join(f"    {upper}_{name} = {code}" for code, (name, _) in enumerate(library.errors))
    changing = CHANGING.format(file_bytes=tensors.file_bytes, prefix=library.prefix, upper=upper)
    return HEADER.format(
        prefix=library.prefix,
        upper=upper,
        model=program.model,
        machine=library.machine.name,
        abi=library.abi,
        rounding=library.memory.rounding,
        less=library.memory.rounding - 1,
        scratch=library.memory.scratch_of_row,
        fixed_of_worker=library.memory.fixed_of_worker,
        fixed=library.memory.fixed,
        values=_most_values(library.memory, upper),
        errors=codes,
        functions="\n\n".join(_declaration(function, _note_of(program, function)) for function in functions),
        changing=changing if library.changes else "",
    )


def _most_values(memory: LibraryMemory, upper: str) -> str:
    """The most bytes that values take, as an expression of C."""

    def rounded(unit: int) -> str:
        if unit == memory.rounding:
            return f"{upper}_ROUNDED(rows)"
        return "(int64_t)(rows)" if unit == 1 else f"(((int64_t)(rows) + {unit - 1}) / {unit} * {unit})"

    sizes = dict.fromkeys((v.of_row, v.rounding, v.overshoot) for v in memory.values)
    terms = [f"({of_row} * {rounded(unit)} + {overshoot + 63}) / 64 * 64" for of_row, unit, overshoot in sizes]
    most = terms[0]
    for term in terms[1:]:
        most = f"({most} > {term} ? {most} : {term})"
    return f"{most}" if len(terms) > 1 else f"({most})"


def _note_of(program: Program, function: Function) -> str:
    """In a comment on a function, how many rows it takes: pairs of rows, or an update that takes several batches."""
    if function.most_rows:
        return f" * It makes pairs of rows: a call takes up to {function.most_rows} of them; more are refused.\n"
    plan = program.plan
    if function.name != "step" or plan is None or plan.accumulation is None:
        return ""
    rows, batches = plan.batch, plan.accumulation.batches
    return f" * An update takes up to {batches} batches of {rows} rows, in memory for {rows}; more are refused.\n"


def _declaration(function: Function, note: str) -> str:
    arrays = "\n".join(f" *   {array.said()}{_form(array)}" for array in function.arrays)
    settings = ""
    if function.settings:
        fields = "\n".join(f"    {C_TYPES[d]} {name};{_limits(function, name)}" for name, d, _ in function.settings)
        values = ", ".join(f"{value!r}{'f' if dtype is DType.F32 else ''}" for _, dtype, value in function.settings)
        usual = f"{function.struct.upper()}"
        title = TITLES[function.name]
        settings = SETTINGS.format(fields=fields, values=values, struct=function.struct, usual=usual, title=title)
    declared = DECLARATIONS[function.name]
    return settings + declared.format(arrays=arrays, note=note, parameters=function.parameters, prefix=function.prefix)


def _form(array: Array) -> str:
    return ", each the bits of a binary16 of IEEE 754" if array.dtype is DType.F16 else ""


def _limits(function: Function, setting: str) -> str:
    """A comment on the field of a setting: ` /* >= 0 and < 1 */`."""
    limits = " and ".join(f"{symbol} {number:g}" for symbol, number in function.limits.get(setting, ()))
    return f" /* {limits} */" if limits else ""


def _example(function: Function) -> str:
    calls = [f"filled({_row_of(a)}, {a.elements} * sizeof *{a.identifier}" for a in function.inputs if a.is_of_rows]
    read = [f"            ended = !{call}, 0);" for call in calls[:1]]
    read += [f"            if (!ended) {call}, 1);" for call in calls[1:]]
    fixed = [a for a in function.inputs if not a.is_of_rows]
    made = [a for a in function.outputs if a.is_of_rows]
    return EXAMPLE.format(
        prefix=function.prefix,
        upper=function.prefix.upper(),
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


def _described(function: Function, array: Array, extent: str | int) -> dict[str, object]:
    """An array of the manifest; that of a sequence has `extent` tokens."""
    found = array.to_json()
    if function.name == SEQUENCE:
        found |= {"identifier": "tokens" if extent == "length" else "token", "shape": [extent], "rows": 0}
        found |= {"bytes_per_row": None, "bytes": None if extent == "length" else array.dtype.size}
    return found


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
        "target": {"machine": machine.name, "triple": machine.triple, "cpu": machine.cpu, "features": machine.features},
        "functions": {
            f"{library.prefix}_{function.name}": {
                "settings": [
                    {"name": name, "dtype": dtype.value, "usual": value, "limits": function.limits.get(name, ())}
                    for name, dtype, value in function.settings
                ],
                "inputs": [_described(function, array, "length") for array in function.inputs],
                "outputs": [_described(function, array, 1) for array in function.outputs],
            }
            for function in functions
        },
        "tensors": [
            {"name": name, "dtype": array.dtype.name, "shape": array.shape} for name, array in tensors.values.items()
        ],
        "errors": [
            {"name": f"{library.prefix.upper()}_{name}", "code": code, "text": text}
            for code, (name, text) in enumerate(library.errors)
        ],
        "bytes_of_memory": {str(rows): library.memory.size(rows) for rows in (1, 32, 1024)},
        "settings": dict(settings),
    }
