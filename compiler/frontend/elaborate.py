"""Syntax to programs: one experiment, a bare model, or a single function as graphs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol, TypeVar

from compiler.errors.diagnostics import Diagnostic, Note, SourceError, Span, UsageError, hint
from compiler.errors.other_names import advice
from compiler.errors.suggestions import did_you_mean, nearest
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.bodies.expected_work import refuse_endless
from compiler.frontend.bodies.instances import ordinals_in
from compiler.frontend.bodies.model import add_outputs, add_states, bind_model_settings, run_model, start
from compiler.frontend.bodies.setting_binding import ready
from compiler.frontend.bodies.twin_tensors import expect_followed
from compiler.frontend.builtins.functions import BUILTINS
from compiler.frontend.data_parts import SettingValue, class_in
from compiler.frontend.elaborator import Frame, Session
from compiler.frontend.failures import Report, failure
from compiler.frontend.finish import finished, with_constants
from compiler.frontend.generation import generation_of
from compiler.frontend.library import library_scope
from compiler.frontend.names.declarations import check_names
from compiler.frontend.program import DataQuestion, DimensionsOf, ParameterSpec, Program
from compiler.frontend.samplers import samplers_of, samples_of
from compiler.frontend.scope import Located, ModuleScope, Namespace, module_scopes
from compiler.frontend.settings import SettingsRecord, read_overrides
from compiler.frontend.tensors.operators import as_tensor
from compiler.frontend.test_blocks import elaborate_test
from compiler.frontend.trace import Subject, TestProgram
from compiler.frontend.train.bases import with_bases
from compiler.frontend.train.experiment import elaborate_train
from compiler.frontend.values import FormValue, LayerInstance, TensorValue, TupleValue, Value
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.syntax import tree
from compiler.syntax.suppressions import without_suppressed
from compiler.types import BatchExtent, TensorType

_RECURSION = 20_000
_Kind = TypeVar("_Kind", bound=Evaluator)


def elaborate(
    modules: tuple[tree.Module, ...],
    experiment: str | None = None,
    overrides: tuple[tuple[str, str], ...] = (),
    dimensions_of: DimensionsOf | None = None,
    lint: Callable[[Subject], Iterable[Diagnostic]] | None = None,
) -> Program:
    """One experiment of the last module, which imports the others, or its model where it has no `train`.

    `overrides` are the `--set key=value` texts. `dimensions_of` asks the data for dimensions that nothing else binds.
    What `lint` finds are warnings of the program, or mistakes. Raises `SourceError` with all independent mistakes,
    `UsageError` where the name is unknown or several experiments leave it open.
    """
    modules = with_bases(modules)
    with _deep_recursion():
        chosen = _chosen(modules[-1], experiment)

        def begun(dimensions: Mapping[str, int]) -> Session:
            session = _new_session(modules, overrides, dimensions)
            check_names(session)
            return session

        session, program = _asking_the_data(begun, chosen, dimensions_of)
        session.report.raise_errors()
        assert program is not None
        if lint is None:
            return program
        for finding in lint(_subject(session, program, chosen)):
            session.report.add(finding)
        session.report.raise_errors()
        return replace(program, warnings=without_suppressed(session.report.warnings))


class Watch(Protocol):
    """Watches the experiments and models of `check`, and may know some of them from an earlier time."""

    def known(self, subject: tree.Train | tree.Model) -> tuple[Diagnostic, ...] | None:
        """The findings of one that needs no elaboration."""
        ...

    def elaborated(self, session: Session, subject: tree.Train | tree.Model, findings: tuple[Diagnostic, ...]) -> None:
        """One was elaborated: the trace of its session has what was seen."""
        ...


def check(
    modules: tuple[tree.Module, ...],
    missing: tuple[Diagnostic, ...] = (),
    incomplete: frozenset[str] = frozenset(),
    dimensions_of: DimensionsOf | None = None,
    lint: Callable[[Subject], Iterable[Diagnostic]] | None = None,
    experiment: str | None = None,
    overrides: tuple[tuple[str, str], ...] = (),
    watch: Watch | None = None,
) -> tuple[Diagnostic, ...]:
    """All mistakes and warnings: names and syntax of every declaration, then each experiment and model elaborated.

    `missing` says which imports cannot be read; the files `incomplete` are checked without them. `lint` looks at what
    has no mistakes. Only the one of the name `experiment` is elaborated where that is given, and all with the
    `overrides`. `watch` is given what each was elaborated to, with mistakes and without.
    Raises `UsageError` where what can be read has no such name.
    """
    modules = with_bases(modules)
    with _deep_recursion():

        def begun(dimensions: Mapping[str, int]) -> Session:
            session = _new_session(modules, overrides, dimensions, incomplete)
            session.trace.seen = None if watch is None else []
            return session

        session = begun({})
        found = session.report
        for mistake in missing:
            found.add(mistake)
        check_names(session)
        for declaration in _checked(modules[-1], experiment, found):
            known = None if watch is None else watch.known(declaration)
            if known is None:
                session, program = _asking_the_data(begun, declaration, dimensions_of)
                linted = () if program is None or lint is None else lint(_subject(session, program, declaration))
                known = (*_without_open_dimensions(session, declaration), *linted)
                if watch is not None:
                    watch.elaborated(session, declaration, known)
            for finding in known:
                found.add(finding)
        return found.diagnostics


def _checked(module: tree.Module, experiment: str | None, found: Report) -> Sequence[tree.Train | tree.Model]:
    """The subjects of `check`: all experiments, and the models that none trains; or the one that is named."""
    if experiment is not None:
        try:
            return [_chosen(module, experiment)]
        except UsageError:
            if found.has_errors:  # which may have hidden it
                return []
            raise
    trained = {d.model.id for d in module.declarations if isinstance(d, tree.Train)}
    return [
        d
        for d in module.declarations
        if isinstance(d, tree.Train) or (isinstance(d, tree.Model) and d.name not in trained)
    ]


def elaborate_tests(modules: tuple[tree.Module, ...]) -> tuple[TestProgram, ...]:
    """The tests of the last module, in their order. Raises `SourceError`."""
    tests: list[TestProgram] = []
    with _deep_recursion():
        for declaration in modules[-1].declarations:
            if isinstance(declaration, tree.Test):
                session = _new_session(modules)
                check_names(session)
                found = elaborate_test(session, declaration, session.root)
                session.report.raise_errors()
                assert found is not None
                tests.append(found)
    return tuple(tests)


def elaborate_function(
    modules: tuple[tree.Module, ...],
    name: str,
    config: Mapping[str, SettingValue],
    operand_types: Sequence[TensorType],
    training: bool = False,
) -> tuple[Graph, tuple[ParameterSpec, ...]]:
    """A `fn` or `layer` applied to tensors of these types, and the parameters and states of a layer.

    Inputs of role DATA are named after its tensors, those of role PARAMETER and STATE after their paths; outputs are
    `result`, `result1`, …. Raises `SourceError`, and `UsageError` where there is no such function.
    """
    with _deep_recursion():
        session = _new_session(modules)
        check_names(session)
        graph = session.report.attempt(lambda: _function(session, name, config, operand_types, training))
        session.report.raise_errors()
        assert graph is not None
        return with_constants(session, graph), tuple(session.parameters.values())


def expect_function(modules: tuple[tree.Module, ...], name: str, config: Mapping[str, SettingValue]) -> None:
    """Raise what `elaborate_function` raises whatever the tensors are: mistakes in names, an unknown setting."""
    with _deep_recursion():
        session = _new_session(modules)
        check_names(session)
        session.report.raise_errors()
        _callable(session, name, config)


def _new_session(
    modules: tuple[tree.Module, ...],
    overrides: tuple[tuple[str, str], ...] = (),
    dimensions: Mapping[str, int] | None = None,
    incomplete: frozenset[str] = frozenset(),
) -> Session:
    library = library_scope()
    scopes, mistakes = module_scopes(modules, library)
    settings = SettingsRecord(read_overrides(overrides))
    readers = [d.span for m in modules for d in m.declarations if isinstance(d, tree.Model | tree.Train)]
    report = Report({key: override.span for key, override in settings.overrides.items()}, readers, incomplete)
    for mistake in mistakes:
        report.add(mistake)
    session = Session(report, modules, scopes, library, BUILTINS.__contains__, settings, dimensions or {})
    session.generates = _generates(session)
    session.samples = samples_of(session)
    return session


def _generates(session: Session) -> dict[str, tuple[tree.Generate, ModuleScope]]:
    """How each model is decoded: one `generate` for each, the last file's own before those that it imports."""
    found: dict[str, tuple[tree.Generate, ModuleScope]] = {}
    for module in session.modules:
        own: dict[str, tree.Generate] = {}
        for declaration in module.declarations:
            if not isinstance(declaration, tree.Generate):
                continue
            name = declaration.model
            if name.id in own:
                earlier = Note("the first one", own[name.id].model.span)
                session.report.mistake("E0621", f"`{name.id}` has two `generate`", name.span, earlier)
            own.setdefault(name.id, declaration)
            found[name.id] = (declaration, session.scopes[module.source.name])
    return found


