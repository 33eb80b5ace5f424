"""`average(encoder, 0.996)` and `frozen("w.safetensors", encoder)`: instances of a layer that are not trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from compiler.errors.diagnostics import hint
from compiler.frontend.bodies.instances import settle
from compiler.frontend.bodies.setting_binding import ready
from compiler.frontend.elaborator import Frame
from compiler.frontend.settings import plain
from compiler.frontend.tensors.operators import cast, scalar
from compiler.frontend.values import FormValue, LayerInstance, TensorValue, Twin, Value, describe, is_number
from compiler.graph.ir import Graph, Role
from compiler.syntax import tree
from compiler.types import DType, TensorType

if TYPE_CHECKING:
    from compiler.frontend.bodies.evaluate import Evaluator

_SCALAR = TensorType(DType.F32)


def _averaged(evaluator: Evaluator, layer: Value, momentum: Value, token: tree.Name | None) -> LayerInstance:
    """A copy of a layer that follows it."""
    source = _layer_of(evaluator, "average", layer)
    if source.twin is not None:
        advice = hint("follow a layer that is trained")
        evaluator.fail("E0508", "`average` follows the parameters of a layer, and this one has none of its own", advice)
    if source.path is None:
        settle(evaluator.session, source)
    copy = _copy(evaluator, "average", source, token)
    copy.twin = Twin(source, evaluator.here, _momentum(evaluator, momentum))
    return copy


def _stored(evaluator: Evaluator, file: Value, layer: Value, at: Value, token: tree.Name | None) -> LayerInstance:
    """A copy of a layer with the tensors of a file."""
    if not isinstance(file, str) or not file:
        evaluator.fail("E0312", f"`frozen` takes the path of a file or a run first, not {describe(file)}")
    if at is not None and not isinstance(at, str):
        evaluator.fail("E0312", f"`at` is the path of the layer in the file, a text, not {describe(at)}")
    source = _layer_of(evaluator, "frozen", layer)
    if evaluator.model is None:
        advice = hint("give the layer itself, which has its start values there")
        evaluator.fail("E0508", "`frozen` stands where no file is read: weights belong to a model", advice)
    copy = _copy(evaluator, "frozen", source, token)
    copy.twin = Twin(source, evaluator.here, None, file, at)
    return copy


TWINS: Mapping[str, Callable[..., LayerInstance]] = {"average": _averaged, "frozen": _stored}


def _layer_of(evaluator: Evaluator, function: str, layer: Value) -> LayerInstance:
    if not isinstance(layer, LayerInstance):
        evaluator.fail("E0312", f"`{function}` makes an instance of a layer, not of {describe(layer)}")
    return layer


def _copy(evaluator: Evaluator, function: str, source: LayerInstance, token: tree.Name | None) -> LayerInstance:
    """A new instance of its kind, with all layers in it."""
    own = {id(child) for _, child in source.children}
    for name, value in source.settings.items():
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, LayerInstance) and id(item) not in own:
                message = f"`{name}` of this layer is an instance from elsewhere, which `{function}` cannot copy"
                evaluator.fail("E0508", message, hint("make it in the arguments: `wrap(cell = dense(4))`"))
    return evaluator.fresh(source, token)


def _momentum(evaluator: Evaluator, value: Value) -> Graph:
    """How much of the average stays in a step, of the number t of the updates made so far."""
    span, frame = evaluator.here, evaluator.frame
    inner = evaluator.child(
        "momentum", Frame(frame.module, "fn", "average", evaluator.session.new_scope(), frame.calls)
    )
    inner.span = span
    t = TensorValue(inner.input("t", Role.DATA, _SCALAR), ())
    if is_number(value):
        _expect_share(evaluator, value)
        result: Value = scalar(inner, value, DType.F32)
    elif isinstance(value, FormValue) and value.declaration.keyword == "fn":
        result = inner.call(value, (ready(t, span),), ())
    else:
        advice = hint("give a number from 0 to 1, or a function of t, the updates made so far: `fn m(t) = …`")
        evaluator.fail("E0312", f"the momentum of an average is no {describe(value)}", advice)
    inner.span = span
    if is_number(result):
        result = scalar(inner, result, DType.F32)
    if not isinstance(result, TensorValue) or result.rank:
        evaluator.fail("E0312", f"the momentum of an average is a scalar, not {describe(result)}")
    inner.builder.output("momentum", Role.OUTPUT, cast(inner, result, DType.F32).value)
    return inner.builder.build()


def _expect_share(evaluator: Evaluator, value: Value) -> None:
    number = plain(value)
    for limit in ((">=", 0), ("<=", 1)):
        evaluator.session.limit(value, limit)
    if isinstance(number, int | float) and not 0 <= number <= 1:
        advice = hint("0.996 keeps most of the average, and takes 0.004 of the new weights in a step")
        evaluator.fail("E0508", f"the momentum of an average lies between 0 and 1, and this is {number:g}", advice)
