"""Names in statements: the names that each statement binds, and whether the statement may stand at its place."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.bodies.declared_tensors import end_of_range
from compiler.frontend.bodies.instances import names_in
from compiler.frontend.elaborator import Session
from compiler.frontend.names.expressions import FIXED, ExpressionNames, NameKind
from compiler.frontend.scope import ModuleScope, Namespace
from compiler.syntax import tree
from compiler.syntax.walk import dimensions_of, first_name, is_requirement

_MAY_OWN = ("layer", "model")
_PLACES = {
    "input": "a `model`",
    "target": "a `train`",
    "output": "a `model` or `sample`",
    "loss": "a `layer` or `model`",
    "view": "an `augment`, in no `if` and no `for`",
    "param": "a `layer` or `model`",
    "state": "a `layer`, `model` or `optimizer`",
    "<-": "a `layer` or `model`",
    "emit": "a `scan`",
    "return": "a `fn`, `layer`, `init`, `optimizer` or `schedule`",
}
_WITHOUT_RESULT = ("model", "train", "sample", "test")
_SCAN_OPTIONS = ("reverse", "where", "truncate")


class StatementNames(ExpressionNames):
    """Checks statements in an environment, which they change."""

    def __init__(self, session: Session, scope: ModuleScope) -> None:
        super().__init__(session, scope)
        self.layer_names: set[str] = set()  # names that stand in the paths of parameters
        self.views: tuple[tree.View, ...] = ()  # those that stand in the block of an `augment`
        self.inputs: dict[str, Span | None] = {}  # of the model; with the place of the view that one is
        self.columns: set[str] = set()  # those that a `view` can show

    def _block(self, block: tree.Block, is_last: bool = False) -> bool:
        """Check statements in order. True if they always end in a `return`."""
        for number, statement in enumerate(block.statements):
            is_end = is_last and number == len(block.statements) - 1
            if self._statement(statement, is_end):
                for unreachable in block.statements[number + 1 :]:
                    self.report.mistake(
                        "E0206", "this line comes after a `return`, so it is never reached", unreachable.span
                    )
                    return True
                return True
        return False

    def _statement(self, statement: tree.Statement, is_end: bool) -> bool:
        match statement:
            case tree.Assign():
                self.expression(statement.value)
                self._assign_all(statement)
            case tree.Return():
                self._expect_place("return", self.keyword not in _WITHOUT_RESULT, statement.span, in_scan=False)
                self.expression(statement.value)
                return True
            case tree.If():
                return self._if(statement, is_end)
            case tree.For():
                self._for(statement)
            case tree.ExpressionStatement():
                self.expression(statement.value)
                is_result = self.keyword == "test" or (self.keyword == "optimizer" and is_end)
                is_own = self.scope.lookup(Namespace.VALUE, "require") is not None
                if not is_result and (is_own or not is_requirement(statement.value)):
                    notes = (hint("give it a name, or return it"),)
                    self.report.mistake("E0206", "this value is not used", statement.span, *notes)
            case tree.ParamDeclaration() | tree.StateDeclaration():
                self._owned(statement)
            case tree.StateUpdate():
                self._update(statement)
            case tree.InputDeclaration():
                self._expect_place("input", self.keyword == "model", statement.span, in_scan=False)
                self._input(statement)
            case tree.OutputDeclaration():
                self._output(statement)
            case tree.LossDeclaration(name):
                self._expect_place("loss", self.keyword in _MAY_OWN, name.span, in_scan=False)
                self.expression(statement.value)
                self._expect_free(name.id, name.span, "cannot be the name of a loss")
                self.environment.bind(name.id, NameKind.LOSS, name.span)
            case tree.View():
                self._view(statement)
            case tree.Emit():
                self._expect_place("emit", self.is_in_scan, statement.span)
                for value in statement.values:
                    self.expression(value)
        return False

    def _assign_all(self, statement: tree.Assign) -> None:
        if self._makes_layers(statement.value):
            self.layer_names.update(target.id for target in statement.targets)
        for target in statement.targets:
            self._assign(target, len(statement.targets) == 1)

    def _assign(self, target: tree.Name, may_warn: bool) -> None:
        if target.id == "_":
            return
        kind = self.environment.kinds.get(target.id)
        if target.id == "training" or kind in FIXED:
            what = (
                "`training`" if target.id == "training" else f"the {FIXED[kind]} `{target.id}`" if kind in FIXED else ""
            )
            place = self.environment.places.get(target.id)
            notes = () if place is None or target.id == "training" else (Note("it is bound here", place),)
            self.report.mistake(
                "E0204", f"{what} cannot be given another value", target.span, *notes, hint("use another name")
            )
            return
        if target.id in self.scan_outer:
            message = f"`{target.id}` belongs to the body around this `scan`, which does not carry it"
            advice = hint(f"add `{target.id} = …` after `carry`, or use another name")
            self.report.mistake("E0210", message, target.span, advice)
        if kind not in (NameKind.STATE, NameKind.OUTPUT, NameKind.LOSS):
            self.environment.bind(target.id, NameKind.VARIABLE if may_warn else NameKind.TENSOR, target.span)

    def _makes_layers(self, value: tree.Expression) -> bool:
        """Whether parameters get the name to which this is assigned into their paths."""
        names = (name.id for name in names_in(value) if name.id not in self.environment)
        declared = [found.declaration for name in names if (found := self.scope.lookup(Namespace.VALUE, name))]
        return any(isinstance(d, tree.Callable) and d.keyword == "layer" for d in declared)

    def _if(self, statement: tree.If, is_end: bool) -> bool:
        self.expression(statement.condition)
        before, is_training = self.environment, self.is_training
        under, otherwise = _training_branches(statement.condition)
        then = self.environment = before.copy()
        self.is_training = is_training or under
        then_ends = self._block(statement.then, is_end)
        other = self.environment = before.copy()
        self.is_training = is_training or otherwise
        other_ends = statement.otherwise is not None and self._block(statement.otherwise, is_end)
        self.is_training = is_training
        self.environment = before
        branches = [branch for branch, ends in ((then, then_ends), (other, other_ends)) if not ends]
        before.merge(branches, f"it is bound in only one branch of the `if` at line {statement.span.line}")
        return then_ends and other_ends

    def _for(self, statement: tree.For) -> None:
        self.expression(statement.iterable)
        before = self.environment
        self.environment = before.copy()
        for target in statement.targets:
            if target.id == "_":
                continue
            self._expect_free(target.id, target.span, "cannot be a loop variable")
            self.environment.bind(target.id, NameKind.LOOP, target.span)
        self._block(statement.body)
        inside, self.environment = self.environment, before
        before.end_round(inside, f"it ends with each round of the `for` at line {statement.span.line}")

    def _expect_free(self, name: str, place: Span, what: str) -> None:
        """A name that has one value in the whole declaration is not bound anew."""
        kind = self.environment.kinds.get(name)
        if kind in FIXED:
            note = Note("it is bound here", self.environment.places[name])
            self.report.mistake("E0204", f"the {FIXED[kind]} `{name}` {what}", place, note, hint("use another name"))

    def _owned(self, statement: tree.ParamDeclaration | tree.StateDeclaration) -> None:
        keyword = "param" if isinstance(statement, tree.ParamDeclaration) else "state"
        is_rule = keyword == "state" and self.keyword in ("optimizer", "schedule")
        self._expect_place(keyword, self.keyword in _MAY_OWN or is_rule, statement.span)
        if self.is_training:
            message = f"the {keyword} `{statement.name}` would exist in training only"
            advice = hint("declare it before the `if`, so that both programs have it")
            self.report.mistake("E0504", message, statement.span, advice)
        if statement.annotation is not None:
            self._annotation(statement.annotation)
        self.form(Namespace.INIT, statement.initializer, ())
        self.environment.bind(statement.name, NameKind.STATE if keyword == "state" else NameKind.TENSOR, statement.span)

    def _output(self, statement: tree.OutputDeclaration) -> None:
        self._expect_place("output", self.keyword in ("model", "sample"), statement.span, in_scan=False)
        self.expression(statement.value)
        for name in statement.names:
            self.environment.bind(name.id, NameKind.OUTPUT, name.span)

    def _view(self, statement: tree.View) -> None:
        """A view begins with a column of the data, which may be an input, and gives inputs of the model."""
        if statement not in self.views:
            self._expect_place("view", False, statement.span)
            return
        self._column(statement)
        self.expression(statement.value)
        for name in statement.names:
            if name.id not in self.inputs:
                self.unknown(name, "input of the model", self.inputs)
            elif (first := self.inputs[name.id]) is not None:
                note = Note("first drawn here", first)
                self.report.mistake("E0202", f"`{name.id}` is a view already", name.span, note)
            else:
                self.inputs[name.id] = name.span
            self.columns.add(name.id)
            self.environment.bind(name.id, NameKind.INPUT, name.span)

    def _column(self, statement: tree.View) -> None:
        """The column stands first: an input of the model, or a name of the data that means nothing else."""
        column = first_name(statement.value)
        if column is not None and self._is_column(column.id, statement):
            self.columns.add(column.id)
            if column.id not in self.environment:
                self.environment.bind(column.id, NameKind.INPUT, column.span)
            return
        place, why = (statement.value.span, "") if column is None else (column.span, f", and `{column.id}` is none")
        message = f"the value of a `view` begins with a column of the data{why}"
        advice = hint("such as `view a, b = image |> random_flip`, where the data has a column `image`")
        self.report.mistake("E0613", message, place, advice)

    def _is_column(self, name: str, statement: tree.View) -> bool:
        drawn_later = any(n.id == name for view in self.views if view is not statement for n in view.names)
        if name in self.columns or name in self.environment or drawn_later:
            return name in self.columns
        own = self.scope.lookup(Namespace.VALUE, name)
        return own is None or own.scope.is_library

    def _update(self, statement: tree.StateUpdate) -> None:
        self._expect_place("<-", self.keyword in _MAY_OWN, statement.span)
        self.expression(statement.value)
        name = statement.target
        self.environment.used.add(name.id)
        kind = self.environment.kinds.get(name.id)
        if kind is None:
            self.expression(name)
        elif kind is not NameKind.STATE:
            message = f"`<-` gives a `state` its next value, and `{name.id}` is not a state here"
            self.report.mistake("E0503", message, name.span)

    def _input(self, statement: tree.InputDeclaration) -> None:
        if self.is_training:
            self.report.mistake("E0504", f"`{statement.name}` would exist in training only", statement.span)
        self._input_dimensions(statement)
        self._annotation(statement.annotation)
        if statement.range is not None:
            self.expression(statement.range)
        self.environment.bind(statement.name, NameKind.INPUT, statement.span)
        if statement.mask is not None:
            self.environment.bind(statement.mask, NameKind.TENSOR, statement.span)

    def _input_dimensions(self, statement: tree.InputDeclaration) -> None:
        end = end_of_range(statement) if statement.keyword == "input" else None
        for dimension in (*dimensions_of(statement.annotation), *([] if end is None else [end])):
            if isinstance(dimension, tree.Name) and not self._is_constant(dimension.id):
                self.environment.bind(dimension.id, NameKind.DIMENSION, dimension.span)

    def _expect_place(self, keyword: str, is_right: bool, span: Span, in_scan: bool = True) -> None:
        if is_right and self.is_in_scan and not in_scan:
            advice = hint("a step gives values with `emit`, and hands them to the next by `carry`")
            self.report.mistake("E0205", f"`{keyword}` stands in the body of a `scan`", span, advice)
            return
        if is_right and not (keyword in ("output", "loss") and self.is_training):
            return
        if is_right:
            self.report.mistake("E0504", f"this {keyword} would exist in training only", span)
            return
        self.report.mistake("E0205", f"`{keyword}` stands in {_PLACES[keyword]}, not in a {self.keyword}", span)

    # Scans

    def scan(self, scan: tree.Scan) -> None:
        """The body of a `scan` sees the names around it, and assigns only its carries and its own names."""
        self._scan_options(scan.options)
        outside = self.environment, self.scan_outer, self.is_in_scan
        own: dict[str, Span] = {}
        for part in (*scan.inputs, *scan.carries):
            if part.name in own:
                message = f"this `scan` binds `{part.name}` twice"
                self.report.mistake("E0202", message, part.span, Note("first here", own[part.name]))
            own[part.name] = part.span
        self.scan_outer = {n for n, k in self.environment.kinds.items() if k not in FIXED} - own.keys()
        self.environment = self.environment.copy()
        self.is_in_scan = True
        self._bind_parts(scan.carries)
        if scan.until is not None:
            self.elements = {part.name for part in scan.inputs} - self.environment.kinds.keys()
            self.expression(scan.until)
            self.elements = set()
        self._bind_parts(scan.inputs)
        self._block(scan.body)
        used = self.environment.used
        self.environment, self.scan_outer, self.is_in_scan = outside
        self.environment.used |= used

    def _bind_parts(self, parts: Sequence[tree.ScanInput | tree.Carry]) -> None:
        for part in parts:
            self._expect_free(part.name, part.span, "cannot be bound by a `scan`")
            self.environment.bind(part.name, NameKind.TENSOR, part.span)

    def _scan_options(self, options: Sequence[tree.Keyword]) -> None:
        seen: set[str] = set()
        for option in options:
            if option.name not in _SCAN_OPTIONS:
                self.unknown_setting("scan", option.name, option.span, _SCAN_OPTIONS)
            if option.name in seen:
                self.report.mistake("E0303", f"`{option.name}` is given twice to this `scan`", option.span)
            seen.add(option.name)

    # Shared by several of them

    def _is_constant(self, name: str) -> bool:
        if name in self.environment:
            return True
        found = self.scope.own.get(Namespace.VALUE, {}).get(name)
        return found is not None and isinstance(found.declaration, tree.Const)

    def _annotation(self, annotation: tree.TensorAnnotation) -> None:
        for dimension in dimensions_of(annotation):
            self.expression(dimension)


def _training_branches(condition: tree.Expression) -> tuple[bool, bool]:
    """Whether the first and the second branch of an `if` are for training only."""
    match condition:
        case tree.Name("training"):
            return True, False
        case tree.Unary("not", tree.Name("training")):
            return False, True
        case tree.Binary("and", left, right):
            return any(_training_branches(part)[0] for part in (left, right)), False
        case _:
            return False, False