def _subject(session: Session, program: Program, chosen: tree.Train | tree.Model) -> Subject:
    if isinstance(chosen, tree.Model):
        return Subject(program, chosen, None, session.trace)
    scopes = session.scopes.values()
    found = next(f for scope in scopes if (f := scope.lookup(Namespace.MODEL, program.model)) is not None)
    assert isinstance(found.declaration, tree.Model)
    return Subject(program, found.declaration, chosen, session.trace)


def _asking_the_data(
    begun: Callable[[Mapping[str, int]], Session], chosen: tree.Train | tree.Model, dimensions_of: DimensionsOf | None
) -> tuple[Session, Program | None]:
    """Elaborated; where dimensions were left open and the data knows them, once more with those.

    A target may show more of them only when those of the inputs are known.
    """
    known: dict[str, int] = {}
    session = begun(known)
    program = _elaborated(session, chosen)
    targets = tuple(target.name for target in chosen.targets) if isinstance(chosen, tree.Train) else ()
    while session.open_dimensions and dimensions_of is not None:
        inputs = tuple(session.inputs.values())
        question = DataQuestion(tuple(session.open_dimensions), inputs, session.data, session.cuts, targets)
        found = dimensions_of(question)
        if found.keys() <= known.keys():
            break
        known = {**known, **found}
        session = begun(known)
        program = _elaborated(session, chosen)
    return session, program


