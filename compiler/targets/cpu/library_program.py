"""One program of an exported library as LLVM text: tables, their places in memory, and the function that runs it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from compiler.support.record import record
from compiler.targets.cpu import runner
from compiler.targets.cpu.library_layout import (
    Function,
    Layout,
    Settings,
    bytes_of_row,
    bytes_without_rows,
    places_of_settings,
)
from compiler.targets.cpu.plan_tables import control_layout, entry_rows, most_moving_arguments, relocation_rows
from compiler.targets.manifest import (
    BATCH_ARENA,
    CONTROL_ARENA,
    FIRST_TENSOR,
    SCRATCH_ARENA,
    SHARED_ARENA,
    STATIC_ARENA,
)
from compiler.types import BatchExtent, DType


@record
class Surroundings:
    """What the programs of a library share: the layout of memory, places in the weights, and the symbols of kernels.

    `kernels` has the symbols in the library by those in manifests.
    """

    layout: Layout
    weights: Mapping[str, int]
    kernels: Mapping[str, str]


def filled(template: str, words: Mapping[str, object]) -> str:
    """The text of a template; the longest words first, since none may be the beginning of one that is still there."""
    text = Path(__file__).with_name(f"{template}.ll").read_text(encoding="utf-8")
    for name in sorted(words, key=len, reverse=True):
        text = text.replace(f"${name}", str(words[name]))
    return text


def lines(rows: Sequence[str]) -> str:
    return "\n".join(row if row.endswith(":") else f"  {row}" for row in rows)


def program_text(function: Function, surroundings: Surroundings, settings: Settings) -> str:
    """`run_NAME`, and the function that lays its tables out; `settings` are those of the caller's struct."""
    layout, places = surroundings.layout, surroundings.layout.functions[function.number]
    words: dict[str, object] = {
        "NAME": function.program.name,
        "NUMBER": function.number,
        "ROUNDING": (rounding := layout.memory.values[function.number].rounding),
        "LESS_THAN_ROUNDING": rounding - 1,
        "ARENAS": places.arenas,
        "INPUTS": places.inputs,
        "OUTPUTS": places.outputs,
        "CONTROL": places.control,
        "STATIC": places.static,
        "TEAM": layout.team,
        "ROWS_SLOT": runner.ROWS,
        "PARAMETERS": "".join(f", ptr {name}" for name in parameters(function, settings)),
        "PLACES": lines(_fixed_places(function, surroundings)),
        "FED": lines(_fed(function, settings)),
        "CONTROLS": lines(_controls()),
    }
    return "\n".join([*_constants(function, surroundings.kernels), filled("program", words)])


def parameters(function: Function, settings: Settings) -> list[str]:
    """The pointers that a call gives."""
    manifest = function.manifest
    inputs = [f"%in.{number}" for number in range(len(manifest.inputs))]
    outputs = [f"%out.{number}" for number, result in enumerate(manifest.results) if not function.is_own(result)]
    return [*(["%settings"] if settings else []), *inputs, *outputs]


def _put(table: str, slot: int, value: str, name: str = "") -> list[str]:
    """Store a typed value in a slot of a table."""
    name = name or f"{table}.{slot}"
    return [f"%{name}.at = getelementptr i64, ptr %{table}, i64 {slot}", f"store {value}, ptr %{name}.at, align 8"]


def _fixed_places(function: Function, surroundings: Surroundings) -> list[str]:
    """The addresses that stay in their tables, and the settings, of which the caller gives some in each call."""
    manifest, layout = function.manifest, surroundings.layout
    rows = _put("arenas", CONTROL_ARENA, "ptr %control")
    rows += _put("arenas", STATIC_ARENA, "ptr %static")
    rows += _put("arenas", BATCH_ARENA, "ptr %batch")
    for slot, place in ((SCRATCH_ARENA, layout.scratch), (SHARED_ARENA, layout.shared)):
        rows.append(f"%arena.{slot} = getelementptr i8, ptr %memory, i64 {place}")
        rows += _put("arenas", slot, f"ptr %arena.{slot}")
    rows += _tensors(function, surroundings)
    slot = FIRST_TENSOR + len(manifest.tensors)
    for number, item in enumerate(manifest.inputs):
        rows += _own(slot, item.offset, item.batch_axis is not None)
        rows += _put("inputs", len(manifest.inputs) + number, f"i64 {item.row_bytes}")
        slot += 1
    for result in manifest.results:
        if result.offset is not None:
            rows += _own(slot, result.offset, any(isinstance(extent, BatchExtent) for extent in result.shape))
        slot += 1
    rows += _own_results(function, layout)
    for number, (name, dtype) in enumerate(
        zip(manifest.settings, manifest.setting_dtypes, strict=True), runner.SETTINGS
    ):
        rows += _put("control", number, _number(function.program.settings[name], dtype))
    return rows


def _tensors(function: Function, surroundings: Surroundings) -> list[str]:
    """The addresses of persistent tensors: in the caller's memory, or among the constant weights."""
    layout, rows = surroundings.layout, list[str]()
    for slot, spec in enumerate(function.manifest.tensors, FIRST_TENSOR):
        place = layout.tensors.get(spec.name, layout.states.get(spec.name))
        if place is not None:
            rows.append(f"%tensor.{slot} = getelementptr i8, ptr %memory, i64 {place}")
            rows += _put("arenas", slot, f"ptr %tensor.{slot}")
        else:
            constant = f"getelementptr (i8, ptr @$PREFIX_weights, i64 {surroundings.weights[spec.name]})"
            rows += _put("arenas", slot, f"ptr {constant}")
    return rows


