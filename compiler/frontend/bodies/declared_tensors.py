"""`input`, `target`, `output`, `loss`, `param` and `state`: declared tensors, and these in a graph; and `a, b = …`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.bindings import record_binding
from compiler.frontend.bodies.twin_tensors import follows, role_in, start_path
from compiler.frontend.elaborator import Elaborator, ModelRecord, StatedLoss, joined
from compiler.frontend.failures import Poisoned, failure, nearest
from compiler.frontend.program import InputSpec, ParameterSpec
from compiler.frontend.settings import COMMAND_LINE, OF_THE_DATA
from compiler.frontend.tensors.binding import declared_type, is_constant
from compiler.frontend.tensors.operators import cast, computable, scalar, spread
from compiler.frontend.tensors.shapes import shown, whole_dimension
from compiler.frontend.values import Poison, RunTimeNumber, TensorValue, TupleValue, Value, describe
from compiler.graph import ir
from compiler.graph.ir import Role
from compiler.ops.movement import Slice
from compiler.ops.rules import FLOATS
from compiler.syntax import tree
from compiler.types import BatchExtent, DType, Extent, TensorType, depends_on_batch, is_of_pairs


def declare_parameter(elaborator: Elaborator, statement: tree.ParamDeclaration) -> TensorValue:
    """The value of a parameter of the layer or model whose body is running."""
    elaborator.span = statement.span
    _expect_owner(elaborator)
    type_, axes = declared_type(elaborator, statement.annotation)
    elaborator.span = statement.span
    if type_.dtype not in FLOATS:
        notes = [hint("declare it f32; `cast(…, f16)` rounds results of it")] if type_.dtype.is_float else []
        elaborator.fail("E0416", f"a parameter holds floats to compute with, and `{statement.name}` is {type_}", *notes)
    return TensorValue(_tensor(elaborator, statement, Role.PARAMETER, type_), axes)


def declare_state(elaborator: Elaborator, statement: tree.StateDeclaration) -> TensorValue:
    """The value of a state; in an optimizer, its shape defaults to that of `p`, in a schedule it is a number."""
    elaborator.span = statement.span
    if elaborator.frame.keyword in ("optimizer", "schedule"):
        return elaborator.declare_optimizer_state(statement)
    _expect_owner(elaborator)
    if statement.annotation is None:
        elaborator.fail("E0415", f"the state `{statement.name}` needs a type", hint("such as `state s: [n] = zeros`"))
    type_, axes = declared_type(elaborator, statement.annotation)
    elaborator.span = statement.span
    path = _path(elaborator, statement.name)
    elaborator.frame.states[statement.name] = path
    _tensor(elaborator, statement, Role.STATE, type_)
    return TensorValue(elaborator.state(path), axes)


def _expect_owner(elaborator: Elaborator) -> None:
    if not elaborator.frame.makes_instances:
        raise Poisoned  # the check of names has told


def _path(elaborator: Elaborator, name: str) -> str:
    return joined(elaborator.frame.path, name, *map(str, elaborator.frame.rounds))


def _tensor(
    elaborator: Elaborator, statement: tree.ParamDeclaration | tree.StateDeclaration, role: Role, type_: TensorType
) -> ir.Value:
    path = _path(elaborator, statement.name)
    declared, role = role, role_in(elaborator.frame, role)
    known = elaborator.session.parameters.get(path)
    if known is None:
        _declare(elaborator, statement, path, declared, type_)
    elif known.type != type_ and elaborator.applies_trained:
        message = f"`{path}` of the model is {known.type}; here it would have to be {type_}"
        elaborator.fail("E0502", message, hint("give the layer a tensor of the size that the model gives it"))
    elif known.type != type_:
        elaborator.fail(
            "E0502",
            f"`{path}` is shared with an earlier application of this layer, where it is {known.type}; here it would be "
            f"{type_}",
            hint("apply a layer of its own here: `fresh(layer)`"),
        )
    elif known.span != statement.span:
        elaborator.fail("E0507", f"`{path}` is declared twice", Note("first declared here", known.span))
    return elaborator.input(path, role, type_)


def _declare(
    elaborator: Elaborator,
    statement: tree.ParamDeclaration | tree.StateDeclaration,
    path: str,
    role: Role,
    type_: TensorType,
) -> None:
    if depends_on_batch(type_.shape):
        elaborator.fail(
            "E0410",
            f"`{statement.name}` is {type_}, but a tensor that is saved with the model cannot depend on the batch",
            hint("give it sizes that are known before the program runs"),
            span=statement.annotation.span if statement.annotation else statement.span,
        )
    if 0 in type_.shape:
        elaborator.fail(
            "E0413", f"`{path}` would be {type_}, which has no elements", hint("make the axis at least 1 long")
        )
    value = elaborator.evaluate_initializer(statement.initializer)
    frame = elaborator.frame
    initializer = elaborator.initializer_graph(start_path(frame, path), type_, value, statement.initializer.span)
    elaborator.session.trace.initializers[path] = value
    average, stored = follows(frame, path, role)
    elaborator.session.parameters[path] = ParameterSpec(
        path,
        role_in(frame, role),
        type_,
        initializer,
        statement.span,
        frame.calls,
        twin=frame.twin[0] if frame.twin is not None else "",
        average=average,
        stored=stored,
    )


def update_state(elaborator: Elaborator, statement: tree.StateUpdate) -> None:
    """`mean <- value`: seen by the next application."""
    frame, name = elaborator.frame, statement.target.id
    path = frame.states.get(name)
    if path is None:
        raise Poisoned  # the check of names has told
    if not elaborator.training:
        message = f"`{name} <- …` would change a state during inference"
        raise failure("E0503", message, statement.span, hint("put it under `if training { … }`"))
    old = frame.variables[name]
    value = elaborator.evaluate(statement.value)
    elaborator.span = statement.span
    if isinstance(old, Poison):
        raise Poisoned
    assert isinstance(old, TensorValue)
    frame.pending[path] = like(elaborator, f"`{name}`", old.value.type, old.axes, value, statement.value.span).value


def like(
    elaborator: Elaborator, what: str, type_: TensorType, axes: tuple[Axis, ...], value: Value, span: Span
) -> TensorValue:
    """A new value of a state: a number, or a tensor of the same type."""
    if isinstance(value, (RunTimeNumber, int, float)):
        return TensorValue(spread(elaborator, scalar(elaborator, value, type_.dtype), type_.shape), axes)
    if not isinstance(value, TensorValue):
        elaborator.fail("E0503", f"{what} is a tensor; {describe(value)} cannot be its next value", span=span)
    new = value if value.dtype is type_.dtype else computable(elaborator, value)
    is_wider = type_.dtype.is_float and not new.dtype.is_float
    if value.shape != type_.shape or (new.dtype is not type_.dtype and not is_wider):
        message = f"{what} is {type_}, and keeps its type; the next value is {shown(elaborator, value)}"
        elaborator.fail("E0503", message, span=span)
    return TensorValue(cast(elaborator, new, type_.dtype).value, axes)


def assign_state(elaborator: Elaborator, target: tree.Name, value: Value, span: Span) -> Value:
    """Plain assignment to a state: the update of an optimizer's or a schedule's, a mistake elsewhere."""
    if elaborator.frame.keyword not in ("optimizer", "schedule"):
        message = f"`{target.id}` is a state of this layer, which `=` does not change"
        raise failure("E0503", message, target.span, hint(f"`{target.id} <- …` gives it its next value"))
    old = elaborator.frame.variables[target.id]
    if isinstance(old, Poison):
        return value
    assert isinstance(old, TensorValue)
    elaborator.span = span
    new = like(elaborator, f"`{target.id}`", old.value.type, old.axes, value, span)
    return old if elaborator.keeps_states else new


def declare_input(elaborator: Elaborator, statement: tree.InputDeclaration) -> None:
    """An input or target becomes an input of the graph."""
    frame, model = elaborator.frame, _record(elaborator, statement.span, statement.keyword)
    elaborator.span = statement.annotation.span
    _expect_new_name(elaborator, model, statement.name, statement.span)
    unknown = _bind_free_dimensions(elaborator, statement)
    type_, axes = declared_type(elaborator, statement.annotation)
    if not type_.shape or type_.shape[0] != BatchExtent():
        message = f"the first dimension of an input is `batch`, but `{statement.name}` is {type_}"
        advice = hint(f"declare it as {type_.dtype.value}[batch, …]")
        elaborator.fail("E0410", message, advice, span=statement.annotation.span)
    low, high = _limits(elaborator, statement, type_)
    if is_of_pairs(type_.shape):
        message = f"`{statement.name}` is {type_}, but data has elements for each row, not for pairs of rows"
        advice = hint("make pairs from rows, such as `x @ x.T`")
        elaborator.fail("E0410", message, advice, span=statement.annotation.span)
    names = tuple(next((name for number, name in axis.labels if number == frame.scope), None) for axis in axes)
    is_target = statement.keyword == "target"
    end = end_of_range(statement)
    decided = end.id if end is not None and not is_constant(frame, end.id) else None
    spec = InputSpec(statement.name, type_, is_target, low, high, statement.span, names, decided)
    fed = _column_of(model, statement, spec)
    elaborator.session.inputs[fed.name] = fed
    if unknown:
        _ask_for(elaborator, unknown)
    _add(elaborator, model, spec, axes, fed)
    if statement.mask is not None:
        _declare_mask(elaborator, model, spec, axes, statement.mask)


def _column_of(model: ModelRecord, statement: tree.InputDeclaration, spec: InputSpec) -> InputSpec:
    """The column of the data that an input shows: its own, but for a view."""
    column = model.columns.get(spec.name)
    if column is None or spec.is_target or column.id == spec.name:
        return spec
    if statement.mask is not None:
        message = f"`{spec.name}` is a view of the column `{column.id}`, and `padded by` asks for a mask of its own"
        advice = hint(f"declare an input `{column.id}` that is padded, and show it: `view {column.id}, … = …`")
        raise failure("E0613", message, statement.span, advice)
    of_views = {other.span for other in model.columns.values()}
    declared = next((s for s in model.inputs if s.name == column.id and s.span not in of_views), None)
    if declared is not None and declared.type != spec.type:
        _expect_part(spec, declared)
        return declared
    return replace(spec, name=column.id, span=column.span)


def _expect_part(spec: InputSpec, column: InputSpec) -> None:
    """A view may be smaller than its column, whose middle it is where nothing is drawn."""
    one, whole = spec.type, column.type
    pairs = zip(one.shape[1:], whole.shape[1:], strict=False)
    fits = all(isinstance(n, int) and isinstance(most, int) and n <= most for n, most in pairs)
    is_alike = (one.dtype, one.rank, spec.low, spec.high) == (whole.dtype, whole.rank, column.low, column.high)
    if not fits or not is_alike:
        message = (
            f"`{spec.name}` is {_limited(spec)}, which is no part of the column `{column.name}`, {_limited(column)}"
        )
        advice = hint("a view has the element type and the axes of its column, each as long or shorter")
        raise failure("E0613", message, spec.span, Note("the column is declared here", column.span), advice)


def _middle(elaborator: Elaborator, column: ir.Value, spec: InputSpec) -> ir.Value:
    """What stands for a view of this type in an evaluation: the column, or its middle."""
    if column.type == spec.type:
        return column
    pairs = zip(column.type.shape, spec.type.shape, strict=True)
    starts = tuple((most - n) // 2 if isinstance(most, int) and isinstance(n, int) else 0 for most, n in pairs)
    return elaborator.emit(Slice(starts, spec.type.shape, (1,) * spec.type.rank), column)


def _add(
    elaborator: Elaborator, model: ModelRecord, spec: InputSpec, axes: tuple[Axis, ...], fed: InputSpec | None = None
) -> None:
    """A value in the graph for an input; `fed` is the column of the data that it shows, where that has another name.

    Only training has views. In other graphs, each is the column itself, or its middle where it is smaller.
    """
    fed = fed or spec
    is_view = spec.name in model.columns and not spec.is_target
    if elaborator.training:
        value = elaborator.input(spec.name, Role.DATA, spec.type)
    else:
        value = _middle(elaborator, elaborator.input(fed.name, Role.DATA, fed.type), spec)
    tensor = elaborator.frame.variables[spec.name] = TensorValue(value, axes)
    record_binding(elaborator, spec.name, spec.span, tensor)
    if is_view:
        model.views[spec.name] = spec
    known = next((other for other in model.inputs if other.name == fed.name), None)
    if known is None:
        model.inputs.append(fed)
        return
    if fed is spec:
        model.inputs[model.inputs.index(known)] = spec
    if (known.type, known.low, known.high) != (fed.type, fed.low, fed.high):
        message = f"`{spec.name}` is {_limited(spec)}, and another view of the column `{fed.name}` is {_limited(known)}"
        declared = f"put `input {fed.name}: …`, with the type of the data, above them"
        advice = hint(f"views of other sizes are parts of a column that is declared: {declared}")
        raise failure("E0613", message, spec.span, advice)


def _limited(spec: InputSpec) -> str:
    return f"{spec.type}" if spec.low is None else f"{spec.type} in {spec.low}..{spec.high}"


def _declare_mask(
    elaborator: Elaborator, model: ModelRecord, padded: InputSpec, axes: tuple[Axis, ...], name: str
) -> None:
    """`padded by mask`: true where a row of the padded input has an element along its second dimension."""
    if padded.type.rank < 2:
        message = f"`padded by` is about the second dimension, and `{padded.name}` is {padded.type}"
        elaborator.fail("E0410", message, hint(f"declare it as {padded.type.dtype.value}[batch, time]"))
    _expect_new_name(elaborator, model, name, padded.span)
    type_ = TensorType(DType.BOOL, padded.type.shape[:2])
    names = padded.dimension_names[:2]
    spec = InputSpec(name, type_, padded.is_target, None, None, padded.span, names, mask_of=padded.name)
    elaborator.session.inputs[spec.name] = spec
    _add(elaborator, model, spec, axes[:2])


def _bind_free_dimensions(elaborator: Elaborator, statement: tree.InputDeclaration) -> list[tree.Name]:
    """Bind names that no setting binds: `batch`, and sizes from the data or the command line.

    Gives those that nothing says; they are 1 for the moment.
    """
    frame = elaborator.frame
    unknown: list[tree.Name] = []
    end = end_of_range(statement) if statement.keyword == "input" else None
    for dimension in (*(statement.annotation.dimensions or ()), *([] if end is None else [end])):
        if not isinstance(dimension, tree.Name) or dimension.id in frame.dimensions:
            continue
        if is_constant(frame, dimension.id):
            continue
        extent = BatchExtent() if dimension.id == "batch" else _extent_of(elaborator, dimension.id)
        if extent is None:
            unknown.append(dimension)
        frame.dimensions[dimension.id] = 1 if extent is None else extent
        frame.dimension_origins[dimension.id] = dimension.span
    return unknown


def end_of_range(statement: tree.InputDeclaration) -> tree.Name | None:
    """`vocab` in `in 0..vocab`: of an input, a name that nothing else binds is a dimension of the data."""
    limits = statement.range
    return limits.stop if isinstance(limits, tree.Range) and isinstance(limits.stop, tree.Name) else None


def _extent_of(elaborator: Elaborator, name: str) -> Extent | None:
    """A dimension of the data, recorded as a setting of the experiment."""
    settings = elaborator.session.settings
    override = settings.take(name)
    if override is not None:
        value = elaborator.evaluate(override.as_expression)
        elaborator.span = override.span
        extent = whole_dimension(elaborator, value, f"`{name}`")
        settings.record(name, value, COMMAND_LINE)
        return extent
    extent = elaborator.session.dimensions.get(name)
    if extent is not None:
        settings.record(name, extent, OF_THE_DATA)
    return extent


def _ask_for(elaborator: Elaborator, unknown: list[tree.Name]) -> NoReturn:
    """Remember what only the data can say; without it, that is a mistake."""
    frame = elaborator.frame
    for dimension in unknown:
        del frame.dimensions[dimension.id]
        elaborator.session.open_dimensions.setdefault(dimension.id, dimension.span)
    name = unknown[0].id
    message = f"nothing says how large `{name}` is"
    advice = hint(f"add the data, or give it by `--set {name}=…`, or as a setting: `model M({name} = …)`")
    elaborator.fail("E0415", message, *nearest(name, ("batch", *frame.variables)), advice, span=unknown[0].span)


def _limits(
    elaborator: Elaborator, statement: tree.InputDeclaration, type_: TensorType
) -> tuple[int | None, int | None]:
    if statement.range is None:
        return None, None
    value = elaborator.evaluate(statement.range)
    elaborator.span = statement.range.span
    if not isinstance(value, range):
        elaborator.fail("E0312", f"`in` gives the limits of an input as a range, not as {describe(value)}")
    if type_.dtype.is_float or type_.dtype is DType.BOOL:
        elaborator.fail("E0416", f"`in` limits integers, and `{statement.name}` is {type_}")
    return value.start, value.stop


def declare_output(elaborator: Elaborator, statement: tree.OutputDeclaration) -> None:
    model = _record(elaborator, statement.span, "output")
    value = elaborator.evaluate(statement.value)
    elaborator.span = statement.span
    is_several = len(statement.names) > 1
    items = unpacked(value, len(statement.names), statement.span) if is_several else (value,)
    for name, item in zip(statement.names, items, strict=True):
        if not isinstance(item, TensorValue):
            elaborator.fail("E0312", f"the output `{name.id}` must be a tensor, not {describe(item)}", span=name.span)
        _expect_rows(elaborator, name, item)
        _expect_new_name(elaborator, model, name.id, name.span)
        model.outputs[name.id] = item
        elaborator.frame.variables[name.id] = item
        record_binding(elaborator, name.id, name.span, item)


def _expect_rows(elaborator: Elaborator, name: tree.Name, item: TensorValue) -> None:
    if is_of_pairs(item.shape):
        told = shown(elaborator, item)
        message = f"the output `{name.id}` is {told}: a prediction has elements for each row, not for pairs of rows"
        fix = "reduce an axis of the batch, as in `max(…, axis = 1)`, or output the vectors, which a reader can pair"
        elaborator.fail("E0410", message, hint(fix), span=name.span)


def declare_loss(elaborator: Elaborator, statement: tree.LossDeclaration) -> None:
    """`loss balance = value`: a part of the training loss. The name means the value in this body."""
    frame, name = elaborator.frame, statement.name
    _expect_a_place_for_losses(elaborator, name)
    value = elaborator.evaluate(statement.value)
    elaborator.span = statement.value.span
    loss = _scalar_loss(elaborator, name.id, value)
    first = frame.losses.setdefault((name.id, frame.rounds), name.span)
    if first is not name.span:
        message = f"the {frame.keyword} `{frame.name}` states a loss `{name.id}` already"
        elaborator.fail("E0202", message, Note("first stated here", first), hint("use another name"), span=name.span)
    frame.variables[name.id] = loss
    record_binding(elaborator, name.id, name.span, loss)
    if elaborator.model is not None:
        elaborator.model.losses.setdefault(name.id, StatedLoss(name.span)).values.append(loss)


def _expect_a_place_for_losses(elaborator: Elaborator, name: tree.Name) -> None:
    """A value that only a step of a `scan` knows, or that gradients do not reach, is no part of the training loss."""
    is_in_scan = bool(elaborator.scans)
    if elaborator.frame.keyword not in ("layer", "model") or (
        is_in_scan and elaborator.scans[-1].frame is elaborator.frame
    ):
        raise Poisoned  # the check of names has told
    if is_in_scan:
        message = f"the loss `{name.id}` is stated in the body of a `scan`, where each step has a value of its own"
        advice = hint("give that value with `emit`, and state the loss behind the `scan`: `loss name = mean(values)`")
        elaborator.fail("E0205", message, advice, span=name.span)
    if elaborator.has_own_gradient:
        message = f"the loss `{name.id}` is stated where a `gradient` clause says the derivative, which knows no loss"
        elaborator.fail("E0205", message, hint("state it in the layer around, or leave the clause out"), span=name.span)


def _scalar_loss(elaborator: Elaborator, name: str, value: Value) -> TensorValue:
    if not isinstance(value, TensorValue):
        elaborator.fail("E0604", f"the loss `{name}` must be a scalar tensor, not {describe(value)}")
    if value.rank:
        message = f"the loss `{name}` must be a scalar, but has the type {shown(elaborator, value)}"
        elaborator.fail("E0604", message, hint("`mean(…)` or `sum(…)` reduces it to one number"))
    if not value.dtype.is_float:
        message = f"the loss `{name}` must be a float, but has the type {shown(elaborator, value)}"
        elaborator.fail("E0604", message, hint("no gradient goes through integers and booleans"))
    if elaborator.directions.get(value.value.index):
        advice = hint("state a value that training should minimise, or the negative of this one")
        elaborator.fail("E0604", f"training makes `{name}` small, and a large value of this is good", advice)
    return computable(elaborator, value)


def _record(elaborator: Elaborator, span: Span, keyword: str) -> ModelRecord:
    allowed = ("model", "sample") if keyword == "output" else ("model", "train")
    if elaborator.model is None or elaborator.frame.keyword not in allowed or elaborator.scans:
        raise failure("E0205", f"`{keyword}` stands in a model only", span)
    return elaborator.model


def _expect_new_name(elaborator: Elaborator, model: ModelRecord, name: str, span: Span) -> None:
    """Inputs and outputs are known to data and predictions by their names."""
    of_views = {column.id: column.span for column in model.columns.values()}
    declared = (spec for spec in (*model.inputs, *model.views.values()) if spec.name == name)
    first = next((spec.span for spec in declared if spec.span != of_views.get(name)), None)
    if first is not None or name in model.outputs:
        notes = () if first is None else (Note("first declared here", first),)
        kind = "output" if first is None else "input"
        owner = "sample" if elaborator.frame.keyword == "sample" else "model"
        raise failure("E0202", f"the {owner} has an {kind} `{name}` already", span, hint("use another name"), *notes)


def unpacked(value: Value, count: int, span: Span, of_scan: bool = False) -> Sequence[Value]:
    """The items of a tuple or list for that many names. `of_scan`: the value is the result of a `scan`."""
    items: Sequence[Value]
    match value:
        case TupleValue(items):
            pass
        case tuple():
            items = value
        case _:
            raise failure(
                "E0309", f"{count} names are given, but the value is {describe(value)}", span, *_hint(value, of_scan)
            )
    if len(items) != count:
        raise failure("E0309", f"{count} names are given for {len(items)} values", span, *_hint(value, of_scan))
    return items


def _hint(value: Value, of_scan: bool) -> tuple[Note, ...]:
    if of_scan:
        return (hint("a `scan` gives a stack for each value that it emits, then its last carries"),)
    return (hint("`split(x, n)` cuts a tensor into parts"),) if isinstance(value, TensorValue) else ()