def _without_open_dimensions(session: Session, chosen: tree.Train | tree.Model) -> Iterator[Diagnostic]:
    """The findings of an experiment whose data is not there: a size of the data is no mistake of the text."""
    for finding in session.report.diagnostics:
        if finding.code != "E0415" or not isinstance(chosen, tree.Train):
            yield finding
    if isinstance(chosen, tree.Train):
        told = set[Span]()
        for name, place in session.open_dimensions.items():
            of_class = class_in(name)
            if place in told:
                continue
            told.add(place)
            said = f"how large `{name}` is" if of_class is None else f"how many rows each class of `{of_class[0]}` has"
            message = f"the shapes of `{chosen.model.id}` are not checked: only the data says {said}"
            fix = "put the data where `train` says" + (
                ", or make the dimension a setting of the model" if of_class is None else ", or write the weights"
            )
            yield Diagnostic("W0105", message, place, (hint(fix),), "warning")


@contextmanager
def _deep_recursion() -> Generator[None]:
    """Evaluation follows the nesting of the text, and of calls up to a bound of its own."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, _RECURSION))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def _chosen(module: tree.Module, experiment: str | None) -> tree.Train | tree.Model:
    """The experiment of that name, or the only one; a model where there is no experiment.

    The name of a model stands for its `train` without a name, or for its only one.
    """
    trains = [d for d in module.declarations if isinstance(d, tree.Train)]
    models = [d for d in module.declarations if isinstance(d, tree.Model)]
    names = [t.name or t.model.id for t in trains]
    trained = [t.model.id for t in trains]
    candidates: dict[str, tree.Train | tree.Model] = {m.name: m for m in models}
    candidates.update({t.model.id: t for t in trains if trained.count(t.model.id) == 1})
    candidates.update(zip(names, trains, strict=True))
    if experiment is not None:
        if experiment not in candidates:
            found = nearest(experiment, candidates)
            fix = f"did you mean {found}?" if found else f"there is {', '.join(candidates)}" if candidates else ""
            raise UsageError(f"{module.source.name} has no experiment or model {experiment}", fix)
        return candidates[experiment]
    if len(trains) == 1 or len(set(names)) < len(names):  # two of one name are a mistake, which the session tells
        return trains[0]
    if len(trains) > 1:
        fix = f"name one with --experiment: {', '.join(names)}"
        raise UsageError(f"{module.source.name} has {len(trains)} experiments", fix)
    if len(models) == 1:
        return models[0]
    if models:
        message = f"{module.source.name} has {len(models)} models and no `train`"
        raise UsageError(message, f"name one with --experiment: {', '.join(m.name for m in models)}")
    whole = Span(module.source, 1, 1, 1, 1)
    note = hint("`dlc check` looks at a file of functions and layers")
    mistake = failure("E0609", "this file has no `model` and no `train`", whole, note)
    raise SourceError((mistake.diagnostic,))


def _elaborated(session: Session, chosen: tree.Train | tree.Model) -> Program | None:
    """The program, or None with the mistakes recorded."""
    scope = session.root
    sources = tuple(module.source for module in session.modules)
    name = chosen.model.id if isinstance(chosen, tree.Train) else chosen.name
    found = scope.lookup(Namespace.MODEL, name)
    model = None if found is None else found.declaration
    if found is not None and isinstance(model, tree.Model) and refuse_endless(session, model, found.scope):
        return None
    try:
        with session.report.recording():
            if isinstance(chosen, tree.Train):
                return elaborate_train(session, chosen, scope, sources)
            return _bare_model(session, chosen, sources)
    except RecursionError:
        message = f"`{getattr(chosen, 'name', None) or 'train'}` is nested too deeply to be elaborated"
        session.report.add(Diagnostic("E0310", message, chosen.head))
    return None


def _bare_model(session: Session, model: tree.Model, sources: tuple[tree.Source, ...]) -> Program | None:
    scope = next(s for s in session.scopes.values() if s.lookup(Namespace.MODEL, model.name))

    def begun(name: str, kind: type[_Kind], training: bool = False) -> _Kind:
        evaluator = start(session, model, scope, name, training, kind)
        caller = Frame(scope, "model", model.name, session.new_scope())
        caller.ordinals = evaluator.frame.ordinals
        bind_model_settings(evaluator, model, scope, (), caller)
        return evaluator

    evaluators: list[Evaluator] = []
    for name, training in (("training", True), ("inference", False)):
        evaluator = begun(name, Evaluator, training)
        run_model(evaluator, model)
        add_outputs(evaluator)
        add_states(evaluator)
        evaluators.append(evaluator)
    if not session.report.has_errors:
        session.report.attempt(lambda: expect_followed(session))
    generation = generation_of(session, model.name, evaluators[1])
    samplers = samplers_of(session, Located(model, scope), model, begun)
    for mistake in session.settings.unknown():
        session.report.add(mistake)
    if session.report.has_errors:
        return None
    training, inference = evaluators
    name = model.name
    return finished(session, name, name, sources, training, inference, None, None, generation, samplers)


def _function(
    session: Session, name: str, config: Mapping[str, SettingValue], operand_types: Sequence[TensorType], training: bool
) -> Graph:
    declaration, within = _callable(session, name, config)
    signature = session.signature(declaration, within)
    if len(operand_types) > len(signature.tensors):
        takes = ", ".join(f"`{parameter.name}`" for parameter in signature.tensors) or "none"
        message = f"`{name}` takes {len(signature.tensors)} tensors, but {len(operand_types)} are given"
        raise UsageError(message, f"its tensors are {takes}")
    head = declaration.head
    frame = Frame(within, "model", name, session.new_scope(), application="#0")
    evaluator = Evaluator(session, GraphBuilder(name), frame, training)
    evaluator.span = head
    if declaration.keyword == "layer":
        frame.ordinals = ordinals_in(within, declaration)
    keywords = [
        (key, ready(_configured(evaluator, signature.types[key], value), head)) for key, value in config.items()
    ]
    bound: FormValue | LayerInstance
    if declaration.keyword == "layer":
        bound = LayerInstance(declaration, within, {}, "", ("function",), path="")
        bound.settings = evaluator.bind_settings(signature, within, (), keywords, receiver=bound)
        for setting, child in bound.children:
            child.place = setting
    else:
        bound = FormValue(declaration, within, evaluator.bind_settings(signature, within, (), keywords))
    arguments = [
        ready(_operand(evaluator, parameter.name, type_), head)
        for parameter, type_ in zip(signature.tensors, operand_types, strict=False)
    ]
    evaluator.span = head
    result = evaluator.apply(bound, arguments, ())
    for number, item in enumerate(result.items if isinstance(result, TupleValue) else (result,)):
        evaluator.builder.output(f"result{number or ''}", Role.OUTPUT, as_tensor(evaluator, item).value)
    add_states(evaluator)
    return evaluator.builder.build()


def _callable(session: Session, name: str, config: Mapping[str, SettingValue]) -> tuple[tree.Callable, ModuleScope]:
    """The function or layer of a name, and the scope of its file; its settings have the names of `config`."""
    found = session.root.lookup(Namespace.VALUE, name)
    if found is None or not isinstance(found.declaration, tree.Callable):
        fix = did_you_mean(name, session.root.names(Namespace.VALUE)) or "declare it in the text with `fn`"
        raise UsageError(f"there is no function or layer `{name}`", fix)
    names = session.signature(found.declaration, found.scope).setting_names
    unknown = next((key for key in config if key not in names), None)
    if unknown is not None:
        fix = advice(unknown, names, {}) or f"its settings are {', '.join(f'`{n}`' for n in names) or 'none'}"
        raise UsageError(f"`{name}` has no setting `{unknown}`", fix)
    return found.declaration, found.scope


def _operand(evaluator: Evaluator, name: str, type_: TensorType) -> TensorValue:
    axes = tuple(Axis(frozenset({(0, "batch")})) if extent == BatchExtent() else Axis() for extent in type_.shape)
    return TensorValue(evaluator.input(name, Role.DATA, type_), axes)


def _configured(evaluator: Evaluator, kind: str, value: SettingValue) -> Value:
    """A Python value as a setting; functions and initialisers are given by name."""
    if kind in ("fn", "layer", "init", "schedule") and isinstance(value, str):
        name = tree.Name(value, evaluator.here)
        if kind == "init":
            return evaluator.evaluate_initializer(name)
        if kind == "schedule":
            return evaluator.evaluate_form(Namespace.SCHEDULE, name, "")
        return evaluator.evaluate(name)
    return tuple(value) if isinstance(value, list) else value