def _own_results(function: Function, layout: Layout) -> list[str]:
    """The addresses of results that the caller does not get."""
    values, line = layout.memory.values[function.number], layout.functions[function.number].results
    of_row, rows = function.manifest.batch_bytes, list[str]()
    for number, result in enumerate(function.manifest.results):
        if not function.is_own(result):
            continue
        if size := bytes_of_row(result):
            rows.append(f"%result.{number}.offset = mul i64 %capacity, {of_row}")
            rows.append(f"%result.{number}.begin = getelementptr i8, ptr %batch, i64 %result.{number}.offset")
            rows.append(f"%result.{number} = getelementptr i8, ptr %result.{number}.begin, i64 {values.overshoot}")
            of_row += size
        else:
            rows.append(f"%result.{number} = getelementptr i8, ptr %memory, i64 {line}")
            line += bytes_without_rows(result)
        rows += _put("outputs", number, f"ptr %result.{number}")
    return rows


def _own(slot: int, offset: int, in_batch: bool) -> list[str]:
    """A place in the arenas, for an input or a result that is copied."""
    rows = [f"%own.{slot}.offset = mul i64 {'%capacity' if in_batch else '1'}, {offset}"]
    base = "%batch" if in_batch else "%static"
    rows.append(f"%own.{slot} = getelementptr i8, ptr {base}, i64 %own.{slot}.offset")
    return rows + _put("arenas", slot, f"ptr %own.{slot}")


def _number(value: float, dtype: DType) -> str:
    """A typed constant with exactly these bits; LLVM writes an f32 as the f64 that it is."""
    wide = np.float64(value if dtype is DType.F64 else np.float32(value))
    return f"{'double' if dtype is DType.F64 else 'float'} 0x{int(wide.view(np.uint64)):016X}"


def _fed(function: Function, settings: Settings) -> list[str]:
    """The addresses of inputs and results, inputs without rows, which are copied, and settings."""
    manifest = function.manifest
    rows: list[str] = []
    for number, item in enumerate(manifest.inputs):
        rows += _put("inputs", number, f"ptr %in.{number}")
        if item.batch_axis is None:
            rows.append(f"%copy.{number} = getelementptr i8, ptr %static, i64 {item.offset}")
            operands = f"ptr %copy.{number}, ptr %in.{number}, i64 {item.row_bytes}, i1 false"
            rows.append(f"call void @llvm.memcpy.p0.p0.i64({operands})")
    for number, result in enumerate(manifest.results):
        if not function.is_own(result):
            rows += _put("outputs", number, f"ptr %out.{number}")
    slots = {name: slot for slot, name in enumerate(manifest.settings, runner.SETTINGS)}
    places = places_of_settings(settings)
    for name, dtype, _ in settings:
        if name in slots:
            number, kind = slots[name], "double" if dtype is DType.F64 else "float"
            rows.append(f"%setting.{number}.from = getelementptr i8, ptr %settings, i64 {places[name]}")
            rows.append(f"%setting.{number} = load {kind}, ptr %setting.{number}.from, align {dtype.size}")
            rows += _put("control", number, f"{kind} %setting.{number}")
    return rows


def _controls() -> list[str]:
    """The slots of the control block that the runner reads or changes in a call."""
    values = {
        runner.SEED: "i64 %seed",
        runner.STEP: "i64 %step",
        runner.LOCAL: "i64 0",
        runner.BATCH: "i64 %rows",
        runner.REMAINING: "i64 1",
        runner.FRESH: "i64 %fresh",
    }
    return [line for slot, value in values.items() for line in _put("control", slot, value, f"slot.{slot}")]


def _constants(function: Function, kernels: Mapping[str, str]) -> list[str]:
    """The tables of a program that the runner reads."""
    manifest, name = function.manifest, function.program.name
    symbols = [kernels.get(symbol, symbol) for symbol in manifest.functions]
    line = "{ ptr, i64, i64, i64, i64, i64, i64, i64 }"
    entries = [
        f"{line} {{ ptr {f'@{symbols[number]}' if number >= 0 else 'null'}, "
        + ", ".join(f"i64 {word}" for word in words)
        + " }"
        for number, *words in entry_rows(manifest)
    ]
    block = (
        f"i64 {runner.ABI_VERSION}",
        f"ptr @{name}_entries",
        f"i64 {len(entries)}",
        f"ptr @{name}_relocations",
        f"i64 {len(manifest.relocations)}",
        f"i64 {control_layout(manifest).arguments}",
        "i64 0",  # scratch: each worker has its own beside its state
        f"i64 {manifest.once}",
        f"ptr @{name}_advances",
        f"i64 {len(manifest.advances[0]) if manifest.advances else 0}",
        f"i64 {most_moving_arguments(manifest)}",
    )
    types = ", ".join(word.split()[0] for word in block)
    return [
        f"@{name}_entries = internal constant [{len(entries)} x {line}] [{', '.join(entries)}]",
        _numbers(f"{name}_relocations", [number for row in relocation_rows(manifest) for number in row]),
        _numbers(f"{name}_advances", [number for row in manifest.advances for number in row]),
        f"@{name}_program = internal constant {{ {types} }} {{ {', '.join(block)} }}",
    ]


def _numbers(name: str, numbers: Sequence[int]) -> str:
    values = ", ".join(f"i64 {number}" for number in numbers)
    return f"@{name} = internal constant [{len(numbers)} x i64] [{values}]"
