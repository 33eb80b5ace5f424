"""A model as modules of WebAssembly: weights, JavaScript that loads and calls them, and its types."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from compiler.driver import ExportedLibrary, LibraryTensors, Program
from compiler.errors.diagnostics import CompilerBug, UsageError
from compiler.types import DType
from runtime.exports.c_library import SEQUENCE, Array, Function, function_of, manifest_of
from runtime.exports.wasm_module import PAGE_BYTES, wasm_module
from runtime.support.files import JsonObject, JsonValue

MACHINES = ("wasm", "wasm-simd128")
MODULE, SLOW_MODULE = "model.wasm", "model-simd128.wasm"
_FOLDER = Path(__file__).with_name("web")
_MOST_BYTES = (1 << 32) - PAGE_BYTES  # that 32 bits address
_TYPED_ARRAYS = {
    DType.F32: "Float32Array",
    DType.F64: "Float64Array",
    DType.I64: "BigInt64Array",
    DType.I32: "Int32Array",
    DType.U8: "Uint8Array",
    DType.BOOL: "Uint8Array",
    DType.F16: "Float32Array",  # not every engine has an array of f16
    DType.I8: "Int8Array",
    DType.I16: "Int16Array",
    DType.U16: "Uint16Array",
    DType.U32: "Uint32Array",
    DType.U64: "BigUint64Array",
}


def web_files(
    program: Program,
    libraries: Sequence[ExportedLibrary],
    tensors: LibraryTensors,
    settings: Mapping[str, object],
    preparation: JsonValue,
) -> dict[str, bytes]:
    """The files beside the weights by their names; `libraries` are those of MACHINES. Raises UsageError."""
    fast, slow = libraries
    if fast.abi != slow.abi:
        raise CompilerBug("web", "the modules lay out their memory in two ways")
    needed = sum(fast.reserved.values()) + fast.memory.size(1)
    if needed > _MOST_BYTES:
        message = f"{program.model} needs {needed / 2**30:.1f} GiB, and WebAssembly addresses 4"
        raise UsageError(message, "export with `--to c`")
    functions = [function_of(program, signature, fast.prefix) for signature in fast.functions]
    stored = json.loads(tensors.file_header[8:])
    manifest = manifest_of(program, fast, tensors, functions, settings) | {
        "abi": str(fast.abi),  # more digits than a number of JavaScript has
        "file_bytes": tensors.file_bytes,
        "tensors": [
            {"name": name, "dtype": entry["dtype"].lower(), "shape": entry["shape"], "place": fast.places[name]}
            for name, entry in stored.items()
        ],
        "preparation": preparation,
    }
    return {
        MODULE: _linked(fast),
        SLOW_MODULE: _linked(slow),
        "model.js": (_FOLDER / "model.js").read_bytes(),
        "model.d.ts": _types(functions, fast.changes).encode(),
        "manifest.json": (
            json.dumps(_for_javascript(cast("JsonObject", manifest)), indent=1, allow_nan=False) + "\n"
        ).encode(),
    }


def _linked(library: ExportedLibrary) -> bytes:
    objects = [b"".join(member.content) for member in library.members]
    return wasm_module(objects, library.members[0].symbols, library.reserved)


def _for_javascript(value: JsonValue) -> JsonValue:
    """A value as JSON that JavaScript reads: numbers that are not finite as texts, which `Number` reads."""
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case dict():
            return {key: _for_javascript(item) for key, item in value.items()}
        case list() | tuple():
            return [_for_javascript(item) for item in value]
        case _:
            return value


def _types(functions: Sequence[Function], changes: bool) -> str:
    """The declarations for TypeScript, with the names of inputs and outputs."""
    text = _LOADING
    methods = ""
    for function in functions:
        if function.name == SEQUENCE:
            text += _settings("Sampling", function)
            methods += _NEXT.format(settings=", settings?: SamplingSettings" if function.settings else "")
            continue
        title = "" if function.name == "predict" else function.name.capitalize()
        text += _interface(f"{title}Inputs", function.inputs, True)
        text += _interface(f"{title}Outputs", function.outputs, False)
        text += _settings(title, function)
        settings = f", settings?: {title}Settings" if function.settings else ""
        methods += f"  /** {_METHODS[function.name]} */\n"
        methods += f"  {function.name}(inputs: {title}Inputs{settings}): {title}Outputs;\n"
    return text + _MODEL.format(methods=methods, changes=_CHANGES if changes else "")


def _settings(title: str, function: Function) -> str:
    fields = "".join(f"  {name}?: number;\n" for name, _, _ in function.settings)
    return f"export interface {title}Settings {{\n{fields}}}\n\n" if fields else ""


def _interface(name: str, arrays: Sequence[Array], is_given: bool) -> str:
    fields: list[str] = []
    for array in arrays:
        type_ = _TYPED_ARRAYS[array.dtype]
        given = f"{type_} | ArrayLike<number> | readonly unknown[]"
        shape = array.said().removeprefix(f"{array.name}: ").replace("*/", "* /")
        fields.append(f"  /** {shape} */\n  {json.dumps(array.name)}: {given if is_given else type_};\n")
    return f"export interface {name} {{\n{''.join(fields)}}}\n\n"


_LOADING = """\
export interface Files {
  manifest?: object;
  module?: BufferSource;
  slow?: BufferSource;
  weights?: Uint8Array;
  /** The most rows of a step, and of one call for predictions: 32. */
  rows?: number;
}

/** The model of this folder, or of the files that are given. */
export function load(files?: Files): Promise<Model>;

"""
_METHODS = {
    "predict": "Every output by its name, for any number of rows.",
    "evaluate": "The loss and the metrics of at most `rows` rows.",
    "step": "One update of the weights, from at most `rows` rows.",
}
_NEXT = """\
  /** The token that follows a sequence, as `dlc generate` chooses it with this seed. */
  next(tokens: ArrayLike<number>, seed?: number | bigint{settings}): number;
"""
_MODEL = """\
export class Model {{
  readonly manifest: any;
  readonly rows: number;
  /** Whether the module with relaxed SIMD is used. Both compute the same bits. */
  readonly isFast: boolean;
{methods}  /** A copy of a parameter, or of a state of the optimizer. */
  tensor(name: string): ArrayLike<number | bigint> | undefined;
{changes}}}
"""
_CHANGES = """\
  /** All tensors as a safetensors file. */
  save(): Uint8Array;
  load(file: Uint8Array): void;
  /** Go on as after so many updates, with the random numbers of a seed. */
  continue(seed: number | bigint, updates: number | bigint): void;
"""
