"""Values that follow from numbers of the text and of steps alone, computed: the schedule of a diffusion, say.

An interval of a formula is wider than its values: that of `cos(t)` has 0 in it, whatever t is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.graph.ir import Graph, Node, Role
from compiler.graph.op import Category
from compiler.ops.intervals import Range, joined
from compiler.ops.scan import Scan
from compiler.ops.sources import BatchSize
from compiler.support.arrays import Array, np
from compiler.types import numpy_dtype, static_elements

_ELEMENTS = 1 << 16  # of a value, all steps together


def known_ranges(graph: Graph, settings: Mapping[str, float]) -> dict[int, Range]:
    """The interval of each such value by its index; in the body of a scan, that of all steps."""
    known: dict[int, Array] = {}
    for entry in graph.inputs:
        if entry.role is Role.SETTING and entry.name in settings:
            with np.errstate(over="ignore"):  # 1e39 is infinite in f32
                known[entry.value.index] = np.array(settings[entry.name], numpy_dtype(entry.value.type.dtype))
    found: dict[int, Range] = {}
    _walk(graph.nodes, known, found)
    return found


def _walk(nodes: Sequence[Node], known: dict[int, Array], found: dict[int, Range]) -> None:
    """Computes what follows from `known`, and widens the interval of each value that is `found`."""
    for node in nodes:
        if isinstance(node.op, Scan):
            _walk_steps(node, node.op, known, found)
        elif _is_computed(node, known):
            with np.errstate(all="ignore"):
                arrays = node.op.evaluate([known[operand.index] for operand in node.operands], 1)
            for result, array in zip(node.results, arrays, strict=True):
                known[result.index] = array
                _widen(found, result.index, array)


def _is_computed(node: Node, known: Mapping[int, Array]) -> bool:
    sizes = (static_elements(value.type.shape) for value in (*node.operands, *node.results))
    is_light = node.op.category not in (Category.CONTRACTION, Category.CONTROL) and not isinstance(node.op, BatchSize)
    return is_light and all(o.index in known for o in node.operands) and all(size <= _ELEMENTS for size in sizes)


def _walk_steps(node: Node, scan: Scan, known: Mapping[int, Array], found: dict[int, Range]) -> None:
    """Each step of a scan; nothing is known of its carries."""
    pairs = list(zip(scan.step_inputs, node.operands, strict=False))
    captured = zip(scan.captured_inputs, node.operands[scan.scanned + scan.carries :], strict=True)
    outside = {inner.index: known[outer.index] for inner, outer in captured if outer.index in known}
    for place in scan.places() if scan.length <= _ELEMENTS else ():
        elements = {inner.index: known[outer.index][place] for inner, outer in pairs if outer.index in known}
        _walk(scan.body.nodes, {**outside, **elements}, found)


def _widen(found: dict[int, Range], index: int, array: Array) -> None:
    if not array.size or array.dtype.kind == "b":
        return
    low, high = float(array.min()), float(array.max())
    one = Range(low, high) if low <= high else Range(-np.inf, np.inf)  # NaN is no bound
    found[index] = joined(found[index], one) if index in found else one
