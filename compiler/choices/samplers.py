"""Samplers to the mistakes of their integers: rows that choose an element where a tensor has none.

No data decides them: they are made of constants, of the numbers of rows and of draws. So they are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from compiler.choices.find import IndexChoice, chosen_by
from compiler.errors.diagnostics import Diagnostic, Note, hint
from compiler.frontend.program import ROW_NUMBERS, Program, Sampler
from compiler.graph.ir import Graph, GraphInput, GraphOutput, Role, depending, needed_by
from compiler.graph.op import Category
from compiler.lints.flow import inlined
from compiler.ops.indexing import Gather
from compiler.support.arrays import Array, np
from compiler.types import batch_axis, static_elements

_ROWS = 4096  # so many rows are looked at
_SEED = 0
_ELEMENTS = 1 << 22  # or as many as have so many integers


def mistakes_of_samplers(program: Program) -> Iterator[Diagnostic]:
    """E0421: the first choice of each sampler that is out of range for some row, and changes what the row becomes."""
    for sampler in program.samplers:
        settings = {s.name: float(s.value) for s in program.settings if isinstance(s.value, int | float)}
        found = (_mistake(sampler, choice, settings) for choice in _choices(sampler.graph, settings))
        yield from [mistake for mistake in found if mistake is not None][:1]


def _choices(graph: Graph, settings: Mapping[str, float]) -> Iterator[IndexChoice]:
    """The choices that follow from the numbers of rows, the seed and settings alone, not from carries of a scan."""
    opened = inlined(graph)
    given = {entry.value.index: entry.name for entry in opened.inputs}
    known = {ROW_NUMBERS, "seed", *settings}
    others = (entry.value.index for entry in opened.inputs if entry.name not in known)
    unknown = depending(opened.nodes, others, lambda node: node.op.category is Category.CONTRACTION)
    values = (*(entry.value for entry in opened.inputs), *(r for node in opened.nodes for r in node.results))
    names = {v.index: frozenset({given.get(v.index, "")}) for v in values if v.index not in unknown}
    return (choice for choice in chosen_by(opened, names) if not choice.is_own)


def _mistake(sampler: Sampler, choice: IndexChoice, settings: Mapping[str, float]) -> Diagnostic | None:
    from compiler.choices.disturb import Disturbance  # the reference, which programs without such choices do without

    values = _indices(sampler.graph, choice, settings)
    wrong = (values < 0) | (values >= choice.count)
    rows = np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))
    if not len(rows):
        return None
    graph = replace(sampler.graph, inputs=tuple(map(_as_data, sampler.graph.inputs)))
    found = Disturbance(graph, [choice], [o.name for o in graph.outputs], settings)
    looked_at = rows[: found.most_rows]
    if not found.matters({ROW_NUMBERS: looked_at, "seed": np.array(_SEED)}, len(looked_at)):
        return None
    what = "elements" if isinstance(choice.node.op, Gather) else "classes"
    outside = int(values[rows[0]][wrong[rows[0]]].flat[0])
    message = (
        f"row {rows[0]} of the `sample` `{sampler.name}` chooses number {outside} among {choice.count} {what}, "
        f"0 to {choice.count - 1}"
    )
    advice = hint(f"keep to these, as `row % {choice.count}` does, or let the model have more {what}")
    notes = (Note("it chooses here", choice.place),) if choice.place is not None else ()
    return Diagnostic("E0421", message, sampler.place, (advice, *notes))


def _as_data(entry: GraphInput) -> GraphInput:
    """The seed is known here, as data is; what is trained is not."""
    return replace(entry, role=Role.DATA) if entry.role is Role.SEED else entry


def _indices(graph: Graph, choice: IndexChoice, settings: Mapping[str, float]) -> Array:
    """The choosing integers of the first rows, by row, with one seed; in the body of a scan, of its first step."""
    from compiler.evaluate import evaluate, inputs_at

    opened = inlined(graph)
    nodes, read = needed_by(opened.nodes, [choice.indices.index])
    inputs = tuple(entry for entry in opened.inputs if entry.value.index in read)
    output = GraphOutput("indices", Role.OUTPUT, choice.indices)
    needed = replace(opened, nodes=tuple(nodes), inputs=inputs, outputs=(output,))
    largest = max((static_elements(r.type.shape) for node in nodes for r in node.results), default=1)
    rows = max(min(_ROWS, _ELEMENTS // largest), 1)
    found = evaluate(needed, inputs_at(needed, {ROW_NUMBERS: np.arange(rows)}, _SEED, settings), rows)["indices"]
    axis = batch_axis(choice.indices.type.shape)
    return found[None] if axis is None else np.moveaxis(found, axis, 0)
