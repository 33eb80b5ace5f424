"""One pass on the text of a graph, of a fused graph, or of a kernel."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from compiler.errors.diagnostics import CompilerBug, DataError
from compiler.graph.drawing import graph_to_json
from compiler.graph.ir import Graph
from compiler.graph.printer import print_graph, print_node
from compiler.graph.reader import read_graph
from compiler.graph.verify import InvalidGraph, expect_valid, verify
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.graph_passes.lay_out_pairs import has_pairs
from compiler.inspection.passes import FUSE, PassForm, passes_by_name, passes_over_kernels
from compiler.interface import Options
from compiler.ops import OPS
from compiler.ops.pairs import FitRows
from compiler.ops.scan import Scan
from compiler.pipeline import SIMPLIFYING
from compiler.schedule.fusion.ir import FusedGraph
from compiler.schedule.fusion.printer import fused_to_json, print_fused
from compiler.schedule.fusion.reader import read_fused
from compiler.schedule.fusion.verify import expect_valid_fused, verify_fused
from compiler.schedule.memory.rematerialise import rematerialise
from compiler.schedule.numerics.fix_numerics import fix_numerics
from compiler.schedule.numerics.internal_ops import INTERNAL_OPS, Copy

_EVERY_OP = (*OPS, *INTERNAL_OPS)
_BEFORE_MEMORY = ("read_inserted", "rematerialise_cheap", "join_siblings", "read_unpadded", "store_in_place")
# Other passes over graphs do not know that the ops of the fixed form write into memory.
_ON_FIXED = (eliminate_dead.__name__, fix_numerics.__name__, rematerialise.__name__, FUSE)
_OF_PAIRS = ("widen_numbers", "to_f64", "lay_out_pairs", *(each.__name__ for each in SIMPLIFYING))
# The errors of type rules and passes for attributes that no compiler would write.
_OF_BAD_ATTRIBUTES = (ArithmeticError, LookupError, TypeError, ValueError, AssertionError, RecursionError)
KERNELS = ("product", "rows", "elements", "columns")  # first words of their texts
_Found = TypeVar("_Found")


def run_pass(name: str, text: str, source: str, options: Options, format: str) -> str:
    """The result of the pass `name` on the graph or the kernel in `text`, as text or as JSON.

    `source` is the name of the text in messages, `options` have the target and the nominal batch, which a fused graph
    says itself. Raises DataError where the pass does not take such a text, or the verifier refuses it.
    """
    if over_kernel := passes_over_kernels(options).get(name):
        printed = over_kernel(text, source)
        return json.dumps({"kernel": printed.splitlines()}) if format == "json" else printed
    each = passes_by_name(options)[name]
    form = _read(text, each.is_fused, name, source)
    try:
        if name == FUSE and isinstance(form, Graph):
            _expect_fixed(form, source)
        result = each.run(form)
        _verify(result, name)
    except _OF_BAD_ATTRIBUTES as error:
        raise CompilerBug(name, f"{type(error).__name__}: {error}", _printed(form)) from error
    if format != "json":
        return _printed(result)
    return json.dumps(graph_to_json(result) if isinstance(result, Graph) else fused_to_json(result))


def _read(text: str, is_fused: bool, name: str, source: str) -> PassForm:
    """The form that the text describes, valid and such as the pass `name` takes it."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    form, takes = first.split(" ")[0], "fused" if is_fused else "graph"
    if form != takes and form in ("fused", "graph", *KERNELS):
        wanted = "a fused graph" if is_fused else "a graph"
        stop = FUSE if is_fused else "simplify"
        raise DataError(f"is not {wanted}, which {name} takes", source, fix=f"`--stop-after {stop}` prints one")
    if not is_fused:
        graph = read_graph(text, _EVERY_OP, source)
        _accepted(source, lambda: expect_valid(graph))
        if has_pairs(graph) and name not in _OF_PAIRS:
            message = f"has the batch on several axes of a value, and {name} takes a graph behind lay_out_pairs"
            raise DataError(message, source, fix="run `dlc pass lay_out_pairs` before")
        late = tuple(op for op in INTERNAL_OPS if op is not FitRows)  # which lay_out_pairs makes
        made = next((node.op.name for node in graph.nodes if isinstance(node.op, late)), None)
        if made is not None and name not in _ON_FIXED:
            message = (
                f"is in the form of the stage `fixed`, as it has the op {made}, and {name} takes a graph before that"
            )
            raise DataError(message, source, fix="`dlc show --stage grad` prints one")
        return graph
    fused = _accepted(source, lambda: read_fused(text, _EVERY_OP, source))
    _accepted(source, lambda: expect_valid_fused(fused))
    if name in _BEFORE_MEMORY and _is_placed(fused):
        raise DataError(f"has storage for its values already, which is decided behind {name}", source)
    return fused


def _expect_fixed(graph: Graph, source: str) -> None:
    """Raises DataError where the order of some sum or product is open, or an output is no value of its own."""
    if changed := _first_change(graph, fix_numerics(graph)):
        message = f"is not in the form of the stage `fixed`, which {FUSE} takes: fix_numerics changes {changed}"
        raise DataError(message, source, fix="run `dlc pass fix_numerics` before; `dlc show --stage fixed` prints one")


def _first_change(graph: Graph, other: Graph) -> str:
    """The first line of a graph that is another one in `other`, but for the numbers of values; empty for equal ones.

    The start of a carry is always copied for its scan; a copy of a copy is no change.
    """
    numbers = {old.value: new.value for old, new in zip(graph.inputs, other.inputs, strict=True)}
    copies = {node.results[0] for node in graph.nodes if isinstance(node.op, Copy)}
    others = iter(other.nodes)
    for old in graph.nodes:
        new = next(others, None)
        # the first values of the carries of a scan
        for start in old.operands[old.op.scanned :][: old.op.carries] if isinstance(old.op, Scan) else ():
            if new is not None and start in copies and isinstance(new.op, Copy):
                numbers[start], new = new.results[0], next(others, None)
        if new is None or old.op != new.op or tuple(numbers[operand] for operand in old.operands) != new.operands:
            return f"`{print_node(old).partition(' body=')[0]}`"
        numbers.update(zip(old.results, new.results, strict=True))
    for old, new in zip(graph.outputs, other.outputs, strict=True):
        if numbers[old.value] != new.value:
            return f"the output `{old.name}`"
    return ""


def _accepted(source: str, check: Callable[[], _Found]) -> _Found:
    try:
        return check()
    except InvalidGraph as broken:
        raise DataError(str(broken), source) from None
    except _OF_BAD_ATTRIBUTES as error:
        raise DataError(f"the attributes of an op mean nothing ({error})", source) from None


def _is_placed(fused: FusedGraph) -> bool:
    bodies = [m.body for group in fused.groups for m in group.members if m.body is not None]
    is_decided = bool(fused.aliases or fused.copies or fused.before or fused.is_ordered)
    return is_decided or any(map(_is_placed, bodies))


def _verify(form: PassForm, stage: str) -> None:
    verify(form, stage) if isinstance(form, Graph) else verify_fused(form, stage)


def _printed(form: PassForm) -> str:
    return print_graph(form) if isinstance(form, Graph) else print_fused(form)
