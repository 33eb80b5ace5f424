"""Names in expressions: each must mean something at its place, and each keyword must be one that the callee has.

An environment holds the names that are bound at one place of a declaration, and those bound only on some ways to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from enum import Enum, auto

from compiler.errors.diagnostics import Note, Span, hint
from compiler.errors.other_names import FRAMEWORKS, IN_CALLS, IN_EXPRESSIONS, in_place_of_a_member
from compiler.frontend.builtins.functions import BUILTINS, CONSTANTS, ELEMENT_TYPES
from compiler.frontend.elaborator import Session
from compiler.frontend.failures import nearest, with_article
from compiler.frontend.scope import OWN_FORMS, ModuleScope, Namespace, Signature
from compiler.frontend.train.patterns import MATRICES
from compiler.support.record import mutable_record
from compiler.syntax import tree
from compiler.syntax.walk import parts_of


class NameKind(Enum):
    """The kind of a local name."""

    SETTING = auto()
    DIMENSION = auto()
    LOOP = auto()
    TENSOR = auto()
    VARIABLE = auto()
    STATE = auto()
    INPUT = auto()
    OUTPUT = auto()
    LOSS = auto()


FIXED: Mapping[NameKind | None, str] = {
    NameKind.SETTING: "setting",
    NameKind.DIMENSION: "dimension",
    NameKind.LOOP: "loop variable",
}
"""The kinds of names that keep their value, with the words for them."""


@mutable_record
class Environment:
    """`kinds` and `places` of the bound names; `partial` says of the others why they are not bound."""

    kinds: dict[str, NameKind] = field(default_factory=dict[str, NameKind])
    places: dict[str, Span] = field(default_factory=dict[str, Span])
    partial: dict[str, str] = field(default_factory=dict[str, str])
    used: set[str] = field(default_factory=set[str])
    ever: dict[str, tuple[NameKind, Span]] = field(default_factory=dict[str, "tuple[NameKind, Span]"])

    def __contains__(self, name: str) -> bool:
        return name in self.kinds

    def bind(self, name: str, kind: NameKind, place: Span) -> None:
        self.kinds[name] = kind
        self.places.setdefault(name, place)
        self.partial.pop(name, None)
        self.ever.setdefault(name, (kind, place))

    def copy(self) -> Environment:
        """For a branch or a loop: the same bindings to add to, the same record of uses."""
        return Environment(dict(self.kinds), dict(self.places), dict(self.partial), self.used, self.ever)

    def merge(self, branches: Sequence[Environment], reason: str) -> None:
        """After an `if`: a name is bound if every branch that goes on bound it."""
        if not branches:
            return
        common = {name for name in branches[0].kinds if all(name in branch.kinds for branch in branches)}
        for branch in branches:
            for name, kind in branch.kinds.items():
                if name in common:
                    self.kinds.setdefault(name, kind)
                    self.places.setdefault(name, branch.places[name])
                    self.partial.pop(name, None)
                else:
                    self.partial.setdefault(name, reason)
            for name, why in branch.partial.items():
                if name not in self.kinds:
                    self.partial.setdefault(name, why)

    def end_round(self, inside: Environment, reason: str) -> None:
        """After a `for`: names that its body bound first end with the round."""
        for name in inside.kinds:
            if name not in self.kinds:
                self.partial.setdefault(name, reason)


class ExpressionNames:
    """Checks expressions in an environment."""

    def __init__(self, session: Session, scope: ModuleScope) -> None:
        self.session, self.scope, self.report = session, scope, session.report
        self.environment: Environment = Environment()
        self.keyword = "const"
        self.declaration = ""
        self.is_training = False
        self.is_in_scan = False
        self.inner: set[str] = set()  # names in a model's body that its `train` or `sample` does not see
        self.model_of_sample = ""  # whose parts a `sample` can name
        self.parts: tuple[str, ...] = ()
        self.losses: set[str] = set()  # names of losses that layers and models state, which no `train` sees
        self.scan_outer: set[str] = set()  # names around the scan that its body may read, not assign
        self.elements: set[str] = set()  # names of a scan's body that its `until` does not see

    def scan(self, scan: tree.Scan) -> None:
        raise NotImplementedError

    def expression(self, expression: tree.Expression) -> None:
        """Record mistakes in the names of an expression."""
        match expression:
            case tree.Name():
                self._name(expression)
            case tree.Call():
                self._call(expression)
            case tree.Attribute():
                self._attribute(expression)
            case _:
                for part in parts_of(expression):
                    self.expression(part)
                if isinstance(expression, tree.Scan):
                    self.scan(expression)

    def _name(self, name: tree.Name) -> None:
        environment = self.environment
        if name.id in environment:
            environment.used.add(name.id)
            return
        if name.id in environment.partial:
            environment.used.add(name.id)
            if not self._is_outside(name.id):
                message = f"`{name.id}` may have no value here: {environment.partial[name.id]}"
                advice = hint("bind it before, or on every way to this place")
                self.report.mistake("E0203", message, name.span, advice)
            return
        if not self._is_outside(name.id):
            self._unknown_value(name)

    def _attribute(self, expression: tree.Attribute) -> None:
        root = expression.value
        while isinstance(root, tree.Attribute):
            root = root.value
        if isinstance(root, tree.Name) and root.id in FRAMEWORKS and not self._is_known(root.id):
            advice = hint(in_place_of_a_member(expression.name, self._values()))
            message = f"there is no `{root.id}` here"
            if self.session.is_new_unknown(self.scope.name, self.keyword, self.declaration, root.id):
                self.report.mistake("E0201", message, root.span, advice)
            return
        self.expression(expression.value)
        is_part = isinstance(expression.value, tree.Name) and expression.value.id == self.model_of_sample
        if is_part and expression.name not in self.parts:
            self._unknown_part(expression)

    def _unknown_part(self, expression: tree.Attribute) -> None:
        model, name = self.model_of_sample, expression.name
        message = f"the body of `{model}` has no layer, parameter or state `{name}`"
        listed = (hint(f"there are {', '.join(self.parts)}"),) if self.parts else ()
        is_setting = self.environment.kinds.get(name) is NameKind.SETTING
        own = (hint(f"a setting of the model stands under its own name: `{name}`"),) if is_setting else ()
        self.report.mistake(
            "E0632", message, expression.span, *(own or self.report.nearest(name, self.parts) or listed)
        )

    def _is_known(self, name: str) -> bool:
        return name in self.environment or name in self.environment.partial or self._is_outside(name)

    def _values(self) -> tuple[str, ...]:
        """Every name that means something where a value stands."""
        return (*self.environment.kinds, *self.scope.names(Namespace.VALUE), *BUILTINS, *CONSTANTS)

    def _is_outside(self, name: str) -> bool:
        """Whether a name means something beyond the declaration."""
        if name in BUILTINS or name in CONSTANTS or name == "training":
            return True
        return self.scope.lookup(Namespace.VALUE, name) is not None

    def _unknown_value(self, name: tree.Name) -> None:
        if not self.session.is_new_unknown(self.scope.name, self.keyword, self.declaration, name.id):
            return
        for namespace in (Namespace.INIT, Namespace.OPTIMIZER, Namespace.SCHEDULE):
            if self.scope.lookup(namespace, name.id) is not None:
                note = hint(f"there is {with_article(namespace.value)} `{name.id}`, but this place takes a value")
                message = f"there is no `{name.id}` here"
                self.report.mistake("E0201", message, name.span, note)
                return
        message = f"there is no `{name.id}` here"
        notes = self._notes_in_until(name)
        notes = notes or (self._notes_in_train(name) if self.keyword == "train" else self._notes_in_sample(name))
        notes = notes or self.report.nearest(name.id, self._values(), IN_EXPRESSIONS)
        self.report.mistake("E0201", message, name.span, *notes)

    def _notes_in_train(self, name: tree.Name) -> tuple[Note, ...]:
        """Of a value, which a function of the library cannot stand for; nothing where a function stands."""
        if name.id in self.losses:
            return (hint(f"the loss `{name.id}` of the model is added to `loss` and shown beside it by itself"),)
        if name.id in self.inner and _is_applied(name):
            there = f"write `loss NAME = {name.id}(…)` there, with an `input` for labels"
            return (hint(f"the model applies its own layers: {there}"),)
        if name.id in self.inner:
            return (hint(f"it is a value of the model: write `output {name.id} = …` there to see it here"),)
        if _is_applied(name):
            return ()
        seen = (NameKind.INPUT, NameKind.OUTPUT, NameKind.TENSOR, NameKind.VARIABLE)
        there = ", ".join(known for known, kind in self.environment.kinds.items() if kind in seen)
        return self.report.nearest(name.id, tuple(self.environment.kinds)) or (hint(f"there are {there}"),)

    def _notes_in_until(self, name: tree.Name) -> tuple[Note, ...]:
        """Of the element of a step, which is not there before the step."""
        if name.id not in self.elements:
            return ()
        return (
            hint("`until` is computed before a step, of its carries: carry a count, `carry n = 0`, or a shorter range"),
        )

    def _notes_in_sample(self, name: tree.Name) -> tuple[Note, ...]:
        """Of a name of the model, which a `sample` sees in another way."""
        model = self.model_of_sample
        if name.id in self.parts:
            return (hint(f"`{model}.{name.id}` is that of the model"),)
        if name.id in self.inner:
            return (hint(f"a `sample` has no data: `{model}(x)` applies the model to tensors, and gives its outputs"),)
        return ()

    def unknown(self, name: tree.Name, what: str, known: Iterable[str], *advice: Note) -> None:
        """Record a name that nothing has; the `advice` stands where it is near to none of those `known`."""
        names = tuple(known)
        listed = (hint(f"there are {', '.join(sorted(names))}"),) if names else ()
        notes = self.report.nearest(name.id, names) or advice or listed
        self.report.mistake("E0201", f"there is no {what} `{name.id}`", name.span, *notes)

    def unknown_setting(self, owner: str, name: str, span: Span, known: tuple[str, ...]) -> None:
        notes = nearest(name, known, IN_CALLS) or (
            hint(f"its settings are {', '.join(known)}" if known else "it has none"),
        )
        self.report.mistake("E0301", f"`{owner}` has no setting `{name}`", span, *notes)

    # Calls

    def _call(self, call: tree.Call) -> None:
        function = call.function
        if not isinstance(function, tree.Name):
            self.expression(function)
            self._plain_arguments(call)
        elif function.id in self.environment:
            self.environment.used.add(function.id)
            self._plain_arguments(call)
        else:
            self._call_by_name(call, function)

    def _call_by_name(self, call: tree.Call, function: tree.Name) -> None:
        found = self.scope.lookup(Namespace.VALUE, function.id)
        if found is not None and isinstance(found.declaration, tree.Callable):
            signature = self.session.signature(found.declaration, found.scope)
            self._arguments(call, signature, function.id, ())
        elif found is None and function.id in BUILTINS:
            self._builtin_arguments(call, function.id)
        elif found is None and (form := self._own_form(function.id)) is not None:
            self._arguments(call, self.session.signature(*form), function.id, ())
        else:
            self._name(function)
            self._plain_arguments(call)

    def _own_form(self, name: str) -> tuple[tree.Callable, ModuleScope] | None:
        """The form that a body of its kind may call."""
        own = OWN_FORMS.get(self.keyword)
        found = None if own is None else self.scope.lookup(own, name)
        if found is None or not isinstance(found.declaration, tree.Callable):
            return None
        return found.declaration, found.scope

    def _plain_arguments(self, call: tree.Call) -> None:
        for argument in (*call.positional, *(keyword.value for keyword in call.keywords)):
            self.expression(argument)

    def _arguments(self, call: tree.Call, signature: Signature, owner: str, universal: tuple[str, ...]) -> None:
        for number, argument in enumerate(call.positional):
            kind = ""
            if number < len(signature.settings):
                kind = signature.types[signature.settings[number].name]
            self.setting_value(kind, argument)
        for keyword in call.keywords:
            if keyword.name in universal:
                if not _is_selector(keyword):
                    self.expression(keyword.value)
            elif signature.takes_setting(keyword.name):
                self.setting_value(signature.types[keyword.name], keyword.value)
            elif keyword.name in signature.tensor_names:
                self.expression(keyword.value)
            else:
                self.unknown_setting(owner, keyword.name, keyword.span, (*signature.setting_names, *universal))
                self.expression(keyword.value)

    def _builtin_arguments(self, call: tree.Call, name: str) -> None:
        builtin = BUILTINS[name]
        for number, argument in enumerate(call.positional):
            parameter = builtin.positional(number)
            if parameter is not None and parameter.kind == "element type" and isinstance(argument, tree.Name):
                if argument.id in self.environment:
                    self.expression(argument)
                elif argument.id not in ELEMENT_TYPES:
                    self.unknown(argument, "element type", ELEMENT_TYPES)
            else:
                self.expression(argument)
        for keyword in call.keywords:
            if builtin.named(keyword.name) is None and not builtin.takes_any_keyword:
                known = tuple(p.name for p in builtin.parameters)
                self.unknown_setting(name, keyword.name, keyword.span, known)
            if not (keyword.name == "dtype" and isinstance(keyword.value, tree.Name)):
                self.expression(keyword.value)

    def setting_value(self, kind: str, expression: tree.Expression) -> None:
        """An argument for a setting: its type decides in which namespace it is looked up."""
        match kind:
            case "init":
                self.form(Namespace.INIT, expression, ())
            case "schedule":
                self.form(Namespace.SCHEDULE, expression, ())
            case _:
                self.expression(expression)

    def form(self, namespace: Namespace, expression: tree.Expression, universal: tuple[str, ...]) -> None:
        """A form of one namespace, bare or with its settings."""
        head = expression.function if isinstance(expression, tree.Call) else expression
        if not isinstance(head, tree.Name):
            self.expression(expression)
            return
        if head.id in self.environment:
            self.environment.used.add(head.id)
            if isinstance(expression, tree.Call):
                self._plain_arguments(expression)
            return
        found = self.scope.lookup(namespace, head.id)
        if found is None or not isinstance(found.declaration, tree.Callable):
            if namespace in (Namespace.INIT, Namespace.SCHEDULE) and self._is_outside(head.id):
                if isinstance(expression, tree.Call):
                    self._plain_arguments(expression)
                return  # a tensor among the arguments, which elaboration judges
            self.unknown(head, namespace.value, self.scope.names(namespace))
        elif isinstance(expression, tree.Call):
            signature = self.session.signature(found.declaration, found.scope)
            self._arguments(expression, signature, head.id, universal)


def _is_selector(keyword: tree.Keyword) -> bool:
    """`on = matrices` or `decay_on = matrices`, a name of its own."""
    return isinstance(keyword.value, tree.Name) and keyword.value.id == MATRICES


def _is_applied(name: tree.Name) -> bool:
    """Whether a name stands where a function does: before `(`, or behind `|>`."""
    line, span = name.span.source.line(name.span.line), name.span
    return line[span.end_column - 1 :].startswith("(") or line[: span.column - 1].rstrip().endswith("|>")
