"""Names in every declaration, used or not: their meaning, and whether each statement may stand at its place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from compiler.errors.diagnostics import Diagnostic, Edit, Note, Span, hint
from compiler.frontend.bodies.instances import names_in
from compiler.frontend.elaborator import Session
from compiler.frontend.generation import KEYS as GENERATE_KEYS
from compiler.frontend.generation import check_keys
from compiler.frontend.names.expressions import Environment, NameKind
from compiler.frontend.names.statements import StatementNames
from compiler.frontend.samplers import ROW, names_of_parts
from compiler.frontend.scope import ModuleScope, Namespace, scope_of_tests
from compiler.frontend.train.bases import bases_of
from compiler.frontend.train.entries import EVALUATED, lines_of, local_entries
from compiler.frontend.train.forms import is_form
from compiler.support.train_keys import KEYS, OF_UPDATES
from compiler.syntax import tree
from compiler.syntax.walk import dimensions_of, expressions_in, statements_of, values_of

OF_THE_DATA = ("bucket",)
"""The beginning of names of settings that the data decides."""
# The tensors of declarations that are called by training, not by the text.
_TAKEN: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "optimizer": ("(p, g, t)", (3, 4)),
    "schedule": ("(lr, t)", (2, 3)),
    "init": ("(fan_in, fan_out, shape)", (3,)),
}


def check_names(session: Session) -> None:
    """Record each name that means nothing, each statement that stands where it cannot, and each unused name."""
    read = _read_by_experiments(session.modules)
    for module in session.modules:
        scope = session.scopes[module.source.name]
        for declaration in module.declarations:
            _DeclarationNames(session, scope, read).check(declaration)


def _read_by_experiments(modules: tuple[tree.Module, ...]) -> dict[str, set[str]]:
    """For each model, the names that a `train` or `sample` of it reads."""
    read: dict[str, set[str]] = {}
    for sample in (d for module in modules for d in module.declarations if isinstance(d, tree.Sample)):
        for part in (p for s in statements_of(sample.body) for v in values_of(s) for p in expressions_in(v)):
            if isinstance(part, tree.Attribute):
                read.setdefault(sample.model.id, set()).add(part.name)
    for train in (d for module in modules for d in module.declarations if isinstance(d, tree.Train)):
        ranges = [target.range for target in train.targets if target.range is not None]
        dimensions = [d for target in train.targets for d in dimensions_of(target.annotation)]
        statements = () if train.augment is None else statements_of(train.augment)
        augmented = [value for statement in statements for value in values_of(statement)]
        for expression in (*(entry.value for entry in lines_of(train)), *ranges, *dimensions, *augmented):
            read.setdefault(train.model.id, set()).update(name.id for name in names_in(expression))
    return read


def _stated_losses(session: Session) -> set[str]:
    """The names of the losses that layers and models state."""
    declared = [d for module in session.modules for d in module.declarations]
    bodies = [d.body for d in declared if isinstance(d, tree.Callable | tree.Model)]
    return {s.name.id for body in bodies for s in statements_of(body) if isinstance(s, tree.LossDeclaration)}


class _DeclarationNames(StatementNames):
    """The check of one declaration. `read` are the names of each model that its experiments read."""

    def __init__(self, session: Session, scope: ModuleScope, read: Mapping[str, set[str]]) -> None:
        super().__init__(session, scope)
        self.read = read

    def check(self, declaration: tree.Declaration) -> None:
        match declaration:
            case tree.Const():
                self.declaration = declaration.name
                self.expression(declaration.value)
            case tree.Callable():
                self._callable(declaration)
            case tree.Model():
                self._model(declaration)
            case tree.Train():
                self._train(declaration)
            case tree.Generate():
                self._generate(declaration)
            case tree.Sample():
                self._sample(declaration)
            case tree.Test():
                self._test(declaration)
            case tree.Import():
                return

    # Heads

    def _callable(self, declaration: tree.Callable) -> None:
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
            self.environment.bind(parameter.name, NameKind.TENSOR, parameter.span)
        for annotation in (*(p.annotation for p in signature.tensors), *declaration.results):
            if isinstance(annotation, tree.TensorAnnotation):
                self._annotation(annotation)
        head = self.environment.copy()
        ends = self._block(declaration.body, is_last=True)
        if not ends and not any(_results(declaration.body, declaration.keyword)):
            advice = (
                "its last line is the new value" if declaration.keyword == "optimizer" else "end its body with `return`"
            )
            self.report.mistake(
                "E0207", f"the {declaration.keyword} `{declaration.name}` has no result", declaration.head, hint(advice)
            )
        if declaration.gradient is not None:
            self._gradient(declaration.gradient, head)
        self._warn_of_unused()

    def _gradient(self, clause: tree.GradientClause, head: Environment) -> None:
        used = self.environment.used
        self.environment = head
        self.environment.used = used
        for parameter in clause.parameters:
            self.environment.bind(parameter.id, NameKind.TENSOR, parameter.span)
        self._block(clause.body, is_last=True)

    def _expect_distinct(self, groups: Sequence[Sequence[tree.Parameter]]) -> None:
        seen: dict[str, Span] = {}
        for parameter in (p for group in groups for p in group):
            if parameter.name in seen:
                message = f"the parameter `{parameter.name}` stands twice"
                self.report.mistake("E0202", message, parameter.span, Note("first declared here", seen[parameter.name]))
            seen.setdefault(parameter.name, parameter.span)

    def _expect_tensors(self, declaration: tree.Callable, count: int) -> None:
        taken, counts = _TAKEN.get(declaration.keyword, ("", (count,)))
        if count not in counts:
            message = f"the {declaration.keyword} `{declaration.name}` must take `{taken}`"
            self.report.mistake(
                "E0211", message, declaration.head, hint("settings stand in a group of their own before")
            )

    def _settings(self, settings: Sequence[tree.Parameter], types: dict[str, str]) -> None:
        for parameter in settings:
            if parameter.default is not None:
                self.setting_value(types[parameter.name], parameter.default)
            self.environment.bind(parameter.name, NameKind.SETTING, parameter.span)

    def _dimension_names(self, tensors: Sequence[tree.Parameter], results: Sequence[tree.TensorAnnotation]) -> None:
        """Lone names that nothing else binds are dimensions; expressions over them are checked afterwards."""
        annotations = [p.annotation for p in tensors if isinstance(p.annotation, tree.TensorAnnotation)]
        for annotation in (*annotations, *results):
            for dimension in dimensions_of(annotation):
                if isinstance(dimension, tree.Name) and not self._is_constant(dimension.id):
                    self.environment.bind(dimension.id, NameKind.DIMENSION, dimension.span)

    # Models and experiments

    def _model(self, model: tree.Model) -> None:
        self.keyword, self.declaration = "model", model.name
        signature = self.session.signature(model, self.scope)
        self._expect_distinct((model.settings,))
        self._settings(signature.settings, signature.types)
        self._block(model.body, is_last=True)
        if not any(isinstance(statement, tree.OutputDeclaration) for statement in statements_of(model.body)):
            advice = hint("declare its results: `output y = …`")
            self.report.mistake("E0207", f"the model `{model.name}` has no output", model.head, advice)
        outputs = {name for name, kind in self.environment.kinds.items() if kind is NameKind.OUTPUT}
        self.environment.used |= outputs | self.read.get(model.name, set())
        self._warn_of_unused()

    def _train(self, train: tree.Train) -> None:
        self.keyword, self.declaration = "train", train.name or train.model.id
        found = self.scope.lookup(Namespace.MODEL, train.model.id)
        for name in ("steps_per_epoch", "total_steps"):
            self.environment.bind(name, NameKind.SETTING, train.head)
        if found is None or not isinstance(found.declaration, tree.Model):
            self._unknown_subject(train)
            return
        model = found.declaration
        signature = self.session.signature(model, found.scope)
        for keyword in train.settings:
            if not signature.takes_setting(keyword.name):
                self.unknown_setting(model.name, keyword.name, keyword.span, signature.setting_names)
            else:
                self.setting_value(signature.types[keyword.name], keyword.value)
        assigned = (s for s in statements_of(model.body) if isinstance(s, tree.Assign))
        self.inner = {target.id for statement in assigned for target in statement.targets}
        self.losses = _stated_losses(self.session)
        self._enter_model(model)
        for target in train.targets:
            self._input(target)
        if train.augment is not None:
            self._augment(train.augment)
        self.environment.bind("batch", NameKind.SETTING, train.head)
        for entry in local_entries(train):
            self.expression(entry.value)
            self.environment.bind(entry.key, NameKind.TENSOR, entry.span)
        for entry in lines_of(train):
            self._entry(entry)

    def _unknown_subject(self, train: tree.Train) -> None:
        """A `train` of no model and of no experiment, or of one that builds on itself."""
        modules, name = self.session.modules, train.model
        chain = bases_of(train, modules)
        if train in chain:
            advice = hint("let one of them name a model")
            notes = [Note("the experiment on which it builds", chain[0].head)] if chain[0] is not train else []
            message = f"`{train.name}` builds on itself" + (f", through `{name.id}`" if notes else "")
            self.report.mistake("E0625", message, name.span, *notes, advice)
            return
        if chain:
            return  # what its base lacks is told there
        trains = [d for m in modules for d in m.declarations if isinstance(d, tree.Train)]
        names = [other.name for other in trains if other.name and other.name != train.name]
        if name.id in names:
            advice = hint(f"write `train NAME: {name.id} {{ … }}`")
            message = f"an experiment that builds on `{name.id}` needs a name of its own"
            self.report.mistake("E0625", message, name.span, advice)
            return
        unnamed = [other.model.id for other in trains if other.name is None and train.name is not None]
        said = "an experiment to build on has a name: `train {0}: {1} {{ … }}` in place of `train {1} {{ … }}`"
        advice = [hint(said.format(name.id, model)) for model in unnamed[:1]]
        known = (*self.scope.names(Namespace.MODEL), *names)
        self.unknown(name, "model or experiment" if names else "model", known, *advice)

    def _generate(self, generate: tree.Generate) -> None:
        self.keyword, self.declaration = "generate", generate.model.id
        found = self.scope.lookup(Namespace.MODEL, generate.model.id)
        if found is None or not isinstance(found.declaration, tree.Model):
            self.unknown(generate.model, "model", self.scope.names(Namespace.MODEL))
            return
        check_keys(self.session, generate)
        statements = found.declaration.body.statements
        if generate.feed is not None:
            inputs = [s.name for s in statements if isinstance(s, tree.InputDeclaration)]
            outputs = [n.id for s in statements if isinstance(s, tree.OutputDeclaration) for n in s.names]
            for name, what, known in zip(generate.feed, ("input", "output"), (inputs, outputs), strict=True):
                if name.id not in known:
                    self.unknown(name, f"{what} of the model", known)
        for entry in generate.entries:
            if entry.key == "sample":
                self.form(Namespace.SAMPLE, entry.value, ())
            elif entry.key in GENERATE_KEYS:
                self.expression(entry.value)

    def _sample(self, sample: tree.Sample) -> None:
        """A `sample` sees the settings and sizes of its model, and the model by its name."""
        self.keyword, self.declaration = "sample", sample.name
        found = self.scope.lookup(Namespace.MODEL, sample.model.id)
        if found is None or not isinstance(found.declaration, tree.Model):
            self.unknown(sample.model, "model", self.scope.names(Namespace.MODEL))
            return
        model = found.declaration
        signature = self.session.signature(sample, self.scope)
        self._expect_distinct((sample.settings,))
        self._expect_free_names(sample, model)
        for parameter in sample.settings:
            if parameter.default is None:
                message = f"the setting `{parameter.name}` of the `sample` needs a default"
                self.report.mistake("E0630", message, parameter.span, hint(f"such as `{parameter.name} = 1.0`"))
        for setting in model.settings:
            self.environment.bind(setting.name, NameKind.SETTING, setting.span)
        for statement in model.body.statements:
            if isinstance(statement, tree.InputDeclaration):
                self._input_dimensions(statement)
                self.inner.add(statement.name)
            elif isinstance(statement, tree.OutputDeclaration):
                self.inner.update(name.id for name in statement.names)
        self.environment.bind(ROW, NameKind.TENSOR, sample.head)
        self.environment.bind(model.name, NameKind.TENSOR, sample.head)
        self.environment.used |= {setting.name for setting in model.settings}
        self.model_of_sample, self.parts = model.name, tuple(dict.fromkeys(names_of_parts(model)))
        self._settings(signature.settings, signature.types)
        self._block(sample.body, is_last=True)
        if not any(isinstance(statement, tree.OutputDeclaration) for statement in statements_of(sample.body)):
            advice = hint("declare what it makes: `output image = …`")
            self.report.mistake("E0630", f"the sample `{sample.name}` has no output", sample.head, advice)
        self.environment.used |= {n for n, kind in self.environment.kinds.items() if kind is NameKind.OUTPUT}
        self._warn_of_unused()

    def _expect_free_names(self, sample: tree.Sample, model: tree.Model) -> None:
        """`--set` can tell the settings of a sampler from all others."""
        if sample.name in (*KEYS, "generate", *OF_THE_DATA):
            message = f"`{sample.name}` begins the names of other settings, so it cannot be the name of a `sample`"
            self.report.mistake("E0630", message, sample.head, hint("use another name"))
        if sample.name == model.name:
            message = f"`{sample.name}` is the name of the model, from which this `sample` makes rows"
            first = Note("declared here", model.head)
            self.report.mistake("E0630", message, sample.head, first, hint(f"such as `sample rows from {model.name}`"))
        taken = {setting.name: setting.span for setting in model.settings}
        for parameter in sample.settings:
            if parameter.name in (model.name, ROW):
                message = f"the setting `{parameter.name}` of the `sample` would hide the model's value of this name"
                self.report.mistake("E0630", message, parameter.span, hint("use another name"))
            if parameter.name in taken:
                message = f"`{parameter.name}` is a setting of `{model.name}`, and this one would hide it"
                first = Note("declared here", taken[parameter.name])
                self.report.mistake("E0630", message, parameter.span, first, hint("use another name"))

    def _augment(self, block: tree.Block) -> None:
        """Samples are changed before the model sees them, so that its outputs are not known here."""
        before, self.environment = self.environment, self.environment.copy()
        self.views = tuple(statement for statement in block.statements if isinstance(statement, tree.View))
        drawn = {name.id for view in self.views for name in view.names}
        self.columns = self.inputs.keys() - drawn
        for name, kind in before.kinds.items():
            if kind is NameKind.OUTPUT or name in drawn:
                del self.environment.kinds[name]
        self._block(block)
        self.environment = before

    def _enter_model(self, model: tree.Model) -> None:
        """The names of a model in `train`: settings, inputs with their dimension names, and outputs."""
        for parameter in model.settings:
            self.environment.bind(parameter.name, NameKind.SETTING, parameter.span)
        for statement in model.body.statements:
            if isinstance(statement, tree.InputDeclaration):
                self._input_dimensions(statement)
                self.inputs[statement.name] = None
                self.environment.bind(statement.name, NameKind.INPUT, statement.span)
                if statement.mask is not None:
                    self.environment.bind(statement.mask, NameKind.INPUT, statement.span)
            elif isinstance(statement, tree.OutputDeclaration):
                for name in statement.names:
                    self.environment.bind(name.id, NameKind.OUTPUT, name.span)

    def _entry(self, entry: tree.Entry) -> None:
        items = entry.value.items if isinstance(entry.value, tree.ListLiteral) else (entry.value,)
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
                for call in (item for item in items if isinstance(item, tree.Call)):
                    for value in call.positional:
                        self.expression(value)
            case "init_from" if is_form(entry.value):
                for value in (*entry.value.positional, *(keyword.value for keyword in entry.value.keywords)):
                    self.expression(value)
            case key if key in EVALUATED or key in OF_UPDATES:
                self.expression(entry.value)
            case _:
                return  # data sources have names of their own, and what an unknown key takes is not known

    def _test(self, test: tree.Test) -> None:
        """A test sees the models of its file as layers."""
        self.keyword, self.declaration = "test", test.name
        self.scope = scope_of_tests(self.scope)
        self._block(test.body)
        self._warn_of_unused()

    def _warn_of_unused(self) -> None:
        for name, (kind, place) in self.environment.ever.items():
            code = _UNUSED.get(kind)
            if code is None or name in self.environment.used or name.startswith("_"):
                continue
            message = f"the {_NOUNS[kind]} `{name}` is not used"
            advice = (hint("remove it, or begin its name with `_`"),)
            is_free = (
                kind is NameKind.VARIABLE and name not in self.layer_names and f"_{name}" not in self.environment.ever
            )
            edits = (Edit(place, f"_{name}"),) if is_free else ()
            self.report.add(Diagnostic(code, message, place, advice, "warning", edits))


_UNUSED = {NameKind.INPUT: "W0101", NameKind.VARIABLE: "W0102", NameKind.SETTING: "W0103"}
_NOUNS = {NameKind.INPUT: "input", NameKind.VARIABLE: "name", NameKind.SETTING: "setting"}


def _results(block: tree.Block, keyword: str) -> Iterator[tree.Statement]:
    """The statements that give a body its result, wherever they stand."""
    for number, statement in enumerate(block.statements):
        match statement:
            case tree.Return():
                yield statement
            case tree.ExpressionStatement() if keyword == "optimizer" and number == len(block.statements) - 1:
                yield statement
            case tree.If():
                yield from _results(statement.then, keyword)
                if statement.otherwise is not None:
                    yield from _results(statement.otherwise, keyword)
            case tree.For():
                yield from _results(statement.body, keyword)
            case _:
                pass
