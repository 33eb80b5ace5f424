"""A program to the limits of its integers, with which declared ranges and data are compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from compiler.choices.find import IndexChoice, choices_of
from compiler.choices.samplers import mistakes_of_samplers
from compiler.errors.diagnostics import Diagnostic, Note, hint
from compiler.frontend.program import IndexLimit, InputSpec, Program
from compiler.graph.ir import GraphOutput, Role, needed_by
from compiler.lints.flow import inlined
from compiler.lints.ranges import Ranges
from compiler.ops.indexing import Gather
from compiler.support.arrays import Array, np
from compiler.support.record import record
from compiler.types import at_batch, batch_axis, numpy_dtype

if TYPE_CHECKING:
    from compiler.choices.disturb import Disturbance

_ROWS, _CHUNK = 2, 4096


@record
class Outside:
    """Row `row` of the data holds `value` where `limit` says what integers choose from."""

    limit: IndexLimit
    row: int
    value: int


def with_limits(program: Program) -> Program:
    """The program that knows what its integers choose from, wherever their declared ranges do not keep to it."""
    return replace(program, index_limits=tuple(_limit(choice) for choice in _open_choices(program)))


def mistakes(program: Program) -> Iterator[Diagnostic]:
    """E0421 and W0117: declared ranges that hold what chooses nothing, where that changes the loss, say."""
    specs = {spec.name: spec for spec in program.inputs}
    told: set[str] = set()
    choices = sorted(_open_choices(program), key=lambda choice: choice.is_own)
    for choice in choices:
        declared = [specs[n] for n in choice.names if specs[n].low is not None and specs[n].high is not None]
        if not declared or told & {spec.name for spec in declared}:
            continue
        if any(_is_wrong(program, choice, at_end) for at_end in (True, False)):
            told.update(spec.name for spec in declared)
            yield _finding(declared[0], choice)
    yield from _of_generation(program)
    yield from mistakes_of_samplers(program)


def outside(
    program: Program, limits: Sequence[IndexLimit], data: Mapping[str, Array], rows: Array, outputs: Sequence[str]
) -> Outside | None:
    """The first row of these of the data in which an integer chooses nothing at one of the `limits` of the program.

    Only where some of the outputs depend on that. `program` is whole.
    """
    for choice in _open_choices(program):
        if _limit(choice) in limits:
            wrong = _wrong_rows(program, choice, data, rows)
            row = _row_that_matters(program, choice, data, wrong, outputs)
            if row is not None:
                (values,) = _indices(program, choice, data, np.array([row]))
                is_wrong = (values < 0) | (values >= choice.count)
                return Outside(_limit(choice), row, int(values[is_wrong].flat[0]))
    return None


def _open_choices(program: Program) -> list[IndexChoice]:
    """The choices that can be out of range, as far as types and declared ranges say."""
    choices = choices_of(program.inference_graph)
    if not choices:
        return []
    opened = inlined(program.inference_graph)
    nodes, _ = needed_by(opened.nodes, (choice.indices.index for choice in choices))
    ranges = Ranges(program, replace(opened, nodes=tuple(nodes)))
    known = {choice: ranges[choice.indices] for choice in choices}
    return [c for c, found in known.items() if not (found.low >= 0 and found.high <= c.count - 1)]


def _limit(choice: IndexChoice) -> IndexLimit:
    is_class = not isinstance(choice.node.op, Gather)
    return IndexLimit(choice.names, choice.count, choice.is_direct, choice.is_own, is_class, choice.place)


# Declared ranges


def _is_wrong(program: Program, choice: IndexChoice, at_end: bool) -> bool:
    """Whether the first or last value of the declared ranges chooses nothing, whatever else the data holds."""
    cases = [_filled(program, choice, at_end, others) for others in (True, False)]
    if any(not _wrong_rows(program, choice, data, np.arange(_ROWS)).size for data in cases):
        return False
    # the outputs that a mistake changes: the loss and the metrics, or the outputs of a bare model
    found = _disturbance(program, choice, program.outputs if program.plan is None else ("loss", *program.plan.metrics))
    return all(found.matters(data, _ROWS) for data in cases)


def _filled(program: Program, choice: IndexChoice, at_end: bool, others: bool) -> dict[str, Array]:
    """Data of one value each: an end of the range for inputs of the choice, as much or as little for the rest."""
    drawn = np.random.default_rng(0)
    found: dict[str, Array] = {}
    for spec in program.inputs:
        shape, dtype = at_batch(spec.type.shape, _ROWS), numpy_dtype(spec.type.dtype)
        low, high = spec.low or 0, (spec.high or 1) - 1
        if spec.mask_of is not None:
            found[spec.name] = np.ones(shape, dtype)
        elif spec.type.dtype.is_float:
            found[spec.name] = drawn.uniform(0.1, 0.9, shape).astype(dtype) if others else np.zeros(shape, dtype)
        elif spec.name in choice.names:
            found[spec.name] = np.full(shape, high if at_end else low, dtype)
        else:
            found[spec.name] = np.full(shape, max(others, low), dtype)
    return found


def _finding(spec: InputSpec, choice: IndexChoice) -> Diagnostic:
    what = "classes" if not isinstance(choice.node.op, Gather) else "elements"
    low, high = spec.low or 0, (spec.high or 1) - 1
    notes = () if choice.place is None else (Note(f"it chooses one of {choice.count} {what} here", choice.place),)
    if choice.is_own:
        message = (
            f"`{spec.name}` is declared `in {spec.low}..{spec.high}`, but is compared with 0 to {choice.count - 1}"
        )
        advice = hint("a value that equals none of them counts as no class; leave it out of the mean if that is meant")
        return Diagnostic("W0117", message, spec.span, (advice, *notes), "warning")
    message = (
        f"`{spec.name}` is declared `in {spec.low}..{spec.high}`, but chooses among {choice.count} {what}, "
        f"0 to {choice.count - 1}"
    )
    return Diagnostic("E0421", message, spec.span, (hint(_advice(spec, choice, what, low, high)), *notes))


def _advice(spec: InputSpec, choice: IndexChoice, what: str, low: int, high: int) -> str:
    if not choice.is_direct:
        return f"declare the range that the data has, or choose among more {what}"
    if low > 0 and high - low < choice.count:
        renumbered = f"number the data from 0 and declare `in 0..{high - low + 1}`"
        return f"count from 0: compute with `{spec.name} - {low}`, or {renumbered}"
    if low < 0:
        loss = f", or in a loss `ignore = {low}`" if spec.is_target else ""
        return f"mask the places that are left out: `where = {spec.name} >= 0`{loss}"
    return f"declare `{spec.name}` in 0..{choice.count}, or choose among {high + 1} {what}"


def _of_generation(program: Program) -> Iterator[Diagnostic]:
    """E0421: an output that chooses among more tokens than the input that it extends."""
    generation = program.generation
    if generation is None:
        return
    spec = next(spec for spec in program.inputs if spec.name == generation.feed)
    tokens = program.inference_graph.output(generation.source).value.type.shape[-1]
    for choice in choices_of(program.inference_graph):
        is_fed = choice.is_direct and choice.names == (spec.name,) and isinstance(choice.node.op, Gather)
        if is_fed and isinstance(tokens, int) and tokens > choice.count:
            message = (
                f"`{generation.source}` chooses among {tokens} tokens, and `{spec.name}`, which it extends, among "
                f"{choice.count}"
            )
            notes = () if choice.place is None else (Note("it chooses here", choice.place),)
            yield Diagnostic("E0421", message, spec.span, (hint("give both the same vocabulary"), *notes))
            return


# Data


def _wrong_rows(program: Program, choice: IndexChoice, data: Mapping[str, Array], rows: Array) -> Array:
    """Those of the rows in which some integer chooses nothing."""
    found: list[Array] = []
    for first in range(0, len(rows), _CHUNK):
        chosen = rows[first : first + _CHUNK]
        (values,) = _indices(program, choice, data, chosen)
        wrong = (values < 0) | (values >= choice.count)
        found.append(chosen[wrong.reshape(len(chosen), -1).any(axis=1)])
    return np.concatenate(found) if found else rows[:0]


def _indices(program: Program, choice: IndexChoice, data: Mapping[str, Array], rows: Array) -> tuple[Array]:
    """The choosing integers by row; in the body of a scan, those of its first step."""
    from compiler.evaluate import evaluate
    from compiler.graph_passes.eliminate import eliminate_dead  # types bound the integers of most programs

    name = "indices"
    opened = inlined(program.inference_graph)
    whole = replace(opened, outputs=(GraphOutput(name, Role.OUTPUT, choice.indices),))
    graph = eliminate_dead(whole)
    inputs = {n: data[n][rows].astype(numpy_dtype(graph.input(n).value.type.dtype), copy=False) for n in choice.names}
    found = evaluate(graph, inputs, len(rows))[name]
    axis = batch_axis(choice.indices.type.shape)
    if axis is None:  # of no row in particular
        return (np.broadcast_to(found, (len(rows), *found.shape)),)
    return (np.moveaxis(found, axis, 0),)


def _disturbance(program: Program, choice: IndexChoice, outputs: Sequence[str]) -> Disturbance:
    from compiler.choices.disturb import Disturbance  # with the reference, as in `_indices`

    return Disturbance(program.inference_graph, [choice], outputs, _settings(program))


def _row_that_matters(
    program: Program, choice: IndexChoice, data: Mapping[str, Array], rows: Array, outputs: Sequence[str]
) -> int | None:
    """The first of some of the rows on whose choice the outputs depend."""
    if not len(rows):
        return None
    found = _disturbance(program, choice, outputs)
    looked_at = rows[np.unique(np.linspace(0, len(rows) - 1, found.most_rows).astype(np.int64))]

    def matters(part: Array) -> bool:
        names = [spec.name for spec in program.inputs if spec.name in data]
        return found.matters({name: data[name][part] for name in names}, len(part))

    if not matters(looked_at):
        return None
    while len(looked_at) > 1:
        half = len(looked_at) // 2
        looked_at = looked_at[:half] if matters(looked_at[:half]) else looked_at[half:]
    return int(looked_at[0])


def _settings(program: Program) -> dict[str, float]:
    return {s.name: float(s.value) for s in program.settings if isinstance(s.value, int | float)}
