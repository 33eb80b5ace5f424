"""Tensors against the types of a signature: dimension names are bound, element types and sizes checked.

Where a mistake comes from arguments of a loss or metric in each other's place, it advises to exchange them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.frontend.axes import Axis
from compiler.frontend.elaborator import Elaborator, Frame
from compiler.frontend.failures import Failure
from compiler.frontend.scope import Namespace
from compiler.frontend.tensors.operators import cast, computable
from compiler.frontend.tensors.shapes import UNNAMED, origin_notes, shown, shown_axis, shown_shape, whole_dimension
from compiler.frontend.values import TensorValue, TupleValue, Value, describe
from compiler.graph import ir
from compiler.graph.builder import GraphBuilder
from compiler.support.record import record
from compiler.syntax import tree
from compiler.types import DType, Extent, TensorType, widens

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
    return ir.depending(nodes, (entry.value.index for entry in inputs if entry.role is ir.Role.PARAMETER))


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


def is_constant(frame: Frame, name: str) -> bool:
    """Whether a lone name in a type is a setting or a `const` of the file, and not a dimension name."""
    if name in frame.variables:
        return True
    found = frame.module.own.get(Namespace.VALUE, {}).get(name)
    return found is not None and isinstance(found.declaration, tree.Const)


def bind_tensors(
    elaborator: Elaborator, frame: Frame, arguments: Sequence[tuple[tree.Parameter, Value]], call: Span
) -> None:
    """Put the tensors of a call into its frame. Lone names are bound first, then the other dimensions are checked."""
    later: list[tuple[str, TensorValue, tree.Expression, int]] = []
    bound: dict[str, TensorValue] = {}
    for parameter, value in arguments:
        annotation = parameter.annotation
        if isinstance(value, TensorValue) and isinstance(annotation, tree.TensorAnnotation):
            _refuse_exchanged(elaborator, frame, arguments)
            tensor = _with_element_type(elaborator, frame, parameter.name, annotation, value)
            bound[parameter.name] = _Binding(elaborator, frame, parameter.name, annotation, tensor).bound(later)
    for parameter, value in arguments:
        frame.variables[parameter.name] = bound.get(parameter.name, value)
    for name, tensor, expression, place in later:
        wanted = _evaluated(elaborator, frame, expression, call)
        if tensor.shape[place] != wanted:
            found = shown_axis(elaborator, tensor.shape[place], tensor.axes[place])
            elaborator.fail(
                "E0404",
                f"`{frame.name}` needs `{name}` with {_text(expression)} = {wanted}, but `{name}` is "
                f"{shown(elaborator, tensor)}, which has {found} there",
                *origin_notes(elaborator, (tensor.shape[place], tensor.axes[place])),
                *_declared(expression.span),
            )


def _refuse_exchanged(elaborator: Elaborator, frame: Frame, arguments: Sequence[tuple[tree.Parameter, Value]]) -> None:
    """Raise a failure for `accuracy(label, scores)`: classes where scores belong, and scores where classes do."""
    if len(arguments) < 2:
        return
    (first, label), (second, scores) = arguments[:2]
    wants_floats = isinstance(first.annotation, tree.TensorAnnotation) and first.annotation.dtype is None
    if not isinstance(label, TensorValue) or not isinstance(scores, TensorValue) or not wants_floats:
        return
    if second.annotation is None and not label.dtype.is_float and scores.dtype.is_float:
        elaborator.fail(
            "E0416",
            f"`{frame.name}` takes `{first.name}` first and `{second.name}` second, but got {shown(elaborator, label)} "
            f"and {shown(elaborator, scores)}",
            hint(f"exchange the two: `{frame.name}({first.name}, {second.name})`"),
        )


def _with_element_type(
    elaborator: Elaborator, frame: Frame, name: str, annotation: tree.TensorAnnotation, tensor: TensorValue
) -> TensorValue:
    """The tensor in the declared element type; integers and floats may widen, nothing narrows."""
    if annotation.dtype is None:
        if tensor.dtype.is_float:
            return computable(elaborator, tensor)
        ways = {DType.U8: "; pixels are best divided by their largest value, `x / 255`", DType.BOOL: ""}
        more = ways.get(tensor.dtype, "; for classes or tokens, take `one_hot` or `embedding`")
        message = f"`{frame.name}` needs floats for `{name}`, but got {shown(elaborator, tensor)}"
        takes_any = hint(f"where integers are meant, declare `{name}: any[…]`")
        own = () if frame.module.is_library else (takes_any,)
        elaborator.fail("E0416", message, hint(f"convert it with `cast(x, f32)`{more}"), *own)
    if annotation.dtype == tree.ANY:
        return tensor
    wanted = DType(annotation.dtype)
    if tensor.dtype is wanted:
        return tensor
    is_alike = tensor.dtype.is_float is wanted.is_float and DType.BOOL not in (tensor.dtype, wanted)
    if is_alike and widens(tensor.dtype, wanted):
        return cast(elaborator, tensor, wanted)
    message = f"`{frame.name}` needs {wanted.value} for `{name}`, but got {shown(elaborator, tensor)}"
    elaborator.fail("E0416", message, hint(f"convert it with `cast({name}, {wanted.value})` if that is meant"))


@record(eq=False)
class _Binding:
    """A tensor that a call gives to the parameter `name` of a signature."""

    elaborator: Elaborator
    frame: Frame
    name: str
    annotation: tree.TensorAnnotation
    tensor: TensorValue

    def bound(self, later: list[tuple[str, TensorValue, tree.Expression, int]]) -> TensorValue:
        """The tensor with its dimension names; dimensions that are no lone names are put into `later`."""
        tensor = self.tensor
        if self.annotation.dimensions is None:
            return tensor
        axes = list(tensor.axes)
        for expression, place in self._pairs():
            if isinstance(expression, tree.Name) and not is_constant(self.frame, expression.id):
                self._agree(expression, place)
                label = frozenset({(self.frame.scope, expression.id)})
                axes[place] = Axis(axes[place].labels | label, axes[place].origin or expression.span)
            else:
                later.append((self.name, tensor, expression, place))
        return TensorValue(tensor.value, tuple(axes))

    def _pairs(self) -> list[tuple[tree.Expression, int]]:
        """Each declared dimension with the axis that it stands for; the axes of `...` go into the frame."""
        tensor, dimensions = self.tensor, self.annotation.dimensions or ()
        dots = next((i for i, d in enumerate(dimensions) if isinstance(d, tree.EllipsisItem)), None)
        named = [d for d in dimensions if not isinstance(d, tree.EllipsisItem)]
        if tensor.rank < len(named) or (dots is None and tensor.rank != len(named)):
            count = f"{len(named)} dimensions" if len(named) != 1 else "1 dimension"
            at_least = "at least " if dots is not None else ""
            self._fail(
                f"`{self.name}: {shown_annotation(self.annotation)}` with {at_least}{count}, but got {self._shown}",
                *origin_notes(self.elaborator, *zip(tensor.shape, tensor.axes, strict=True)),
                *_declared(self.annotation.span),
            )
        if dots is None:
            return [(d, i) for i, d in enumerate(named)]
        after = tensor.rank - (len(named) - dots)
        self._agree_on_rest(tuple(zip(tensor.shape[dots:after], tensor.axes[dots:after], strict=True)))
        return [(d, i if i < dots else after + i - dots) for i, d in enumerate(named)]

    def _agree_on_rest(self, rest: tuple[tuple[Extent, Axis], ...]) -> None:
        """All `...` of one signature are the same dimensions."""
        known = self.frame.ellipsis
        if known is None:
            self.frame.ellipsis = rest
        elif tuple(e for e, _ in known) != tuple(e for e, _ in rest):
            first = f"[{', '.join(shown_axis(self.elaborator, e, a) for e, a in known)}]"
            self._fail(
                f"the same dimensions for every `...` of its signature: they are {first} first, but `{self.name}` is "
                f"{self._shown}",
                *origin_notes(self.elaborator, *known, *rest),
                *_declared(self.annotation.span),
                *_last_axis_hint(known, rest),
            )

    def _agree(self, name: tree.Name, place: int) -> None:
        """A dimension name: its first use binds it, each later use must agree."""
        frame, extent, axis = self.frame, self.tensor.shape[place], self.tensor.axes[place]
        if name.id not in frame.dimensions:
            frame.dimensions[name.id] = extent
            frame.dimension_origins[name.id] = axis.origin
            return
        known = frame.dimensions[name.id]
        if known != extent:
            first = Axis(origin=frame.dimension_origins.get(name.id))
            self._fail(
                f"one size for `{name.id}`, but it is {known} first, and `{self.name}` is {self._shown}, "
                f"which has {extent} there",
                *origin_notes(self.elaborator, (known, first), (extent, axis)),
                *_declared(name.span),
            )

    @property
    def _shown(self) -> str:
        return shown(self.elaborator, self.tensor)

    def _fail(self, needs: str, *notes: Note) -> NoReturn:
        self.elaborator.fail("E0404", f"`{self.frame.name}` needs {needs}", *notes)


def _last_axis_hint(first: tuple[tuple[Extent, Axis], ...], rest: tuple[tuple[Extent, Axis], ...]) -> tuple[Note, ...]:
    longer, shorter = (first, rest) if len(first) > len(rest) else (rest, first)
    if len(longer) == len(shorter) + 1 and longer[-1][0] == 1:
        return (hint("take the last axis of 1 away with `[..., 0]`, or add one to the other with `[..., None]`"),)
    return ()


def check_results(elaborator: Elaborator, declaration: tree.Callable, value: Value) -> None:
    """The results of a body against the declared ones. The current frame is that of the declaration."""
    annotations = declaration.results
    if not annotations:
        return
    results = value.items if isinstance(value, TupleValue) else (value,)
    if len(results) != len(annotations):
        message = f"`{declaration.name}` declares {len(annotations)} results, but returns {len(results)}"
        elaborator.fail("E0405", message, span=annotations[0].span)
    for annotation, result in zip(annotations, results, strict=True):
        if isinstance(result, TensorValue):
            _check_result(elaborator, declaration, annotation, result)


def _check_result(
    elaborator: Elaborator, declaration: tree.Callable, annotation: tree.TensorAnnotation, result: TensorValue
) -> None:
    frame, wanted, dtype = elaborator.frame, annotation.dtype, result.dtype
    if wanted != tree.ANY and (wanted != dtype.value if wanted is not None else not dtype.is_float):
        elaborator.fail(
            "E0405",
            f"`{declaration.name}` declares a result of {wanted or 'floats'}, but returns {shown(elaborator, result)}",
            span=annotation.span,
        )
    if annotation.dimensions is None:
        return
    expected: list[Extent] = []
    for dimension in annotation.dimensions:
        if isinstance(dimension, tree.EllipsisItem):
            expected += [e for e, _ in frame.ellipsis or ()]
        elif (
            isinstance(dimension, tree.Name)
            and dimension.id not in frame.dimensions
            and not is_constant(frame, dimension.id)
            and len(expected) < result.rank
        ):
            frame.dimensions[dimension.id] = result.shape[len(expected)]
            expected.append(result.shape[len(expected)])
        else:
            expected.append(whole_dimension(elaborator, elaborator.evaluate(dimension)))
    if tuple(expected) != result.shape:
        declared, here = shown_annotation(annotation), f"[{', '.join(map(str, expected))}]"
        elaborator.fail(
            "E0405",
            f"`{declaration.name}` declares the result {declared}{'' if declared == here else f', here {here}'}, "
            f"but returns {shown_shape(elaborator, result)}",
            *origin_notes(elaborator, *zip(result.shape, result.axes, strict=True)),
            span=annotation.span,
        )


def declared_type(elaborator: Elaborator, annotation: tree.TensorAnnotation) -> tuple[TensorType, tuple[Axis, ...]]:
    """The type that an annotation in the body of a declaration stands for, with its dimension names."""
    frame = elaborator.frame
    shape: list[Extent] = []
    axes: list[Axis] = []
    for dimension in annotation.dimensions or ():
        if isinstance(dimension, tree.EllipsisItem):
            if frame.ellipsis is None:
                elaborator.fail(
                    "E0415", "`...` stands for dimensions of the signature, and it has none", span=dimension.span
                )
            shape += [extent for extent, _ in frame.ellipsis]
            axes += [axis for _, axis in frame.ellipsis]
            continue
        shape.append(whole_dimension(elaborator, elaborator.evaluate(dimension)))
        is_name = isinstance(dimension, tree.Name) and dimension.id in frame.dimensions
        labels = frozenset({(frame.scope, dimension.id)}) if is_name and isinstance(dimension, tree.Name) else None
        axes.append(Axis(labels, dimension.span) if labels else Axis(origin=dimension.span))
    if annotation.dtype == tree.ANY:
        message = "`any` stands in the signature of a function or layer, and here the element type must be said"
        elaborator.fail("E0416", message, span=annotation.span)
    dtype = DType(annotation.dtype) if annotation.dtype is not None else DType.F32
    if dtype is DType.BF16:
        elaborator.fail("E0907", "tensors of bf16 are not compiled yet", hint("use f32"), span=annotation.span)
    type_ = TensorType(dtype, tuple(shape))
    elaborator.expect_size(type_)
    return type_, tuple(axes) or (UNNAMED,) * len(shape)


def _evaluated(elaborator: Elaborator, frame: Frame, expression: tree.Expression, call: Span) -> Extent:
    """A dimension of a signature, in the frame of the declaration."""
    before, elaborator.frame = elaborator.frame, frame
    try:
        value = elaborator.evaluate(expression)
        elaborator.span = call
        return whole_dimension(elaborator, value)
    finally:
        elaborator.frame, elaborator.span = before, call


def _declared(span: Span) -> tuple[Note, ...]:
    return () if span.source.is_library else (Note("declared here", span),)


def shown_annotation(annotation: tree.TensorAnnotation) -> str:
    """The type as it was written, without line breaks."""
    dtype = annotation.dtype or ""
    if annotation.dimensions is None:
        return dtype
    parts = ("..." if isinstance(d, tree.EllipsisItem) else _text(d) for d in annotation.dimensions)
    return f"{dtype}[{', '.join(parts)}]"


def _text(expression: tree.Expression) -> str:
    """The source text of a short expression."""
    span = expression.span
    if span.line != span.end_line:
        return "…"
    return span.source.line(span.line)[span.column - 1 : span.end_column - 1]


def expect_tensor(elaborator: Elaborator, value: Value, what: str) -> TensorValue:
    if isinstance(value, TensorValue):
        return value
    elaborator.fail("E0312", f"{what} must be a tensor, not {describe(value)}")
