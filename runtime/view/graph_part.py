"""The graph of a program in levels: boxes that open, and the values that go from one to another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import TYPE_CHECKING

from compiler.inspection.level_work import LevelWork, work_by_level
from compiler.inspection.levels import Level, flows, levels_of, of_settings
from compiler.support.record import record
from compiler.types import TensorType, at_batch
from runtime.support.files import JsonObject, JsonValue

if TYPE_CHECKING:
    from compiler.driver import Program
    from compiler.inspection.forms import Forms

_DATA = "data"  # the role of what a step is fed with
_MOST = 24  # operations of the backward pass of a level that are named


def graph_to_json(program: Program, batch: int, files: Mapping[str, int], forms: Forms | None) -> JsonObject:
    """The model as the outermost box. Repeated parts have the boxes of their first round; sizes are in bytes.

    With the `forms` of the program, each level has its work by direction, that of all its rounds; the innermost ones
    list their backward pass.
    """
    fed = {entry.value.index: entry.name for entry in program.training_graph.inputs if entry.role.value == _DATA}
    held = {entry.value.index for entry in program.training_graph.inputs} - fed.keys()
    held |= of_settings(program.training_graph)
    named = (entry for entry in program.training_graph.outputs if ":" not in entry.name)  # as a part of a loss has
    outputs = {entry.value.index: entry.name for entry in named}
    root = levels_of(program)
    work: Mapping[str, LevelWork] = {} if forms is None else work_by_level(root, forms.step, batch)
    return _level(root, batch, files, _Ends(fed, held, outputs), work)


@record
class _Ends:
    """Values of the graph by index: the names of the data, what comes from no data, and the names of outputs."""

    fed: Mapping[int, str]
    held: Set[int]
    outputs: Mapping[int, str]


def _level(
    level: Level, batch: int, files: Mapping[str, int], ends: _Ends, work: Mapping[str, LevelWork]
) -> JsonObject:
    span = level.span
    place: JsonValue = None
    if span is not None and span.source.name in files:
        place = [files[span.source.name], span.line, span.end_line]
    arrows: list[JsonValue] = [
        {
            "from": flow.source,
            "to": flow.target,
            "input": ends.fed.get(flow.value.index),
            "shape": _shape(flow.value.type),
            "bytes": _bytes(flow.value.type, batch),
        }
        for flow in flows(level.parts)
        if flow.value.index not in ends.held
    ]
    found: dict[str, JsonValue] = {
        "key": level.key,
        "kind": level.kind,
        "name": level.name,
        "paths": list(level.paths),
        "times": level.times,
        "at": place,
        "type": str(level.nodes[-1].results[-1].type) if level.nodes else "",
        "outputs": [ends.outputs[index] for index in sorted(level.values & ends.outputs.keys())],
        "parts": [_level(part, batch, files, ends, work) for part in level.parts],
        "arrows": arrows,
    }
    own = work.get(level.key)
    if own is not None:
        found["flops"] = list(own.flops.values())
        found["slopes"] = len(own.backward)
    if not level.parts:
        found["operations"] = [[node.op.name, str(node.results[-1].type)] for node in level.nodes]
        found["backward"] = [[n.op.name, str(n.results[-1].type)] for n in ([] if own is None else own.backward)][
            :_MOST
        ]
    return found


def _shape(type_: TensorType) -> str:
    return " × ".join(map(str, type_.shape)) or "one number"


def _bytes(type_: TensorType, batch: int) -> int:
    return math.prod(at_batch(type_.shape, batch)) * type_.dtype.size
