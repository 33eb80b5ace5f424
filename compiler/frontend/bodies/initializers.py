"""How a parameter starts: an initialiser of `.dl` text, elaborated for one shape into a graph of its own."""

from __future__ import annotations

import math
from collections.abc import Callable

from compiler.errors.diagnostics import Span, hint
from compiler.frontend.bodies.statements import run_body
from compiler.frontend.elaborator import Elaborator, Frame
from compiler.frontend.failures import Poisoned, failure
from compiler.frontend.tensors.operators import cast, scalar, spread
from compiler.frontend.values import POISON, FormValue, TensorValue, Value, describe
from compiler.graph.ir import Graph, Role
from compiler.types import DType, TensorType


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """fan_in is the next-to-last axis, fan_out the last, each times all axes before them; a vector's are its length."""
    if len(shape) < 2:
        length = shape[0] if shape else 1
        return length, length
    before = math.prod(shape[:-2])
    return before * shape[-2], before * shape[-1]


def initializer_graph(
    elaborator: Elaborator,
    child: Callable[[str, Frame], Elaborator],
    path: str,
    type_: TensorType,
    value: Value,
    span: Span,
) -> Graph:
    """The graph from `seed` to `value`. Draws depend on the seed and the parameter's path alone."""
    if not isinstance(value, FormValue) or value.declaration.keyword != "init":
        raise failure("E0505", f"an initialiser stands here, not {describe(value)}", span)
    frame = Frame(
        value.module,
        "init",
        value.declaration.name,
        elaborator.session.new_scope(),
        (*elaborator.frame.calls, span),
        path,
        f"{path}#init",
        dict(value.settings or {}),
    )
    shape = tuple(extent for extent in type_.shape if isinstance(extent, int))
    fan_in, fan_out = fans(shape)
    signature = elaborator.session.signature(value.declaration, value.module)
    if len(signature.tensors) != 3:
        raise Poisoned
    frame.variables.update(zip(signature.tensor_names, (fan_in, fan_out, shape), strict=True))
    inner = child(path, frame)
    inner.span = span
    inner.draws_by_seed_alone = True
    inner.takes_settings = False
    inner.input("seed", Role.SEED, TensorType(DType.I64))
    result = run_body(inner, value.declaration.body)
    if result is POISON:
        raise Poisoned
    inner.span = span
    inner.builder.output("value", Role.OUTPUT, _of_type(inner, result, type_, span).value)
    return inner.builder.build()


def _of_type(elaborator: Elaborator, result: Value, type_: TensorType, span: Span) -> TensorValue:
    if isinstance(result, int | float) and not isinstance(result, bool):
        result = scalar(elaborator, result, type_.dtype)
    if not isinstance(result, TensorValue):
        raise failure("E0505", f"an initialiser gives a tensor or a number, not {describe(result)}", span)
    if result.rank and result.shape != type_.shape:
        raise failure(
            "E0505",
            f"the initialiser gives {result.value.type} for a parameter of {type_}",
            span,
            hint("`shape` is the list of its dimensions: `random(shape)`"),
        )
    filled = TensorValue(spread(elaborator, result, type_.shape), result.axes)
    return cast(elaborator, filled, type_.dtype)
