"""Settings of a call: the given ones, those that the command line replaces, and defaults, each against its type."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import NoReturn

from compiler.errors.diagnostics import Note, Span, hint
from compiler.errors.other_names import IN_CALLS
from compiler.frontend.bodies.instances import adopt
from compiler.frontend.elaborator import Elaborator, Frame
from compiler.frontend.failures import Poisoned, nearest
from compiler.frontend.scope import ModuleScope, Namespace
from compiler.frontend.settings import COMMAND_LINE
from compiler.frontend.signature import Signature
from compiler.frontend.values import (
    AxisName,
    BatchValue,
    BuiltinValue,
    ExceptAxes,
    FormValue,
    LayerInstance,
    Poison,
    RunTimeNumber,
    Value,
    describe,
    holds_tensor,
    is_number,
)
from compiler.support.record import record
from compiler.syntax import tree


@record
class Argument:
    """One argument: its expression, and its value where it is already known."""

    expression: tree.Expression | None
    value: Value
    is_evaluated: bool
    span: Span


def ready(value: Value, span: Span) -> Argument:
    return Argument(None, value, True, span)


def written(call: tree.Call) -> tuple[tuple[Argument, ...], tuple[tuple[str, Argument], ...]]:
    """The arguments of a call, not evaluated yet."""
    positional = [Argument(e, None, False, e.span) for e in call.positional]
    keywords = [(k.name, Argument(k.value, None, False, k.span)) for k in call.keywords]
    return tuple(positional), tuple(keywords)


def counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number or 'no'} {noun}s"


def _a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


class SettingBinder(Elaborator):
    """The part of the evaluator that gives declarations their settings."""

    def argument_value(self, argument: Argument, kind: str) -> Value:
        """The value of an argument, evaluated as its parameter asks: as an axis, a dimension or an initialiser."""
        if argument.is_evaluated or argument.expression is None:
            if isinstance(argument.value, Poison):
                raise Poisoned
            return argument.value
        match kind:
            case "axis":
                return self.evaluate_axis(argument.expression)
            case "dimension":
                return self.evaluate_dimension(argument.expression)
            case "init":
                return self.evaluate_initializer(argument.expression)
            case "schedule":
                return self.evaluate_form(Namespace.SCHEDULE, argument.expression, "")
            case _:
                return self.evaluate(argument.expression)

    @abstractmethod
    def evaluate_dimension(self, expression: tree.Expression) -> Value:
        """As `evaluate`; a bare dimension name keeps its name on the axis."""

    def bind_settings(
        self,
        signature: Signature,
        module: ModuleScope,
        arguments: Sequence[Argument],
        keywords: Sequence[tuple[str, Argument]],
        prefix: str | None = None,
        receiver: LayerInstance | None = None,
    ) -> dict[str, Value]:
        """The settings of a declaration, from a call and its defaults.

        With a `prefix` they are recorded as settings of the experiment, which the command line may override.
        """
        given = self._given(signature, arguments, keywords)
        values: dict[str, Value] = {}
        for parameter in signature.settings:
            kind = signature.types[parameter.name]
            full = parameter.name if not prefix else f"{prefix}.{parameter.name}"
            value, origin, span = self._setting(signature, module, parameter, given, values, prefix, full)
            value = coerce_setting(self, signature.declaration.name, parameter, kind, value, span)
            if receiver is not None:
                adopt(receiver, parameter.name, value)
            if prefix is not None:
                value = self._recorded(full, value, origin)
            values[parameter.name] = value
        return values

    def _given(
        self, signature: Signature, arguments: Sequence[Argument], keywords: Sequence[tuple[str, Argument]]
    ) -> dict[str, Argument]:
        name = signature.declaration.name
        if len(arguments) > len(signature.settings):
            names = ", ".join(signature.setting_names)
            count = counted(len(signature.settings), "setting")
            self.fail(
                "E0303",
                f"`{name}` takes {count}, but {len(arguments)} are given",
                *([hint(f"its settings are {names}")] if names else []),
            )
        given = {p.name: a for p, a in zip(signature.settings, arguments, strict=False)}
        for key, argument in keywords:
            if not signature.takes_setting(key):
                self.unknown_keyword(name, key, argument.span, list(signature.setting_names))
            if key in given:
                self.fail("E0303", f"`{key}` is given twice to `{name}`", span=argument.span)
            given[key] = argument
        return given

    def _setting(
        self,
        signature: Signature,
        module: ModuleScope,
        parameter: tree.Parameter,
        given: Mapping[str, Argument],
        values: Mapping[str, Value],
        prefix: str | None,
        full: str,
    ) -> tuple[Value, str, Span]:
        """The value of one setting, who decided it, and the place that a message shows."""
        kind = signature.types[parameter.name]
        override = self.session.settings.take(full) if prefix is not None else None
        if override is not None:
            is_text = kind == "string" or isinstance(parameter.default, tree.Text)
            expression = override.as_text if is_text else override.as_expression
            return self._evaluated_setting(kind, expression, full, prefix), COMMAND_LINE, override.span
        argument = given.get(parameter.name)
        if argument is not None:
            if kind == "schedule" and argument.expression is not None:
                value = self._evaluated_setting(kind, argument.expression, full, prefix)
            else:
                value = self.argument_value(argument, kind)
            return value, "generate" if self.frame.keyword == "generate" else "train", argument.span
        if parameter.default is None:
            name = signature.declaration.name
            self.fail("E0302", f"`{name}` needs the setting `{parameter.name}`", *self._needs(signature))
        call = self.here
        before, self.frame = self.frame, self._default_frame(signature, module, values)
        try:
            value = self._evaluated_setting(kind, parameter.default, full, prefix)
        finally:
            self.frame = before
        self.span = call
        return value, "default", call

    def _default_frame(self, signature: Signature, module: ModuleScope, values: Mapping[str, Value]) -> Frame:
        """Defaults see the settings before them, and make layers where the caller could."""
        frame = self.frame
        declaration = signature.declaration
        is_owner = isinstance(declaration, tree.Model) or declaration.keyword == "layer"
        keyword = frame.keyword if is_owner else "fn"
        return Frame(
            module,
            keyword,
            signature.declaration.name,
            frame.scope,
            (*frame.calls, self.here),
            frame.path,
            frame.application,
            dict(values),
            rounds=frame.rounds,
            variable=frame.variable,
        )

    def _evaluated_setting(self, kind: str, expression: tree.Expression, full: str, prefix: str | None) -> Value:
        match kind:
            case "axis":
                return self.evaluate_axis(expression)
            case "init":
                return self.evaluate_initializer(expression)
            case "schedule":
                return self.evaluate_form(Namespace.SCHEDULE, expression, full if prefix is not None else "")
            case _:
                return self.evaluate(expression)

    def _recorded(self, full: str, value: Value, origin: str) -> Value:
        """Record a setting of the experiment; a float becomes a number that is passed at run time."""
        if isinstance(value, float):
            value = RunTimeNumber(full, value, frozenset({full}))
        self.session.settings.record(full, value, origin)
        return value

    def _needs(self, signature: Signature) -> tuple[Note, ...]:
        tensors = f"({', '.join(signature.tensor_names)})" if signature.tensors else ""
        settings = ", ".join(signature.setting_names)
        return (hint(f"it is called as `{signature.declaration.name}({settings}){tensors}`"),)

    def unknown_keyword(self, name: str, key: str, span: Span, known: list[str]) -> NoReturn:
        notes = nearest(key, known, IN_CALLS) or (
            hint(f"its settings are {', '.join(known)}" if known else "it has none"),
        )
        self.fail("E0301", f"`{name}` has no setting `{key}`", *notes, span=span)

    def evaluate_form(self, namespace: Namespace, expression: tree.Expression, prefix: str) -> Value:
        """An initialiser, optimizer, schedule, clip or penalty, with its settings."""
        call = self.here if self.span is not None else expression.span
        head = expression.function if isinstance(expression, tree.Call) else expression
        if not isinstance(head, tree.Name):
            value = self.evaluate(expression)
            if isinstance(value, FormValue):
                return value
            self.fail(
                "E0304",
                f"the name of {_a(namespace.value)} is needed here, not {describe(value)}",
                hint(f"there are {', '.join(sorted(self.frame.module.names(namespace)))}"),
                span=expression.span,
            )
        local = self.frame.variables.get(head.id)
        if isinstance(local, FormValue) and local.declaration.keyword != "fn":
            if isinstance(expression, tree.Call):
                self.fail("E0305", f"`{head.id}` has its settings already", span=expression.span)
            return local
        found = self.frame.module.lookup(namespace, head.id)
        if found is None or not isinstance(found.declaration, tree.Callable):
            known = tuple(self.frame.module.names(namespace))
            notes = nearest(head.id, known) or (hint(f"there are {', '.join(sorted(known))}"),)
            self.fail("E0201", f"there is no {namespace.value} `{head.id}`", *notes, span=head.span)
        arguments, keywords = written(expression) if isinstance(expression, tree.Call) else ((), ())
        signature = self.session.signature(found.declaration, found.scope)
        self.span = expression.span
        settings = self.bind_settings(signature, found.scope, arguments, keywords, prefix or None)
        self.span = call
        return FormValue(found.declaration, found.scope, settings)


_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "`true` or `false`",
    "string": "a string",
    "axis": "an axis",
    "fn": "a function",
    "layer": "a layer",
    "init": "an initialiser",
    "schedule": "a schedule",
}


def coerce_setting(
    elaborator: Elaborator, owner: str, parameter: tree.Parameter, kind: str, value: Value, span: Span
) -> Value:
    """The value as the setting holds it."""
    if isinstance(value, Poison):
        return value
    name = parameter.name
    if holds_tensor(value):
        elaborator.fail(
            "E0306",
            f"`{name}` of `{owner}` is a setting, and settings are known before any tensor exists; this is "
            f"{describe(value)}",
            hint(f"tensors are given in their own group, after the settings: `{owner}(…)(x)`"),
            span=span,
        )
    if isinstance(value, BatchValue):
        elaborator.fail(
            "E0307",
            f"`batch` is known only at run time, so it cannot be the setting `{name}` of `{owner}`",
            span=span,
        )
    accepted = _accepted(kind, value)
    if accepted is None:
        elaborator.fail(
            "E0304",
            f"`{name}` of `{owner}` is {_NAMES[kind]}, not {describe(value)}",
            *_advice(kind, value),
            *_declared(parameter),
            span=span,
        )
    return accepted[0]


def _accepted(kind: str, value: Value) -> tuple[Value] | None:
    """The accepted value, or None."""
    match kind:
        case "":
            return (value,)
        case "int":
            return _whole(value)
        case "float":
            if isinstance(value, RunTimeNumber):
                return (value,)
            return (float(value),) if isinstance(value, (int, float)) and is_number(value) else None
        case "bool":
            return (value,) if isinstance(value, bool) else None
        case "string":
            return (value,) if isinstance(value, str) else None
        case "axis":
            is_axis = isinstance(value, AxisName | ExceptAxes | tuple | None) or _whole(value) is not None
            return (value,) if is_axis else None
        case "fn":
            is_function = isinstance(value, (BuiltinValue, LayerInstance)) or (
                isinstance(value, FormValue) and value.declaration.keyword == "fn"
            )
            return (value,) if is_function else None
        case "layer":
            return (value,) if isinstance(value, LayerInstance) else _function_as_layer(value)
        case _:
            return (value,) if isinstance(value, FormValue) and value.declaration.keyword == kind else None


def _function_as_layer(value: Value) -> tuple[Value] | None:
    """A function serves as a layer without parameters."""
    is_function = isinstance(value, BuiltinValue) or (
        isinstance(value, FormValue) and value.declaration.keyword == "fn"
    )
    return (value,) if is_function else None


def _whole(value: Value) -> tuple[Value] | None:
    if isinstance(value, RunTimeNumber):
        return (value,) if value.value is None or float(value.value).is_integer() else None
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else None


def _advice(kind: str, value: Value) -> tuple[Note, ...]:
    if kind == "int" and isinstance(value, float):
        return (hint("round it with `int(…)`, or divide with `//`"),)
    if kind == "string" and not isinstance(value, str):
        return (hint("a string stands in double quotes"),)
    return ()


def _declared(parameter: tree.Parameter) -> tuple[Note, ...]:
    return () if parameter.span.source.is_library else (Note("declared here", parameter.span),)
