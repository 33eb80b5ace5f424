"""Exchanged arguments of a loss or metric: prediction and target in each other's place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from compiler.errors.diagnostics import Diagnostic, hint
from compiler.frontend.failures import Failure
from compiler.frontend.values import TensorValue, Value
from compiler.graph import ir
from compiler.graph.builder import GraphBuilder
from compiler.syntax import tree

_SAID = ("logits", "log_probability", "probability", "prediction", "score", "scores")
"""Names of parameters for the output of a model, in the library and as a rule elsewhere."""
_TRUE = ("label", "target")


def places_of(parameters: Collection[str]) -> tuple[str, str] | None:
    """The parameter for the output of the model and that for the target; None of a function that has not both."""
    said = next((name for name in _SAID if name in parameters), None)
    true = next((name for name in _TRUE if name in parameters), None)
    return None if said is None or true is None else (said, true)


def learned_values(inputs: Iterable[ir.GraphInput], nodes: Iterable[ir.Node]) -> set[int]:
    """The indices of the values that depend on a parameter of the model. `nodes` are in the order of evaluation."""
    found = {entry.value.index for entry in inputs if entry.role is ir.Role.PARAMETER}
    for node in nodes:
        if any(operand.index in found for operand in node.operands):
            found.update(result.index for result in node.results)
    return found


def are_exchanged(operands: Mapping[str, ir.Value], learned: Collection[int]) -> bool:
    """Whether the data stands where a function of both takes the output of the model, and this in its place."""
    places = places_of(operands)
    if places is None:
        return False
    said, true = places
    return operands[said].index not in learned and operands[true].index in learned


def with_exchange(
    builder: GraphBuilder,
    failure: Failure,
    declaration: tree.Callable,
    arguments: Iterable[tuple[tree.Parameter, Value]],
) -> Failure:
    """A mistake in the call of a function, which advises to exchange its arguments where they are exchanged."""
    operands = {parameter.name: value.value for parameter, value in arguments if isinstance(value, TensorValue)}
    if places_of(operands) is None or not are_exchanged(operands, learned_values(builder.inputs, builder.nodes)):
        return failure
    return Failure(advised(failure.diagnostic, declaration.name, operands))


def advised(mistake: Diagnostic, name: str, parameters: Collection[str]) -> Diagnostic:
    """The mistake with the advice to exchange the arguments of the function `name`.

    It takes the place of others, which would lead to a call that is accepted and means nothing; sizes that do not agree
    have to, in either order.
    """
    places = places_of(parameters)
    assert places is not None
    said, true = places
    advice = hint(f"exchange the two: `{name}({said}, {true})` takes the prediction first, then the {true}")
    kept = tuple(note for note in mistake.notes if note.kind != "hint" or mistake.code == "E0404")
    return replace(mistake, notes=(*kept, advice))
