"""Branches, loops and scans of an ONNX model, written out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from runtime.imports.onnx.graph import Unsupported
from runtime.imports.onnx.model_file import place_of

if TYPE_CHECKING:
    from runtime.imports.onnx.examine import Examiner

_MOST_ROUNDS = 256


def _graphs(proto: Any) -> dict[str, Any]:
    return {attribute.name: attribute.g for attribute in proto.attribute if attribute.HasField("g")}


def _if(examiner: Examiner, proto: Any, opsets: Mapping[str, int]) -> None:
    graphs = _graphs(proto)
    chosen = examiner.decided(proto.input[0], "the branch of an `If`")
    taken = graphs["then_branch" if bool(chosen.reshape(-1)[0]) else "else_branch"]
    for name, result in zip(proto.output, examiner.body(taken, {}, opsets, place_of(proto)), strict=False):
        if name:
            examiner.alias(name, result)


def _loop(examiner: Examiner, proto: Any, opsets: Mapping[str, int]) -> None:
    graph = _graphs(proto)["body"]
    has_count, has_condition = bool(proto.input[0]), len(proto.input) > 1 and bool(proto.input[1])
    rounds = (
        int(examiner.decided(proto.input[0], "the number of rounds of a `Loop`").reshape(-1)[0]) if has_count else None
    )
    alive = not has_condition or bool(examiner.decided(proto.input[1], "the end of a `Loop`").reshape(-1)[0])
    carried = list(proto.input[2:])
    stacks: list[list[str]] = [[] for _ in range(len(graph.output) - 1 - len(carried))]
    number = 0
    while alive and (rounds is None or number < rounds):
        if number >= _MOST_ROUNDS:
            raise Unsupported(f"a `Loop` of more than {_MOST_ROUNDS} rounds", "write it as a `scan`")
        examiner.count += 1
        index, condition = f"{place_of(proto)}/{examiner.count}/i", f"{place_of(proto)}/{examiner.count}/go"
        examiner.constant(index, np.array(number, np.int64), is_weight=False)
        examiner.constant(condition, np.array(True), is_weight=False)
        names = dict(zip((value.name for value in graph.input), (index, condition, *carried), strict=True))
        results = examiner.body(graph, names, opsets, place_of(proto))
        if results[0] not in examiner.values:
            return
        alive = bool(examiner.decided(results[0], "the end of a `Loop`").reshape(-1)[0])
        carried = results[1 : 1 + len(carried)]
        for stack, result in zip(stacks, results[1 + len(carried) :], strict=True):
            stack.append(result)
        number += 1
    for name, result in zip(proto.output, carried, strict=False):
        if name:
            examiner.alias(name, result)
    for name, stack in zip(proto.output[len(carried) :], stacks, strict=False):
        if name:
            _stacked(examiner, name, stack, 0, opsets, place_of(proto))


def _scan(examiner: Examiner, proto: Any, opsets: Mapping[str, int]) -> None:
    graph = _graphs(proto)["body"]
    attributes: dict[str, Any] = {
        a.name: examiner.onnx.helper.get_attribute_value(a) for a in proto.attribute if not a.HasField("g")
    }
    count = int(attributes["num_scan_inputs"])
    operands: list[str] = list(proto.input)
    if opsets.get("", 9) < 9:
        raise Unsupported("`Scan` of opset 8", "export with a newer opset")
    carried, scanned = operands[: len(operands) - count], operands[len(operands) - count :]
    axes: list[int] = list(attributes.get("scan_input_axes") or [0] * count)
    backward: list[int] = list(attributes.get("scan_input_directions") or [0] * count)
    sizes = {shape[axes[0]] for shape in examiner.values[scanned[0]].shapes}
    rounds = min(sizes)
    if len(sizes) > 1 or rounds > _MOST_ROUNDS:
        raise Unsupported(
            f"a `Scan` over {rounds} steps", f"at most {_MOST_ROUNDS} are written out: write it as a `scan`"
        )
    stacks: list[list[str]] = [[] for _ in range(len(graph.output) - len(carried))]
    for number in range(rounds):
        parts: list[str] = []
        for name, axis, back in zip(scanned, axes, backward, strict=True):
            parts.append(_part(examiner, name, rounds - 1 - number if back else number, axis, opsets, place_of(proto)))
        names = dict(zip((value.name for value in graph.input), (*carried, *parts), strict=True))
        results = examiner.body(graph, names, opsets, place_of(proto))
        carried = results[: len(carried)]
        for stack, result in zip(stacks, results[len(carried) :], strict=True):
            stack.append(result)
    for name, result in zip(proto.output, carried, strict=False):
        if name:
            examiner.alias(name, result)
    turned = attributes.get("scan_output_directions", [0] * len(stacks))
    places = attributes.get("scan_output_axes", [0] * len(stacks))
    for name, stack, back, axis in zip(proto.output[len(carried) :], stacks, turned, places, strict=False):
        if name:
            _stacked(examiner, name, stack[::-1] if back else stack, axis, opsets, place_of(proto))


def _part(examiner: Examiner, name: str, index: int, axis: int, opsets: Mapping[str, int], place: str) -> str:
    """The element of a tensor at a step of a scan."""
    examiner.count += 1
    prefix = f"{place}/{examiner.count}/"
    examiner.constant(prefix + "at", np.array(index, np.int64), is_weight=False)
    proto = examiner.onnx.helper.make_node("Gather", [name, prefix + "at"], [prefix + "part"], name=place, axis=axis)
    examiner.visit([proto], opsets)
    return prefix + "part"


def _stacked(
    examiner: Examiner, name: str, parts: Sequence[str], axis: int, opsets: Mapping[str, int], place: str
) -> None:
    """The results of all steps side by side along a new axis."""
    if not parts:
        raise Unsupported("a loop of no rounds that stacks its results")
    make = examiner.onnx.helper.make_node
    examiner.count += 1
    prefix = f"{place}/{examiner.count}/"
    examiner.constant(prefix + "axes", np.array([axis], np.int64), is_weight=False)
    wide = [f"{prefix}{i}" for i in range(len(parts))]
    opsets = {**opsets, "": max(13, opsets.get("", 13))}
    for part, one in zip(parts, wide, strict=True):
        examiner.visit([make("Unsqueeze", [part, prefix + "axes"], [one], name=place)], opsets)
    examiner.visit([make("Concat", wide, [name], name=place, axis=axis)], opsets)


def _element(examiner: Examiner, proto: Any, opsets: Mapping[str, int]) -> None:
    """`OptionalGetElement` of a tensor, which is there."""
    del opsets
    examiner.alias(proto.output[0], proto.input[0])


FLOW: dict[str, Callable[[Examiner, Any, Mapping[str, int]], None]] = {
    "If": _if,
    "Loop": _loop,
    "Scan": _scan,
    "OptionalGetElement": _element,
}
