"""Settings of a call: the given ones, those that the command line replaces, and defaults, each against its type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NoReturn, TypeAlias

from compiler.errors.diagnostics import Note, Span, hint
from compiler.errors.other_names import IN_CALLS
from compiler.errors.suggestions import counted
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.instances import unsettled
from compiler.frontend.builtins.functions import ELEMENT_TYPES
from compiler.frontend.elaborator import Elaborator, Frame
from compiler.frontend.failures import failure, nearest, with_article
from compiler.frontend.scope import ModuleScope, Namespace, Signature
from compiler.frontend.settings import COMMAND_LINE
from compiler.frontend.tensors.numbers import expect_no_axis_of_rows
from compiler.frontend.values import (
    AxisName,
    BatchValue,
    BuiltinValue,
    ExceptAxes,
    FormValue,
    LayerInstance,
    NamedExtent,
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

    span: Span
    value: Value = None
    is_evaluated: bool = False
    expression: tree.Expression | None = None  # None where only the value is known


Keywords: TypeAlias = Sequence[tuple[str, Argument]]
_MAY_BE_MISSING = (Namespace.SCHEDULE, Namespace.CLIP, Namespace.PENALTY)
_LITERALS = (tree.Number, tree.Boolean, tree.NoneLiteral)  # mean the same in any frame


def ready(value: Value, span: Span) -> Argument:
    return Argument(span, value, True)


def written(call: tree.Call) -> tuple[Sequence[Argument], Keywords]:
    """The arguments of a call, not evaluated yet."""
    positional = [Argument(e.span, expression=e) for e in call.positional]
    return positional, [(k.name, Argument(k.span, expression=k.value)) for k in call.keywords]


class SettingBinder(Elaborator):
    """The part of the evaluator that gives declarations their settings."""

    def argument_value(self, argument: Argument, kind: str = "", path: str = "") -> Value:
        """The value of an argument; `path` is that of a setting of the experiment."""
        if argument.expression is None or (argument.is_evaluated and kind != "schedule"):
            return argument.value
        return self._looked_up(argument.expression, kind, path)

    def _looked_up(self, expression: tree.Expression, kind: str, path: str = "") -> Value:
        """The value as its parameter asks for it: names are looked up by the kind of the parameter."""
        match kind:
            case "axis":
                return self.evaluate_axis(expression)
            case "dimension":
                return self.evaluate_dimension(expression)
            case "init":
                return self.evaluate_initializer(expression)
            case "schedule":
                return self.evaluate_form(Namespace.SCHEDULE, expression, path)
            case "element type" if isinstance(expression, tree.Name) and (
                expression.id in ELEMENT_TYPES or expression.id not in self.frame.variables
            ):
                return expression.id
            case _:
                return self.evaluate(expression)

    def evaluate_axis(self, expression: tree.Expression) -> Value:
        match expression:
            case tree.Name(name) if name in self.frame.dimensions:
                return AxisName((self.frame.scope, name))
            case tree.ListLiteral(items) | tree.TupleLiteral(items):
                return tuple(self.evaluate_axis(item) for item in items)
            case _:
                return self.evaluate(expression)

    def evaluate_dimension(self, expression: tree.Expression) -> Value:
        """As `evaluate`; a bare dimension name keeps its name on the axis."""
        if isinstance(expression, tree.Name):
            extent = self.frame.dimensions.get(expression.id)
            if extent is not None:
                return NamedExtent(extent, Axis(frozenset({(self.frame.scope, expression.id)}), expression.span))
        return self.evaluate(expression)

    def evaluate_initializer(self, expression: tree.Expression) -> FormValue:
        if isinstance(expression, tree.Number):
            message = f"an initialiser stands here, and {expression.value} is a number"
            raise failure("E0505", message, expression.span, hint(f"write `constant({expression.value})`"))
        before, self.span = self.span, expression.span
        try:
            return self.evaluate_form(Namespace.INIT, expression)
        finally:
            self.span = before

    def bind_settings(
        self,
        signature: Signature,
        module: ModuleScope,
        arguments: Sequence[Argument],
        keywords: Keywords,
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
            path = None if prefix is None else full
            value, origin, span = self._setting(signature, module, parameter, given.get(parameter.name), values, path)
            value = coerce_setting(self, signature.declaration.name, parameter, kind, value, span)
            if receiver is not None:
                receiver.children += [(parameter.name, new) for new in unsettled(value)]
            if prefix is not None:
                value = self._recorded(full, value, origin)
            values[parameter.name] = value
        return values

    def _given(self, signature: Signature, arguments: Sequence[Argument], keywords: Keywords) -> dict[str, Argument]:
        name = signature.declaration.name
        if len(arguments) > len(signature.settings):
            names = ", ".join(signature.setting_names)
            count = counted(len(signature.settings), "setting")
            message = f"`{name}` takes {count}, but {len(arguments)} are given"
            self.fail("E0303", message, *([hint(f"its settings are {names}")] if names else []))
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
        argument: Argument | None,
        values: Mapping[str, Value],
        path: str | None,
    ) -> tuple[Value, str, Span]:
        """The value of one setting, who decided it, and the place that a message shows; `path` as in the experiment."""
        kind = signature.types[parameter.name]
        override = self.session.settings.take(path) if path is not None else None
        if override is not None:
            is_text = kind == "string" or isinstance(parameter.default, tree.Text)
            expression = override.as_text if is_text else override.as_expression
            return self._looked_up(expression, kind, path or ""), COMMAND_LINE, override.span
        if argument is not None:
            origin = "generate" if self.frame.keyword == "generate" else "train"
            origin = COMMAND_LINE if argument.span.source.name == COMMAND_LINE else origin
            return self.argument_value(argument, kind, path or ""), origin, argument.span
        if parameter.default is None:
            name = signature.declaration.name
            tensors = f"({', '.join(signature.tensor_names)})" if signature.tensors else ""
            form = hint(f"it is called as `{name}({', '.join(signature.setting_names)}){tensors}`")
            self.fail("E0302", f"`{name}` needs the setting `{parameter.name}`", form)
        if isinstance(parameter.default, _LITERALS) and kind not in ("init", "schedule"):
            return self.evaluate(parameter.default), "default", self.here
        call = self.here
        before, self.frame = self.frame, self._default_frame(signature, module, values)
        try:
            value = self._looked_up(parameter.default, kind, path or "")
        finally:
            self.frame = before
        self.span = call
        return value, "default", call

    def _default_frame(self, signature: Signature, module: ModuleScope, values: Mapping[str, Value]) -> Frame:
        """Defaults see the settings before them, and make layers where the caller could."""
        frame = self.frame
        declaration = signature.declaration
        is_owner = isinstance(declaration, tree.Model) or (
            isinstance(declaration, tree.Callable) and declaration.keyword == "layer"
        )
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

    def _recorded(self, full: str, value: Value, origin: str) -> Value:
        """Record a setting of the experiment; a float becomes a number that is passed at run time."""
        if isinstance(value, float):
            value = RunTimeNumber(full, value, frozenset({full}))
        self.session.settings.record(full, value, origin)
        return value

    def unknown_keyword(self, name: str, key: str, span: Span, known: list[str]) -> NoReturn:
        notes = nearest(key, known, IN_CALLS) or (
            hint(f"its settings are {', '.join(known)}" if known else "it has none"),
        )
        self.fail("E0301", f"`{name}` has no setting `{key}`", *notes, span=span)

    def evaluate_key(self, namespace: Namespace, expression: tree.Expression, prefix: str) -> FormValue:
        """As `evaluate_form`, of a key of `train`: the name of its form is a setting of the experiment, too."""
        head = expression.function if isinstance(expression, tree.Call) else expression
        if isinstance(head, tree.Name):
            origin = COMMAND_LINE if head.span.source.name == COMMAND_LINE else "train"
            self.session.settings.record(prefix, head.id, origin)
        return self.evaluate_form(namespace, expression, prefix)

    def evaluate_form(self, namespace: Namespace, expression: tree.Expression, prefix: str = "") -> FormValue:
        """An initialiser, optimizer, schedule, clip or penalty, with its settings."""
        call = self.here if self.span is not None else expression.span
        head = expression.function if isinstance(expression, tree.Call) else expression
        if not isinstance(head, tree.Name):
            value = self.evaluate(expression)
            if isinstance(value, FormValue):
                return value
            message = f"the name of {with_article(namespace.value)} is needed here, not {describe(value)}"
            advice = hint(f"there are {', '.join(sorted(self.frame.module.names(namespace)))}")
            if value is None and namespace in _MAY_BE_MISSING:
                advice = hint(
                    f"without one, leave it out; `{namespace.name.lower()} = none` stands in an experiment that builds "
                    "on another, `train B: A { … }`, and takes away that of the other"
                )
            self.fail("E0304", message, advice, span=expression.span)
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
        expect_no_axis_of_rows(elaborator)
        message = f"`batch` is known only at run time, so it cannot be the setting `{name}` of `{owner}`"
        elaborator.fail("E0307", message, span=span)
    if not _is_accepted(kind, value):
        message = f"`{name}` of `{owner}` is {_NAMES[kind]}, not {describe(value)}"
        elaborator.fail("E0304", message, *_advice(kind, value), *_declared(parameter), span=span)
    return float(value) if kind == "float" and isinstance(value, int) else value


def _is_accepted(kind: str, value: Value) -> bool:
    match kind:
        case "":
            return True
        case "int":
            return _is_whole(value)
        case "float":
            return is_number(value)
        case "bool":
            return isinstance(value, bool)
        case "string":
            return isinstance(value, str)
        case "axis":
            return isinstance(value, AxisName | ExceptAxes | tuple | None) or _is_whole(value)
        case "fn" | "layer":  # a function serves as a layer without parameters
            is_function = isinstance(value, FormValue) and value.declaration.keyword == "fn"
            return is_function or isinstance(value, BuiltinValue | LayerInstance)
        case _:
            return isinstance(value, FormValue) and value.declaration.keyword == kind


def _is_whole(value: Value) -> bool:
    if isinstance(value, RunTimeNumber):
        return value.value is None or float(value.value).is_integer()
    return isinstance(value, int) and not isinstance(value, bool)


def _advice(kind: str, value: Value) -> tuple[Note, ...]:
    if kind == "int" and isinstance(value, float):
        return (hint("round it with `int(…)`, or divide with `//`"),)
    if kind == "string" and not isinstance(value, str):
        return (hint("a string stands in double quotes"),)
    return ()


def _declared(parameter: tree.Parameter) -> tuple[Note, ...]:
    return () if parameter.span.source.is_library else (Note("declared here", parameter.span),)
