"""Calls: arguments divided into settings and tensors, settings bound, the application evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from compiler.errors.diagnostics import Diagnostic, Note, Span, hint
from compiler.errors.suggestions import counted
from compiler.frontend.bodies.instances import ordinals_in, place_of, settle
from compiler.frontend.bodies.own_graphs import with_own_gradient
from compiler.frontend.bodies.setting_binding import Argument, Keywords, SettingBinder, ready
from compiler.frontend.bodies.statements import run_body
from compiler.frontend.bodies.twin_tensors import twin_around
from compiler.frontend.builtins.functions import BUILTINS
from compiler.frontend.builtins.table import Builtin, Required
from compiler.frontend.elaborator import MAXIMUM_APPLICATIONS, MAXIMUM_DEPTH, MAXIMUM_RECURSIONS, Frame, joined
from compiler.frontend.failures import Failure, Poisoned
from compiler.frontend.scope import ModuleScope, Namespace, Signature
from compiler.frontend.tensors.binding import bind_tensors, check_results, expect_tensor, with_exchange
from compiler.frontend.tensors.shapes import seen_by_caller
from compiler.frontend.values import (
    BatchValue,
    BuiltinValue,
    FormValue,
    LayerInstance,
    Poison,
    RunTimeNumber,
    TensorValue,
    TupleValue,
    Value,
    describe,
    holds_tensor,
    is_callable,
)
from compiler.syntax import tree
from compiler.syntax.walk import statements_within

# Types of settings whose values are looked up in a namespace of their own.
_FORMS = {"init": Namespace.INIT, "schedule": Namespace.SCHEDULE}


class Caller(SettingBinder):
    """The part of the evaluator that calls things."""

    def call(self, callee: Value, arguments: Sequence[Argument], keywords: Keywords) -> Value:
        """Call a value; `self.span` is the place of the call."""
        match callee:
            case BuiltinValue(Builtin() as builtin, given):
                return self._call_builtin(builtin, given, arguments, keywords)
            case FormValue(settings=None):
                return self.call_declaration(callee, arguments, keywords, None)
            case LayerInstance() | FormValue():
                return self._call_bound(callee, arguments, keywords)
            case _:
                is_factor = isinstance(callee, (TensorValue, BatchValue, int, float, RunTimeNumber))
                notes = (hint("a product is written with `*`"),) if is_factor else ()
                self.fail("E0305", f"{describe(callee)} cannot be called", *notes)

    # Built-in functions

    def _call_builtin(
        self, builtin: Builtin, given: Mapping[str, Value], arguments: Sequence[Argument], keywords: Keywords
    ) -> Value:
        call = self.here
        if keywords and not arguments and builtin.parameters and not builtin.takes_any_keyword:
            return self._with_keywords(builtin, given, keywords)
        values: dict[str, Value] = dict(given)
        rest: list[Value] = []
        for index, argument in enumerate(arguments):
            parameter = builtin.positional(index)
            if parameter is None:
                message = f"`{builtin.name}` takes {_positions(builtin)}, but {len(arguments)} are given"
                self.fail("E0303", message, hint(f"it is called as `{builtin.signature}`"))
            value = self.argument_value(argument, parameter.kind)
            if parameter.is_variadic:
                rest.append(value)
            else:
                values[parameter.name] = value
        for name, argument in keywords:
            parameter = builtin.named(name)
            if parameter is None and not builtin.takes_any_keyword:
                self.unknown_keyword(builtin.name, name, argument.span, [p.name for p in builtin.parameters])
            if name in values:
                self.fail("E0303", f"`{name}` is given twice to `{builtin.name}`", span=argument.span)
            values[name] = self.argument_value(argument, "value" if parameter is None else parameter.kind)
        self.span = call
        for parameter in builtin.parameters:
            if parameter.is_variadic:
                values[parameter.name] = tuple(rest)
            elif parameter.name not in values:
                if isinstance(parameter.default, Required):
                    message = f"`{builtin.name}` needs `{parameter.name}`"
                    self.fail("E0302", message, hint(f"it is called as `{builtin.signature}`"))
                values[parameter.name] = parameter.default
        for name in (parameter.name for parameter in builtin.parameters if parameter.kind == "tensor"):
            expect_tensor(self, values[name], f"`{name}` of `{builtin.name}`")
        return builtin.evaluate(self, **values)

    def _with_keywords(self, builtin: Builtin, given: Mapping[str, Value], keywords: Keywords) -> Value:
        """`mean(axis = 1)`: the function with some of its settings, to be applied later."""
        values = dict(given)
        for name, argument in keywords:
            parameter = builtin.named(name)
            if parameter is None:
                self.unknown_keyword(builtin.name, name, argument.span, [p.name for p in builtin.parameters])
            values[name] = self.argument_value(argument, parameter.kind)
        if all(p.name in values or not isinstance(p.default, Required) for p in builtin.parameters):
            return self._call_builtin(builtin, values, (), ())
        return BuiltinValue(builtin, values)

    # Declarations

    def call_declaration(
        self, callee: FormValue, arguments: Sequence[Argument], keywords: Keywords, name: tree.Name | None
    ) -> Value:
        """`f(…)` for the name of a `fn`, `layer` or other form: settings, or an application to tensors."""
        call = self.here
        declaration = callee.declaration
        signature = self.session.signature(declaration, callee.module)
        evaluated = self._evaluate_early(signature, arguments)
        self.span = call
        if not signature.settings:
            return self._call_without_settings(callee, signature, evaluated, keywords, name)
        has_tensor = any([holds_tensor(a.value) for a in evaluated])
        has_tensor = has_tensor or any([key in signature.tensor_names for key, _ in keywords])
        if has_tensor and signature.tensors:
            self._refuse_settings_by_position(signature, evaluated)
            self._refuse_one_group(signature, evaluated, keywords)
            tensor_keywords = [(k, a) for k, a in keywords if k in signature.tensor_names]
            settings = [(k, a) for k, a in keywords if k not in signature.tensor_names]
            bound = self._bound(callee, signature, (), settings, name)
            self.span = call
            return self.apply(bound, evaluated, tensor_keywords)
        bound = self._bound(callee, signature, evaluated, keywords, name)
        self.span = call
        if not signature.tensors and declaration.keyword == "fn" and len(declaration.groups) < 2:
            return self.apply(bound, (), ())
        return bound

    def _evaluate_early(self, signature: Signature, arguments: Sequence[Argument]) -> list[Argument]:
        """Evaluate what stands at the place of an ordinary setting, to see whether a tensor is among the arguments."""
        evaluated: list[Argument] = []
        for index, argument in enumerate(arguments):
            kind = ""
            if index < len(signature.settings):
                kind = signature.types[signature.settings[index].name]
            if kind in _FORMS and self._is_value(argument, _FORMS[kind]):
                kind = ""  # a tensor, of a function whose settings are all left out, or a mistake
            value = self.argument_value(argument, kind)
            evaluated.append(Argument(argument.span, value, True, argument.expression))
        return evaluated

    def _is_value(self, argument: Argument, namespace: Namespace) -> bool:
        """Whether an argument at the place of a form names no form, but a value."""
        expression = argument.expression
        head = expression.function if isinstance(expression, tree.Call) else expression
        if argument.is_evaluated or not isinstance(head, tree.Name):
            return not isinstance(head, tree.Number)
        local = self.frame.variables.get(head.id)
        if local is not None and (isinstance(expression, tree.Name) or is_callable(local)):
            return not isinstance(local, FormValue) or local.declaration.keyword == "fn"
        return self.frame.module.lookup(namespace, head.id) is None and self.is_known_outside(head.id)

    def _call_without_settings(
        self,
        callee: FormValue,
        signature: Signature,
        arguments: Sequence[Argument],
        keywords: Keywords,
        name: tree.Name | None,
    ) -> Value:
        is_layer = callee.declaration.keyword == "layer"
        for key, argument in keywords:
            if key not in signature.tensor_names:
                self.unknown_keyword(signature.declaration.name, key, argument.span, list(signature.tensor_names))
        if not arguments and not keywords and (signature.tensors or is_layer):
            return self._bound(callee, signature, (), (), name)
        return self.apply(self._bound(callee, signature, (), (), name), arguments, keywords)

    def _refuse_settings_by_position(self, signature: Signature, arguments: Sequence[Argument]) -> None:
        """`conv(x, 6, 5)`: a tensor never lands in a group of settings, nor a setting in that of tensors."""
        if len(arguments) <= len(signature.tensors):
            return
        name = signature.declaration.name
        tensors = ", ".join(signature.tensor_names)
        settings = ", ".join(signature.setting_names)
        self.fail(
            "E0303",
            f"`{name}` takes {counted(len(signature.tensors), 'tensor')} ({tensors}), but {len(arguments)} arguments "
            "are given together",
            hint(f"settings come first, in their own group: `{name}({settings})({tensors})`"),
        )

    def _refuse_one_group(self, signature: Signature, arguments: Sequence[Argument], keywords: Keywords) -> None:
        """`x |> gru(3, where = mask)`: an argument among tensors cannot be the missing setting."""
        given = {key for key, _ in keywords}
        is_missing = any(s.default is None and s.name not in given for s in signature.settings)
        misplaced = [a for a in arguments if not holds_tensor(a.value)]
        if not is_missing or not misplaced:
            return
        name = signature.declaration.name
        settings = [_text_of(a) for a in misplaced]
        settings += [f"{key} = {_text_of(a)}" for key, a in keywords if key not in signature.tensor_names]
        tensors = [_text_of(a) for a in arguments if a not in misplaced] or [signature.tensor_names[0]]
        tensors += [f"{key} = {_text_of(a)}" for key, a in keywords if key in signature.tensor_names]
        message = f"`{name}` takes settings and tensors in groups of their own"
        self.fail("E0303", message, hint(f"write `{name}({', '.join(settings)})({', '.join(tensors)})`"))

    def _bound(
        self,
        callee: FormValue,
        signature: Signature,
        arguments: Sequence[Argument],
        keywords: Keywords,
        name: tree.Name | None,
    ) -> FormValue | LayerInstance:
        """A function with its settings, or a new instance of a layer."""
        declaration, module = callee.declaration, callee.module
        if declaration.keyword != "layer":
            return FormValue(declaration, module, self.bind_settings(signature, module, arguments, keywords))
        instance = self.new_instance(declaration, module, name)
        instance.settings = self.bind_settings(signature, module, arguments, keywords, receiver=instance)
        return instance

    def new_instance(self, declaration: tree.Callable, module: ModuleScope, name: tree.Name | None) -> LayerInstance:
        frame = self.frame
        if not frame.makes_instances:
            message = f"a layer `{declaration.name}` cannot be made in the {frame.keyword} `{frame.name}`"
            advice = "only the bodies of `layer` and `model` make layers; take it as a setting of type `layer`"
            if frame.keyword == "sample":
                advice = "a `sample` applies those that were trained: name one in the model, and write `Model.name(x)`"
            self.fail("E0501", message, hint(advice))
        ordinal = frame.ordinals.get(id(name), 1)
        site = (frame.path, id(name), frame.rounds)
        return LayerInstance(declaration, module, {}, place_of(frame, declaration.name, ordinal), site)

    def fresh(self, instance: LayerInstance, name: tree.Name | None) -> LayerInstance:
        """A new instance of the same kind; the layers made in its arguments are new too."""
        copy = self.new_instance(instance.declaration, instance.module, name)
        made = {id(child): child for _, child in instance.children}
        replacements = {key: self.fresh(child, name) for key, child in made.items()}

        def renewed(value: Value) -> Value:
            if isinstance(value, LayerInstance):
                return replacements.get(id(value), value)
            return tuple(renewed(item) for item in value) if isinstance(value, tuple) else value

        copy.settings = {key: renewed(value) for key, value in instance.settings.items()}
        copy.children = [(setting, replacements[id(child)]) for setting, child in instance.children]
        for number, (_, child) in enumerate(copy.children):
            child.site = (*copy.site, number)
        return copy

    # Applications

    def _call_bound(self, bound: FormValue | LayerInstance, arguments: Sequence[Argument], keywords: Keywords) -> Value:
        signature = self.session.signature(bound.declaration, bound.module)
        call = self.here
        evaluated = [ready(self.argument_value(a), a.span) for a in arguments]
        for key, argument in keywords:
            if signature.takes_setting(key):
                message = f"the settings of `{bound.declaration.name}` are already given, so `{key}` comes too late"
                self.fail("E0303", message, hint("give all settings in one group"), span=argument.span)
        self.span = call
        return self.apply(bound, evaluated, keywords)

    def apply(self, bound: FormValue | LayerInstance, arguments: Sequence[Argument], keywords: Keywords) -> Value:
        """Apply a function or layer, whose settings are given, to tensors."""
        call = self.here
        declaration = bound.declaration
        signature = self.session.signature(declaration, bound.module)
        pairs = self._tensor_arguments(signature, arguments, keywords)
        self.span = call
        frame = self._frame_of(bound, signature)
        try:
            return self._applied(bound, frame, pairs, call)
        except Failure as failure:
            told = self._at_call(failure, declaration, call)
            raise told if call.source.is_library else with_exchange(self.builder, told, declaration, pairs) from None
        except RecursionError:
            self.span = call
            self.fail("E0310", f"`{declaration.name}` is nested too deeply here")

    def _tensor_arguments(
        self, signature: Signature, arguments: Sequence[Argument], keywords: Keywords
    ) -> list[tuple[tree.Parameter, Value]]:
        name = signature.declaration.name
        if len(arguments) > len(signature.tensors):
            names = ", ".join(signature.tensor_names)
            wanted = counted(len(signature.tensors), "tensor") + (f" ({names})" if names else "")
            self.fail("E0303", f"`{name}` takes {wanted}, but {len(arguments)} are given")
        given = {p.name: a for p, a in zip(signature.tensors, arguments, strict=False)}
        for key, argument in keywords:
            if key not in signature.tensor_names:
                self.unknown_keyword(name, key, argument.span, list(signature.tensor_names))
            if key in given:
                self.fail("E0303", f"`{key}` is given twice to `{name}`", span=argument.span)
            given[key] = argument
        pairs: list[tuple[tree.Parameter, Value]] = []
        for parameter in signature.tensors:
            argument = given.get(parameter.name)
            if argument is None and parameter.default is None:
                names = ", ".join(signature.tensor_names)
                self.fail("E0302", f"`{name}` needs `{parameter.name}`", hint(f"it is applied to ({names})"))
            value = None if argument is None else self.argument_value(argument)
            if value is None and parameter.default is None:
                self.fail("E0312", f"`{parameter.name}` of `{name}` must be given; it is `none` here")
            if isinstance(value, TupleValue):
                message = f"`{parameter.name}` of `{name}` is one tensor, but {describe(value)} are given"
                self.fail("E0312", message, hint("`(a, b) |> f` passes several values; `a, b = …` takes them apart"))
            pairs.append((parameter, value))
        return pairs

    def _frame_of(self, bound: FormValue | LayerInstance, signature: Signature) -> Frame:
        outer = self.frame
        self.depth_check(signature)
        declaration = bound.declaration
        frame = Frame(
            bound.module,
            declaration.keyword,
            declaration.name,
            self.session.new_scope(),
            (*outer.calls, self.here),
            outer.path,
            outer.application,
            dict(bound.settings or {}),
            draws=outer.draws,
            is_frozen=outer.is_frozen,
            twin=outer.twin,
        )
        if isinstance(bound, LayerInstance):
            if bound.path is None:
                settle(self.session, bound)
            assert bound.path is not None
            count = self.applications.get(bound.path, 0)
            self.applications[bound.path] = count + 1
            frame.path = bound.path
            frame.application = f"{bound.path}#{count}"
            frame.draws = [0]
            frame.ordinals = ordinals_in(bound.module, declaration)
            frame.twin = (bound.path, bound.twin) if bound.twin is not None else twin_around(outer, bound.path)
            is_stored = frame.twin is not None and bool(frame.twin[1].file)
            frame.is_frozen = is_stored or self._keeps_its_states(declaration, bound.path)
        if not bound.module.is_library:
            self.user_scopes.add(frame.scope)
        return frame

    def _keeps_its_states(self, declaration: tree.Callable, path: str) -> bool:
        """Whether a layer has states, and all of them are frozen."""
        is_frozen = self.session.is_frozen
        if is_frozen is None:
            return False
        states = [s.name for s in statements_within(declaration.body) if isinstance(s, tree.StateDeclaration)]
        return bool(states) and all(is_frozen(joined(path, name)) for name in states)

    def depth_check(self, signature: Signature) -> None:
        if len(self.running) >= MAXIMUM_DEPTH:
            message = f"calls are nested more than {MAXIMUM_DEPTH} deep at `{signature.declaration.name}`"
            self.fail("E0310", message, hint("a function that calls itself must stop by an `if` over its settings"))
        name, key = signature.declaration.name, id(signature.declaration)
        self.frames_of[key] = count = self.frames_of.get(key, 0) + 1
        if count > MAXIMUM_APPLICATIONS:
            message = f"`{name}` is applied more than {MAXIMUM_APPLICATIONS} times"
            self.fail("E0310", message, hint("a loop has too many rounds, or functions call each other too often"))
        if key in self.running:
            self.recursions_of[key] = count = self.recursions_of.get(key, 0) + 1
            if count > MAXIMUM_RECURSIONS:
                self.fail(
                    "E0310",
                    f"`{name}` calls itself more than {MAXIMUM_RECURSIONS} times",
                    hint("each call that makes two of its own doubles their number; a loop makes one for each round"),
                )

    def is_known_outside(self, name: str) -> bool:
        return name in BUILTINS or self.frame.module.lookup(Namespace.VALUE, name) is not None

    def _applied(
        self, bound: FormValue | LayerInstance, frame: Frame, pairs: list[tuple[tree.Parameter, Value]], call: Span
    ) -> Value:
        declaration, first = bound.declaration, self.builder.next_index
        bind_tensors(self, frame, pairs, call)
        outer, self.frame = self.frame, frame
        self.running.append(id(declaration))
        try:
            if declaration.gradient is not None and any(isinstance(v, TensorValue) for _, v in pairs):
                value = with_own_gradient(self, declaration, declaration.gradient, [p.name for p, _ in pairs])
            else:
                value = run_body(self, declaration.body)
            if not isinstance(value, Poison):
                check_results(self, declaration, value)
        finally:
            self.frame = outer
            self.running.pop()
            self.span = call
        self.states.update(frame.pending)
        if isinstance(value, Poison):
            raise Poisoned
        values, place = range(first, self.builder.next_index), (call, outer.calls, frame.path)
        self.applied.append(self.session.trace.applied(self.builder.name, declaration, pairs, value, *place, values))
        return _left(value, frame.scope, call)

    def _at_call(self, failure: Failure, declaration: tree.Callable, call: Span) -> Failure:
        """A mistake that shows inside the library is reported at the user's call."""
        found = failure.diagnostic
        if not found.span.source.is_library or call.source.is_library:
            return failure
        note = Note(f"found in `{declaration.name}` of the library, at this line", found.span)
        return Failure(Diagnostic(found.code, found.message, call, (*found.notes, note)))

    def run_form(self, declaration: tree.Callable, span: Span) -> Value:
        """The value of a form's body in the current frame; a mistake in the library's is reported at `span`."""
        try:
            return run_body(self, declaration.body)
        except Failure as failure:
            raise self._at_call(failure, declaration, span) from None


def _left(value: Value, scope: int, call: Span) -> Value:
    """A result as its caller sees it: without the names that are local to the declaration."""
    match value:
        case TensorValue(node, axes):
            return TensorValue(node, seen_by_caller(axes, scope, call))
        case TupleValue(items):
            return TupleValue(tuple(_left(item, scope, call) for item in items))
        case tuple():
            return tuple(_left(item, scope, call) for item in value)
        case _:
            return value


def _positions(builtin: Builtin) -> str:
    return counted(sum(not p.is_keyword_only for p in builtin.parameters), "positional argument")


def _text_of(argument: Argument) -> str:
    return argument.span.text if argument.expression is None else argument.expression.span.text
