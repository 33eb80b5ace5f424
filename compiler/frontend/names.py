"""Names in every declaration, used or not: what each means, and whether each statement stands where it may."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from compiler.diagnostics import Diagnostic, Edit, Note, Span, hint
from compiler.frontend import syntax
from compiler.frontend.environment import FIXED, Environment, Kind
from compiler.frontend.failures import failure
from compiler.frontend.generation import KEYS as GENERATE_KEYS
from compiler.frontend.generation import check_keys
from compiler.frontend.instances import names_in
from compiler.frontend.machine import Session
from compiler.frontend.model_statements import end_of_range
from compiler.frontend.models_as_layers import scope_of_tests
from compiler.frontend.name_expressions import ExpressionNames
from compiler.frontend.scope import ModuleScope, Namespace
from compiler.frontend.start_weights import is_form
from compiler.frontend.walk import dimensions_of, is_requirement, statements_of, values_of

_MAY_OWN = ("layer", "model")
_PLACES = {
    "input": "a `model`",
    "target": "a `train`",
    "output": "a `model`",
    "param": "a `layer` or `model`",
    "state": "a `layer`, `model` or `optimizer`",
    "<-": "a `layer` or `model`",
    "emit": "a `scan`",
    "return": "a `fn`, `layer`, `init`, `optimizer` or `schedule`",
}


_SCAN_OPTIONS = ("reverse", "where", "truncate")

# The tensors of declarations that are called by training, not by the text.
_TAKEN: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "optimizer": ("(p, g, t)", (3, 4)),
    "schedule": ("(lr, t)", (2, 3)),
    "init": ("(fan_in, fan_out, shape)", (3,)),
}


def check_names(session: Session, modules: tuple[syntax.Module, ...]) -> None:
    """Record each name that means nothing, each statement that stands where it cannot, and what is never used."""
    read = _read_by_experiments(modules)
    for module in modules:
        scope = session.scopes[module.source.name]
        for declaration in module.declarations:
            _DeclarationNames(session, scope, read).check(declaration)


def _read_by_experiments(modules: tuple[syntax.Module, ...]) -> dict[str, set[str]]:
    """For each model, the names that a `train` of it reads."""
    read: dict[str, set[str]] = {}
    for train in (d for module in modules for d in module.declarations if isinstance(d, syntax.Train)):
        ranges = [target.range for target in train.targets if target.range is not None]
        dimensions = [d for target in train.targets for d in dimensions_of(target.annotation)]
        statements = () if train.augment is None else statements_of(train.augment)
        augmented = [value for statement in statements for value in values_of(statement)]
        for expression in (*(entry.value for entry in train.entries), *ranges, *dimensions, *augmented):
            read.setdefault(train.model.id, set()).update(name.id for name in names_in(expression))
    return read


class _DeclarationNames(ExpressionNames):
    """The check of one declaration. `read` are the names of each model that its experiments read."""

    def __init__(self, session: Session, scope: ModuleScope, read: Mapping[str, set[str]]) -> None:
        super().__init__(session, scope)
        self.read = read
        self.layer_names: set[str] = set()  # names that stand in the paths of parameters

    def check(self, declaration: syntax.Declaration) -> None:
        match declaration:
            case syntax.Const():
                self.declaration = declaration.name
                self.expression(declaration.value)
            case syntax.Callable():
                self._callable(declaration)
            case syntax.Model():
                self._model(declaration)
            case syntax.Train():
                self._train(declaration)
            case syntax.Generate():
                self._generate(declaration)
            case syntax.Test():
                self._test(declaration)
            case syntax.Import():
                return

    def _record(self, code: str, message: str, span: Span, *notes: Note) -> None:
        self.session.report.add(failure(code, message, span, *notes).diagnostic)

    # Heads

    def _callable(self, declaration: syntax.Callable) -> None:
        self.keyword, self.declaration = declaration.keyword, declaration.name
        signature = self.session.signature(declaration, self.scope)
        self._expect_distinct(declaration.groups)
        self._expect_tensors(declaration, len(signature.tensors))
        self._settings(signature.settings, signature.types)
        self._dimension_names(signature.tensors, declaration.results)
        for parameter in signature.tensors:
            if parameter.default is not None:
                self.expression(parameter.default)
        for parameter in signature.tensors:
            self.environment.bind(parameter.name, Kind.TENSOR, parameter.span)
        for annotation in (*(p.annotation for p in signature.tensors), *declaration.results):
            if isinstance(annotation, syntax.TensorAnnotation):
                self._annotation(annotation)
        head = self.environment.copy()
        ends = self._block(declaration.body, is_last=True)
        if not ends and not any(_results(declaration.body, declaration.keyword)):
            advice = (
                "its last line is the new value" if declaration.keyword == "optimizer" else "end its body with `return`"
            )
            self._record(
                "E0207", f"the {declaration.keyword} `{declaration.name}` has no result", declaration.head, hint(advice)
            )
        if declaration.gradient is not None:
            self._gradient(declaration.gradient, head)
        self._warn_of_unused()

    def _gradient(self, clause: syntax.GradientClause, head: Environment) -> None:
        used = self.environment.used
        self.environment = head
        self.environment.used = used
        for parameter in clause.parameters:
            self.environment.bind(parameter.id, Kind.TENSOR, parameter.span)
        self._block(clause.body, is_last=True)

    def _expect_distinct(self, groups: Sequence[Sequence[syntax.Parameter]]) -> None:
        seen: dict[str, Span] = {}
        for parameter in (p for group in groups for p in group):
            if parameter.name in seen:
                message = f"the parameter `{parameter.name}` stands twice"
                self._record("E0202", message, parameter.span, Note("first declared here", seen[parameter.name]))
            seen.setdefault(parameter.name, parameter.span)

    def _expect_tensors(self, declaration: syntax.Callable, count: int) -> None:
        taken, counts = _TAKEN.get(declaration.keyword, ("", (count,)))
        if count not in counts:
            message = f"the {declaration.keyword} `{declaration.name}` must take `{taken}`"
            self._record("E0211", message, declaration.head, hint("settings stand in a group of their own before"))

    def _settings(self, settings: Sequence[syntax.Parameter], types: dict[str, str]) -> None:
        for parameter in settings:
            if parameter.default is not None:
                self.setting_value(types[parameter.name], parameter.default)
            self.environment.bind(parameter.name, Kind.SETTING, parameter.span)

    def _dimension_names(self, tensors: Sequence[syntax.Parameter], results: Sequence[syntax.TensorAnnotation]) -> None:
        """Lone names that nothing else binds are dimensions; expressions over them are checked afterwards."""
        annotations = [p.annotation for p in tensors if isinstance(p.annotation, syntax.TensorAnnotation)]
        for annotation in (*annotations, *results):
            for dimension in dimensions_of(annotation):
                if isinstance(dimension, syntax.Name) and not self._is_constant(dimension.id):
                    self.environment.bind(dimension.id, Kind.DIMENSION, dimension.span)

    def _is_constant(self, name: str) -> bool:
        if name in self.environment:
            return True
        found = self.scope.own.get(Namespace.VALUE, {}).get(name)
        return found is not None and isinstance(found.declaration, syntax.Const)

    def _annotation(self, annotation: syntax.TensorAnnotation) -> None:
        for dimension in dimensions_of(annotation):
            self.expression(dimension)

    # Models and experiments

    def _model(self, model: syntax.Model) -> None:
        self.keyword, self.declaration = "model", model.name
        signature = self.session.signature(model, self.scope)
        self._expect_distinct((model.settings,))
        self._settings(signature.settings, signature.types)
        self._block(model.body, is_last=True)
        if not any(isinstance(statement, syntax.OutputDeclaration) for statement in statements_of(model.body)):
            advice = hint("declare what it gives: `output y = …`")
            self._record("E0207", f"the model `{model.name}` has no output", model.head, advice)
        outputs = {name for name, kind in self.environment.kinds.items() if kind is Kind.OUTPUT}
        self.environment.used |= outputs | self.read.get(model.name, set())
        self._warn_of_unused()

    def _train(self, train: syntax.Train) -> None:
        self.keyword, self.declaration = "train", train.name or train.model.id
        found = self.scope.lookup(Namespace.MODEL, train.model.id)
        for name in ("steps_per_epoch", "total_steps"):
            self.environment.bind(name, Kind.SETTING, train.head)
        if found is None or not isinstance(found.declaration, syntax.Model):
            self.unknown(train.model, "model", self.scope.names(Namespace.MODEL))
            return
        model = found.declaration
        signature = self.session.signature(model, found.scope)
        for keyword in train.settings:
            if not signature.takes_setting(keyword.name):
                self.unknown_setting(model.name, keyword.name, keyword.span, signature.setting_names)
            else:
                self.setting_value(signature.types[keyword.name], keyword.value)
        self._enter_model(model)
        for target in train.targets:
            self._input(target)
        if train.augment is not None:
            self._augment(train.augment)
        self.environment.bind("batch", Kind.SETTING, train.head)
        for entry in train.entries:
            self._entry(entry)

    def _generate(self, generate: syntax.Generate) -> None:
        self.keyword, self.declaration = "generate", generate.model.id
        found = self.scope.lookup(Namespace.MODEL, generate.model.id)
        if found is None or not isinstance(found.declaration, syntax.Model):
            self.unknown(generate.model, "model", self.scope.names(Namespace.MODEL))
            return
        check_keys(self.session, generate)
        statements = found.declaration.body.statements
        if generate.feed is not None:
            inputs = [s.name for s in statements if isinstance(s, syntax.InputDeclaration)]
            outputs = [n.id for s in statements if isinstance(s, syntax.OutputDeclaration) for n in s.names]
            for name, what, known in zip(generate.feed, ("input", "output"), (inputs, outputs), strict=True):
                if name.id not in known:
                    self.unknown(name, f"{what} of the model", known)
        for entry in generate.entries:
            if entry.key == "sample":
                self.form(Namespace.SAMPLE, entry.value, ())
            elif entry.key in GENERATE_KEYS:
                self.expression(entry.value)

    def _augment(self, block: syntax.Block) -> None:
        """Samples are changed before the model sees them, so that its outputs are not known here."""
        before, self.environment = self.environment, self.environment.copy()
        for name, kind in before.kinds.items():
            if kind is Kind.OUTPUT:
                del self.environment.kinds[name]
        self._block(block)
        self.environment = before

    def _enter_model(self, model: syntax.Model) -> None:
        """What `train` sees of a model: settings, inputs with their dimension names, and outputs."""
        for parameter in model.settings:
            self.environment.bind(parameter.name, Kind.SETTING, parameter.span)
        for statement in model.body.statements:
            if isinstance(statement, syntax.InputDeclaration):
                self._input_dimensions(statement)
                self.environment.bind(statement.name, Kind.INPUT, statement.span)
                if statement.mask is not None:
                    self.environment.bind(statement.mask, Kind.INPUT, statement.span)
            elif isinstance(statement, syntax.OutputDeclaration):
                for name in statement.names:
                    self.environment.bind(name.id, Kind.OUTPUT, name.span)

    def _entry(self, entry: syntax.Entry) -> None:
        items = entry.value.items if isinstance(entry.value, syntax.ListLiteral) else (entry.value,)
        match entry.key:
            case "optimizer":
                for item in items:
                    self.form(Namespace.OPTIMIZER, item, ("on", "decay_on"))
            case "penalty":
                for item in items:
                    self.form(Namespace.PENALTY, item, ("on",))
            case "schedule":
                self.form(Namespace.SCHEDULE, entry.value, ())
            case "clip":
                self.form(Namespace.CLIP, entry.value, ())
            case "unfreeze":
                for call in (item for item in items if isinstance(item, syntax.Call)):
                    for value in call.positional:
                        self.expression(value)
            case "init_from" if isinstance(entry.value, syntax.Call) and is_form(entry.value):
                for value in (*entry.value.positional, *(keyword.value for keyword in entry.value.keywords)):
                    self.expression(value)
            case (
                "loss"
                | "metrics"
                | "freeze"
                | "epochs"
                | "steps"
                | "batch"
                | "seed"
                | "keep"
                | "accumulate"
                | "ema"
                | "init_from"
            ):
                self.expression(entry.value)
            case _:
                return  # data sources have names of their own, and what an unknown key takes is not known

    def _test(self, test: syntax.Test) -> None:
        """A test sees the models of its file as layers."""
        self.keyword, self.declaration = "test", test.name
        self.scope = scope_of_tests(self.scope)
        self._block(test.body)
        self._warn_of_unused()

    def _is_requirement(self, value: syntax.Expression) -> bool:
        return is_requirement(value) and self.scope.lookup(Namespace.VALUE, "require") is None

    # Statements

    def _block(self, block: syntax.Block, is_last: bool = False) -> bool:
        """Check statements in order. True if they always end in a `return`."""
        for number, statement in enumerate(block.statements):
            is_end = is_last and number == len(block.statements) - 1
            if self._statement(statement, is_end):
                for unreachable in block.statements[number + 1 :]:
                    self._record("E0206", "this line comes after a `return`, so it is never reached", unreachable.span)
                    return True
                return True
        return False

    def _statement(self, statement: syntax.Statement, is_end: bool) -> bool:
        match statement:
            case syntax.Assign():
                self.expression(statement.value)
                self._assign_all(statement)
            case syntax.Return():
                self._expect_place(
                    "return", self.keyword not in ("model", "train", "test"), statement.span, in_scan=False
                )
                self.expression(statement.value)
                return True
            case syntax.If():
                return self._if(statement, is_end)
            case syntax.For():
                self._for(statement)
            case syntax.ExpressionStatement():
                self.expression(statement.value)
                is_result = self.keyword == "test" or (self.keyword == "optimizer" and is_end)
                if not is_result and not self._is_requirement(statement.value):
                    notes = (hint("give it a name, or return it"),)
                    self._record("E0206", "this value is not used", statement.span, *notes)
            case syntax.ParamDeclaration() | syntax.StateDeclaration():
                self._owned(statement)
            case syntax.StateUpdate():
                self._update(statement)
            case syntax.InputDeclaration():
                self._expect_place("input", self.keyword == "model", statement.span, in_scan=False)
                self._input(statement)
            case syntax.OutputDeclaration():
                self._expect_place("output", self.keyword == "model", statement.span, in_scan=False)
                self.expression(statement.value)
                for name in statement.names:
                    self.environment.bind(name.id, Kind.OUTPUT, name.span)
            case syntax.Emit():
                self._expect_place("emit", self.is_in_scan, statement.span)
                for value in statement.values:
                    self.expression(value)
        return False

    def _assign_all(self, statement: syntax.Assign) -> None:
        if self._makes_layers(statement.value):
            self.layer_names.update(target.id for target in statement.targets)
        for target in statement.targets:
            self._assign(target, len(statement.targets) == 1)

    def _assign(self, target: syntax.Name, may_warn: bool) -> None:
        if target.id == "_":
            return
        kind = self.environment.kinds.get(target.id)
        if target.id == "training" or kind in FIXED:
            what = (
                "`training`" if target.id == "training" else f"the {FIXED[kind]} `{target.id}`" if kind in FIXED else ""
            )
            place = self.environment.places.get(target.id)
            notes = () if place is None or target.id == "training" else (Note("it is bound here", place),)
            self._record(
                "E0204", f"{what} cannot be given another value", target.span, *notes, hint("use another name")
            )
            return
        if target.id in self.scan_outer:
            self._record(
                "E0210",
                f"`{target.id}` belongs to the body around this `scan`, which does not carry it",
                target.span,
                hint(f"add `{target.id} = …` after `carry`, or use another name"),
            )
        if kind not in (Kind.STATE, Kind.OUTPUT):
            self.environment.bind(target.id, Kind.VARIABLE if may_warn else Kind.TENSOR, target.span)

    def _makes_layers(self, value: syntax.Expression) -> bool:
        """Whether parameters get the name to which this is assigned into their paths."""
        names = (name.id for name in names_in(value) if name.id not in self.environment)
        declared = [found.declaration for name in names if (found := self.scope.lookup(Namespace.VALUE, name))]
        return any(isinstance(d, syntax.Callable) and d.keyword == "layer" for d in declared)

    def _if(self, statement: syntax.If, is_end: bool) -> bool:
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

    def _for(self, statement: syntax.For) -> None:
        self.expression(statement.iterable)
        before = self.environment
        self.environment = before.copy()
        for target in statement.targets:
            if target.id == "_":
                continue
            self._expect_free(target.id, target.span, "cannot be a loop variable")
            self.environment.bind(target.id, Kind.LOOP, target.span)
        self._block(statement.body)
        inside, self.environment = self.environment, before
        before.end_round(inside, f"it ends with each round of the `for` at line {statement.span.line}")

    def _expect_free(self, name: str, place: Span, what: str) -> None:
        """A name that has one value in the whole declaration is not bound anew."""
        kind = self.environment.kinds.get(name)
        if kind in FIXED:
            note = Note("it is bound here", self.environment.places[name])
            self._record("E0204", f"the {FIXED[kind]} `{name}` {what}", place, note, hint("use another name"))

    def _owned(self, statement: syntax.ParamDeclaration | syntax.StateDeclaration) -> None:
        keyword = "param" if isinstance(statement, syntax.ParamDeclaration) else "state"
        is_rule = keyword == "state" and self.keyword in ("optimizer", "schedule")
        self._expect_place(keyword, self.keyword in _MAY_OWN or is_rule, statement.span)
        if self.is_training:
            self._record(
                "E0504",
                f"the {keyword} `{statement.name}` would exist in training only",
                statement.span,
                hint("declare it before the `if`, so that both programs have it"),
            )
        if statement.annotation is not None:
            self._annotation(statement.annotation)
        self.form(Namespace.INIT, statement.initializer, ())
        self.environment.bind(statement.name, Kind.STATE if keyword == "state" else Kind.TENSOR, statement.span)

    def _update(self, statement: syntax.StateUpdate) -> None:
        self._expect_place("<-", self.keyword in _MAY_OWN, statement.span)
        self.expression(statement.value)
        name = statement.target
        self.environment.used.add(name.id)
        kind = self.environment.kinds.get(name.id)
        if kind is None:
            self.expression(name)
        elif kind is not Kind.STATE:
            message = f"`<-` gives a `state` its next value, and `{name.id}` is not a state here"
            self._record("E0503", message, name.span)

    def _input(self, statement: syntax.InputDeclaration) -> None:
        if self.is_training:
            self._record("E0504", f"`{statement.name}` would exist in training only", statement.span)
        self._input_dimensions(statement)
        self._annotation(statement.annotation)
        if statement.range is not None:
            self.expression(statement.range)
        self.environment.bind(statement.name, Kind.INPUT, statement.span)
        if statement.mask is not None:
            self.environment.bind(statement.mask, Kind.TENSOR, statement.span)

    def _input_dimensions(self, statement: syntax.InputDeclaration) -> None:
        end = end_of_range(statement) if statement.keyword == "input" else None
        for dimension in (*dimensions_of(statement.annotation), *([] if end is None else [end])):
            if isinstance(dimension, syntax.Name) and not self._is_constant(dimension.id):
                self.environment.bind(dimension.id, Kind.DIMENSION, dimension.span)

    def _expect_place(self, keyword: str, is_right: bool, span: Span, in_scan: bool = True) -> None:
        if is_right and self.is_in_scan and not in_scan:
            advice = hint("a step gives values with `emit`, and hands them to the next by `carry`")
            self._record("E0205", f"`{keyword}` stands in the body of a `scan`", span, advice)
            return
        if is_right and not (keyword == "output" and self.is_training):
            return
        if is_right:
            self._record("E0504", "this output would exist in training only", span)
            return
        self._record("E0205", f"`{keyword}` stands in {_PLACES[keyword]}, not in a {self.keyword}", span)

    # Scans

    def scan(self, scan: syntax.Scan) -> None:
        """The body of a `scan` sees what is around it, and assigns only what it carries or makes itself."""
        self._scan_options(scan.options)
        outside = self.environment, self.scan_outer, self.is_in_scan
        own: dict[str, Span] = {}
        for part in (*scan.inputs, *scan.carries):
            if part.name in own:
                message = f"this `scan` binds `{part.name}` twice"
                self._record("E0202", message, part.span, Note("first here", own[part.name]))
            own[part.name] = part.span
        self.scan_outer = {n for n, k in self.environment.kinds.items() if k not in FIXED} - own.keys()
        self.environment = self.environment.copy()
        self.is_in_scan = True
        for name, place in own.items():
            self._expect_free(name, place, "cannot be bound by a `scan`")
            self.environment.bind(name, Kind.TENSOR, place)
        self._block(scan.body)
        used = self.environment.used
        self.environment, self.scan_outer, self.is_in_scan = outside
        self.environment.used |= used

    def _scan_options(self, options: Sequence[syntax.Keyword]) -> None:
        seen: set[str] = set()
        for option in options:
            if option.name not in _SCAN_OPTIONS:
                self.unknown_setting("scan", option.name, option.span, _SCAN_OPTIONS)
            if option.name in seen:
                self._record("E0303", f"`{option.name}` is given twice to this `scan`", option.span)
            seen.add(option.name)

    def _warn_of_unused(self) -> None:
        for name, (kind, place) in self.environment.ever.items():
            code = _UNUSED.get(kind)
            if code is None or name in self.environment.used or name.startswith("_"):
                continue
            message = f"the {_NOUNS[kind]} `{name}` is not used"
            advice = (hint("remove it, or begin its name with `_`"),)
            is_free = kind is Kind.VARIABLE and name not in self.layer_names and f"_{name}" not in self.environment.ever
            edits = (Edit(place, f"_{name}"),) if is_free else ()
            self.session.report.add(Diagnostic(code, message, place, advice, "warning", edits))


_UNUSED = {Kind.INPUT: "W0101", Kind.VARIABLE: "W0102", Kind.SETTING: "W0103"}
_NOUNS = {Kind.INPUT: "input", Kind.VARIABLE: "name", Kind.SETTING: "setting"}


def _training_branches(condition: syntax.Expression) -> tuple[bool, bool]:
    """Whether the first and the second branch of an `if` are for training only."""
    match condition:
        case syntax.Name("training"):
            return True, False
        case syntax.Unary("not", syntax.Name("training")):
            return False, True
        case syntax.Binary("and", left, right):
            return any(_training_branches(part)[0] for part in (left, right)), False
        case _:
            return False, False


def _results(block: syntax.Block, keyword: str) -> Iterator[syntax.Statement]:
    """The statements that give a body its result, wherever they stand."""
    for number, statement in enumerate(block.statements):
        match statement:
            case syntax.Return():
                yield statement
            case syntax.ExpressionStatement() if keyword == "optimizer" and number == len(block.statements) - 1:
                yield statement
            case syntax.If():
                yield from _results(statement.then, keyword)
                if statement.otherwise is not None:
                    yield from _results(statement.otherwise, keyword)
            case syntax.For():
                yield from _results(statement.body, keyword)
            case _:
                pass
