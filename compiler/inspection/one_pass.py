"""One pass on the text of a graph, of a fused graph, or of a product."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from compiler.errors.diagnostics import CompilerBug, DataError
from compiler.graph.drawing import graph_to_json
from compiler.graph.ir import Graph
from compiler.graph.printer import print_graph
from compiler.graph.reader import read_graph
from compiler.graph.verify import InvalidGraph, expect_valid, verify
from compiler.inspection.passes import FUSE, PassForm, passes_by_name, passes_over_products
from compiler.ops import OPS
from compiler.schedule.fusion.ir import FusedGraph
from compiler.schedule.fusion.printer import fused_to_json, print_fused
from compiler.schedule.fusion.reader import read_fused
from compiler.schedule.fusion.verify import expect_valid_fused, verify_fused
from compiler.schedule.numerics.internal_ops import INTERNAL_OPS

_EVERY_OP = (*OPS, *INTERNAL_OPS)
_BEFORE_MEMORY = ("read_inserted", "rematerialise_cheap", "join_siblings", "read_unpadded", "store_in_place")
# The errors of type rules and passes for attributes that no compiler would write.
_OF_BAD_ATTRIBUTES = (ArithmeticError, LookupError, TypeError, ValueError, AssertionError, RecursionError)
_Found = TypeVar("_Found")


def run_pass(name: str, text: str, source: str, batch: int, format: str) -> str:
    """The result of the pass `name` on the graph or the product in `text`, as text or as JSON.

    `source` is the name of the text in messages, `batch` the nominal batch, which a fused graph says itself. Raises
    DataError where the pass does not take such a text, or the verifier refuses it.
    """
    if over_product := passes_over_products(batch).get(name):
        printed = over_product(text, source)
        return json.dumps({"product": printed.splitlines()}) if format == "json" else printed
    each = passes_by_name(batch)[name]
    form = _read(text, each.is_fused, name, source)
    try:
        result = each.run(form)
        _verify(result, name)
    except (CompilerBug, *_OF_BAD_ATTRIBUTES) as error:
        if name == FUSE:  # nothing checks whether a graph has the form that it takes
            message = f"cannot be fused as it stands ({_first_line(error)})"
            raise DataError(message, source, fix="run the pass fix_numerics before") from None
        if isinstance(error, CompilerBug):
            raise
        raise CompilerBug(name, f"{type(error).__name__}: {error}", _printed(form)) from error
    if format != "json":
        return _printed(result)
    return json.dumps(graph_to_json(result) if isinstance(result, Graph) else fused_to_json(result))


def _read(text: str, is_fused: bool, name: str, source: str) -> PassForm:
    """The form that the text describes, valid and such as the pass `name` takes it."""
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    form, takes = first.split(" ")[0], "fused" if is_fused else "graph"
    if form != takes and form in ("fused", "graph", "product"):
        wanted = "a fused graph" if is_fused else "a graph"
        stop = FUSE if is_fused else "simplify"
        raise DataError(f"is not {wanted}, which {name} takes", source, fix=f"`--stop-after {stop}` prints one")
    if not is_fused:
        graph = read_graph(text, _EVERY_OP, source)
        _accepted(source, lambda: expect_valid(graph))
        return graph
    fused = _accepted(source, lambda: read_fused(text, _EVERY_OP, source))
    _accepted(source, lambda: expect_valid_fused(fused))
    if name in _BEFORE_MEMORY and _is_placed(fused):
        raise DataError(f"has storage for its values already, which is decided behind {name}", source)
    return fused


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


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
