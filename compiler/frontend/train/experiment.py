"""`train`: a model with its loss, data, optimizer and schedule, elaborated into one program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from compiler.errors.diagnostics import Source, Span, hint
from compiler.frontend.arithmetic import Formula
from compiler.frontend.bodies.declared_tensors import declare_input
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.bodies.instances import names_in
from compiler.frontend.bodies.model import add_outputs, add_states, bind_model_settings, run_model, start
from compiler.frontend.bodies.setting_binding import Argument
from compiler.frontend.bodies.twin_tensors import expect_followed
from compiler.frontend.data_parts import Cuts
from compiler.frontend.elaborator import Frame, Session
from compiler.frontend.failures import Poisoned, failure, nearest
from compiler.frontend.finish import finished
from compiler.frontend.generation import generation_of
from compiler.frontend.program import ParameterSpec, Program, TrainingPlan
from compiler.frontend.samplers import samplers_of
from compiler.frontend.scope import Located, ModuleScope, Namespace
from compiler.frontend.tensors.operators import arithmetic
from compiler.frontend.train import losses, updates
from compiler.frontend.train.augmentation import augmentation, columns_of
from compiler.frontend.train.bases import bases_of
from compiler.frontend.train.entries import Entries, Keys
from compiler.frontend.train.metrics import (
    LOSS,
    accumulation_of,
    expect_direction,
    expect_sums_over_rows,
    named_metrics,
    unsound_metrics,
)
from compiler.frontend.train.patterns import Freezing, freezing_of, select
from compiler.frontend.train.stated_losses import KEY as AUXILIARY
from compiler.frontend.train.stated_losses import expect_same_losses, totals_of, with_stated_losses
from compiler.frontend.train.update_blocks import BlockKeys, check_updates, claimed, refuse_stated, unclaimed
from compiler.frontend.update_rules import Accumulation, Clip, Follower, Phase, UpdateBlock, UpdateRule, loss_of_update
from compiler.frontend.values import POISON, FormValue, RunTimeNumber, TensorValue
from compiler.graph.ir import Graph, Role
from compiler.support.train_keys import KEYS
from compiler.syntax import tree
from compiler.syntax.walk import statements_of
from compiler.types import DType, TensorType

_Result = TypeVar("_Result")
_Kind = TypeVar("_Kind", bound=Evaluator)


def elaborate_train(
    session: Session, train: tree.Train, scope: ModuleScope, sources: tuple[Source, ...]
) -> Program | None:
    """The program of an experiment, or None with the mistakes recorded."""
    found = scope.lookup(Namespace.MODEL, train.model.id)
    if found is None or not isinstance(found.declaration, tree.Model):
        if bases_of(train, session.modules):
            raise Poisoned  # the check of names has told
        known = tuple(scope.names(Namespace.MODEL))
        raise failure(
            "E0201", f"there is no model `{train.model.id}`", train.model.span, *nearest(train.model.id, known)
        )
    return _Experiment(session, train, scope, found, found.declaration).program(sources)


class _Experiment:
    """One `train` in the course of elaboration."""

    def __init__(
        self, session: Session, train: tree.Train, scope: ModuleScope, found: Located, model: tree.Model
    ) -> None:
        self.session, self.train, self.scope, self.report = session, train, scope, session.report
        self.found, self.model = found, model
        self.entries = Entries(session, train)
        self.blocks = tuple(BlockKeys(session, self.entries, block) for block in train.updates)
        self.claims: dict[str, str] | None = None  # the update of each parameter, once these are known
        session.data = self.entries.data
        entries = self.entries
        session.cuts = Cuts(entries.validation, entries.test, entries.seed, entries.oversample, entries.stream)
        self.schedule_end: Formula | int | float | str | None = None
        self.augmentation: Graph | None = None
        self.freezing = Freezing()
        self.directions = {LOSS: False}  # of the metrics that have one: whether the larger is the better
        self.epoch = 0  # the first of the phase that is being elaborated
        for parameter in model.settings:
            if parameter.name in KEYS:
                message = f"the setting `{parameter.name}` of the model has the name of a key of `train`"
                raise failure("E0607", message, parameter.span, hint("rename it, so that `--set` can tell them apart"))

    def program(self, sources: tuple[Source, ...]) -> Program | None:
        self.entries.check()
        check_updates(self.entries, self.blocks, {setting.name: setting.span for setting in self.model.settings})
        training = self._evaluate("training", True)
        inference = self._evaluate("inference", False)
        if not self.report.has_errors:
            expect_same_losses(training, inference, self.report)
            self.report.attempt(lambda: expect_followed(self.session))
        plan = self._plan(training)
        generation = generation_of(self.session, self.model.name, inference)
        samplers = samplers_of(self.session, self.found, self.model, self._begun)
        if plan is not None:
            plan = replace(plan, phases=tuple(self._phase(epoch) for epoch in self.freezing.borders))
        for mistake in self.session.settings.unknown():
            self.report.add(mistake)
        # In a file whose imports cannot be read, a name that means nothing is no mistake, and yet leaves a hole.
        given = {output.name for output in training.builder.outputs}
        if self.report.has_errors or plan is None or not given.issuperset(("loss", *plan.metrics)):
            return None
        name = self.train.name or self.model.name
        model = self.model.name
        parts = self.augmentation, generation, samplers
        return finished(self.session, name, model, sources, training, inference, plan, *parts)

    # The graphs

    def _evaluate(self, name: str, training: bool) -> Evaluator:
        """The model with targets, loss and metrics; the training program adds penalties and new states."""
        evaluator = self._started(name, training, Evaluator)
        with self.report.recording():
            self._bind(evaluator)
            run_model(evaluator, self.model)
            self._enter_train(evaluator)
            if evaluator.model is not None and evaluator.model.is_sound:
                add_outputs(evaluator)
                self._add_loss(evaluator)
            add_states(evaluator, self._frozen())
        return evaluator

    def _started(self, name: str, training: bool, kind: type[_Kind]) -> _Kind:
        columns = columns_of(self.train)
        return start(self.session, self.model, self.found.scope, name, training, kind, columns)

    def _begun(self, name: str, kind: type[_Kind]) -> _Kind:
        """An evaluator of the inference program with the settings of the model."""
        evaluator = self._started(name, False, kind)
        self._bind(evaluator)
        return evaluator

    def _bind(self, evaluator: Evaluator) -> None:
        """The settings of the model, and which of its layers keep their states."""
        caller = self._caller(evaluator)
        keywords = [(k.name, Argument(k.span, expression=k.value)) for k in self.train.settings]
        bind_model_settings(evaluator, self.model, self.found.scope, keywords, caller)
        self._freeze(evaluator)

    def _phase(self, epoch: int) -> Phase:
        """The training from an epoch on, in which less is frozen than before."""
        self.epoch = epoch
        training = self._evaluate("training", True)
        return Phase(epoch, training.builder.build(), self._rules(training, self.entries, self._trained()))

    def _freeze(self, evaluator: Evaluator) -> None:
        """Layers whose states are frozen must know it before they are evaluated."""
        freeze, unfreeze = self.entries.expression("freeze"), self.entries.expression("unfreeze")
        if freeze is None and unfreeze is None:
            return
        inside = evaluator.frame
        evaluator.frame = Frame(self.scope, "train", self.model.name, inside.scope, variables=dict(inside.variables))
        try:
            self.freezing = freezing_of(freeze, unfreeze, evaluator.evaluate)
        finally:
            evaluator.frame = inside
        freezing, epoch = self.freezing, self.epoch
        self.session.is_frozen = lambda path: freezing.is_frozen(path, epoch)
        if freezing.thaws:
            steps = "steps_per_epoch"
            self.session.run_time.setdefault(steps, RunTimeNumber(steps, None, frozenset({steps})))

    def _caller(self, evaluator: Evaluator) -> Frame:
        """Where the arguments of `train M(…)` are evaluated: they see the file, not the model."""
        caller = Frame(self.scope, "model", self.model.name, self.session.new_scope())
        caller.ordinals = evaluator.frame.ordinals
        self._add_sizes(caller)
        return caller

    def _add_sizes(self, frame: Frame) -> None:
        """`steps_per_epoch` and `total_steps`, which depend on the data unless `steps` is given."""
        for name in ("steps_per_epoch", "total_steps"):
            known = self.entries.steps if name == "total_steps" else None
            frame.variables.setdefault(
                name, known if known is not None else RunTimeNumber(name, None, frozenset({name}))
            )

    def _enter_train(self, evaluator: Evaluator) -> None:
        """From the body of the model to `train`, which sees settings, inputs, targets and outputs."""
        inside, record = evaluator.frame, evaluator.model
        assert record is not None
        frame = Frame(self.scope, "train", self.train.name or self.model.name, inside.scope, application="#train")
        settings = {parameter.name for parameter in self.model.settings}
        inputs = {spec.name for spec in record.inputs} | set(record.views)
        visible = settings | inputs | set(record.outputs)
        every = tuple(statements_of(self.model.body))
        outputs = {name.id for s in every if isinstance(s, tree.OutputDeclaration) for name in s.names}
        masks = {s.mask for s in every if isinstance(s, tree.InputDeclaration) and s.mask is not None}
        frame.variables = {n: v for n, v in inside.variables.items() if n in visible | outputs | masks}
        if self.report.has_errors or inside.has_result:  # the body may have ended before an output
            frame.variables = dict.fromkeys(outputs, POISON) | frame.variables
        frame.dimensions, frame.dimension_origins = dict(inside.dimensions), inside.dimension_origins
        self._add_sizes(frame)
        evaluator.frame = frame
        evaluator.user_scopes.add(frame.scope)
        for target in self.train.targets:
            if target.name in frame.variables:
                self.report.mistake("E0202", f"`{target.name}` is already a name of the model", target.span)
            for name in (target.name, target.mask):
                if name is not None:
                    frame.variables.setdefault(name, POISON)
        if evaluator.training and self.train.augment is not None:
            with self.report.recording():
                self._augment(evaluator, self.train.augment)
        else:
            for target in self.train.targets:
                with self.report.recording():
                    declare_input(evaluator, target)
        # In expressions `batch` is the nominal batch size; of `batch = all`, the rows of the step.
        if self.entries.batch is not None:
            frame.variables["batch"] = self.entries.batch * self.entries.accumulate

    def _augment(self, evaluator: Evaluator, block: tree.Block) -> None:
        """The targets are what `augment` makes of them; inputs keep their types."""
        record, frame = evaluator.model, evaluator.frame
        assert record is not None
        kept = {parameter.name for parameter in self.model.settings} | {"steps_per_epoch", "total_steps"}
        around = replace(frame, variables={n: v for n, v in frame.variables.items() if n in kept})
        found = augmentation(self.session, self.train, block, around, record)
        self.augmentation = found.graph
        for spec in found.targets:
            record.inputs.append(spec)
            value = found.values[spec.name]
            frame.variables[spec.name] = replace(value, value=evaluator.input(spec.name, Role.DATA, value.value.type))

    def _add_loss(self, evaluator: Evaluator) -> None:
        variables = evaluator.frame.variables
        for entry in self.entries.local:
            if entry.key in variables:
                self.report.mistake("E0202", f"`{entry.key}` is already a name of the model", entry.span)
        before = len(evaluator.builder.nodes)
        self._bind_local(evaluator, self.entries.local)
        totals = totals_of(evaluator, self.report)
        with self.report.recording():
            if self.blocks:
                refuse_stated(totals, evaluator, self.train)
                loss = self._loss_of_updates(evaluator)
            else:
                loss = losses.loss_of(evaluator, self.entries)
                loss = with_stated_losses(evaluator, loss, totals, self.entries.expression(AUXILIARY))
                if evaluator.training:
                    loss = losses.with_penalties(evaluator, loss, self.entries, self._trained(), self._ever_trained())
            evaluator.builder.output("loss", Role.OUTPUT, loss.value)
        # A metric knows no nominal batch: its rows are all that are measured.
        nominal = variables.pop("batch", None)
        self._bind_local(evaluator, self._of_the_batch())
        named = self._metric_names(evaluator)
        for name, expression in named:
            with self.report.recording():
                metric = losses.scalar_of(evaluator, "E0611", f"the metric `{name}`", expression)
                evaluator.builder.output(name, Role.OUTPUT, metric.value)
                if metric.value.index in evaluator.directions:
                    self.directions[name] = evaluator.directions[metric.value.index]
        for name, total in totals.items():
            evaluator.builder.output(name, Role.OUTPUT, total.value)
            self.directions[name] = False
        if nominal is not None:
            variables["batch"] = nominal
        calls = self.session.trace.applications.get(evaluator.builder.name, ())
        for mistake in unsound_metrics(evaluator.builder.build(), named, evaluator.builder.nodes[before:], calls):
            self.report.add(mistake)

    def _bind_local(self, evaluator: Evaluator, entries: Iterable[tree.Entry]) -> None:
        for entry in entries:
            evaluator.frame.variables[entry.key] = POISON
            with self.report.recording():
                evaluator.span = entry.value.span
                evaluator.frame.variables[entry.key] = evaluator.evaluate(entry.value)

    def _of_the_batch(self) -> Iterator[tree.Entry]:
        """The local values that the number of rows decides."""
        of_the_batch = {"batch"}
        for entry in self.entries.local:
            if any(name.id in of_the_batch for name in names_in(entry.value)):
                of_the_batch.add(entry.key)
                yield entry

    def _loss_of_updates(self, evaluator: Evaluator) -> TensorValue:
        """The sum of the losses of all updates, each of which is an output of its own."""
        if evaluator.training and not self.report.has_errors:
            paths = [spec.path for spec in self.session.parameters.values() if spec.role is Role.PARAMETER]
            self.claims = self.report.attempt(lambda: claimed(self.blocks, paths))
        total: TensorValue | None = None
        for keys in self.blocks:
            loss = losses.loss_of(evaluator, keys)
            if evaluator.training:
                loss = losses.with_penalties(evaluator, loss, keys, self._trained_by(keys), self._ever_trained())
            name = loss_of_update(keys.block.name)
            evaluator.builder.output(name, Role.OUTPUT, loss.value)
            self.directions[name] = False
            added = loss if total is None else arithmetic(evaluator, "+", total, loss)
            assert isinstance(added, TensorValue)
            total = added
        assert total is not None
        return total

    def _metric_names(self, evaluator: Evaluator) -> list[tuple[str, tree.Expression]]:
        record = evaluator.model
        assert record is not None
        return named_metrics(self.entries.expression("metrics"), record.outputs, tuple(record.losses))

    def _told(self, evaluator: Evaluator) -> tuple[str, ...]:
        """What is told of each epoch beside the loss: those of updates, the metrics, and those that models state."""
        assert evaluator.model is not None
        of_updates = (loss_of_update(keys.block.name) for keys in self.blocks)
        return (*of_updates, *(name for name, _ in self._metric_names(evaluator)), *evaluator.model.losses)

    def _trained(self) -> list[ParameterSpec]:
        """The parameters that are neither states nor frozen."""
        frozen = self._frozen()
        return [s for s in self.session.parameters.values() if s.role is Role.PARAMETER and s.path not in frozen]

    def _trained_by(self, keys: BlockKeys) -> list[ParameterSpec]:
        claims = self.claims or {}
        return [spec for spec in self._trained() if claims.get(spec.path) == keys.block.name]

    def _ever_trained(self) -> dict[str, TensorType]:
        """The parameters that some epoch trains, by their paths."""
        specs = self.session.parameters.values()
        return {s.path: s.type for s in specs if s.role is Role.PARAMETER and self.freezing.since(s.path) is not None}

    def _frozen(self) -> frozenset[str]:
        idle = {spec.path for spec in self._idle()}
        specs = self.session.parameters
        return frozenset(path for path in specs if path in idle or self.freezing.is_frozen(path, self.epoch))

    def _idle(self) -> list[ParameterSpec]:
        """The parameters that no update trains, though no key freezes them."""
        if self.claims is None:
            return []
        specs = (spec for spec in self.session.parameters.values() if spec.role is Role.PARAMETER)
        return [s for s in specs if s.path not in self.claims and not self.freezing.is_frozen(s.path, self.epoch)]

    # The plan

    def _plan(self, evaluator: Evaluator) -> TrainingPlan | None:
        """The settings of the step and the run, or None where a mistake hides one."""
        if not self.report.has_errors:
            self.report.attempt(self._check_patterns)
            frozen, specs = self._frozen(), self.session.parameters
            specs.update({path: replace(spec, frozen=True) for path, spec in specs.items() if path in frozen})
        updates = tuple(self.report.attempt(lambda keys=keys: self._update(evaluator, keys)) for keys in self.blocks)
        known = tuple(block for block in updates if block is not None)
        rules = tuple(rule for block in known for rule in block.rules)
        if not self.blocks:
            rules = self.report.attempt(lambda: self._rules(evaluator, self.entries, self._trained()))
        schedule = self.report.attempt(lambda: self._schedule(evaluator, self.entries))
        clip = self.report.attempt(lambda: self._clip(evaluator, self.entries))
        metrics = self._told(evaluator)
        if self.report.has_errors or rules is None:
            return None
        accumulation = self.report.attempt(lambda: self._accumulation(evaluator))
        self.report.attempt(
            lambda: expect_direction(self.entries.best, (LOSS, *metrics), self.directions, self.entries.best_span)
        )
        warning = unclaimed(self._idle(), self.train)
        if warning is not None:
            self.report.add(warning)
        entries = self.entries
        assert entries.batch is not None or entries.takes_all
        compares = not self.blocks or entries.is_given("best")
        return TrainingPlan(
            rules=rules,
            schedule=None if schedule is None else schedule[0],
            follower=None if schedule is None else schedule[1],
            clip=clip,
            metrics=metrics,
            batch=entries.batch,
            epochs=entries.epochs,
            steps=entries.steps,
            seed=entries.seed,
            data=entries.data,
            validation=entries.validation,
            oversample=entries.oversample,
            stream=entries.stream,
            test=entries.test,
            early_stop=entries.early_stop,
            plateau=entries.plateau,
            ema=entries.ema,
            accumulation=accumulation,
            precision=entries.precision,
            keep=entries.keep,
            restores=compares and entries.restores and (entries.early_stop is None or entries.early_stop.restore),
            init_from=entries.init_from,
            schedule_end=self.schedule_end,
            directions=self.directions,
            best=self.entries.best if compares else "",
            places=self.entries.places,
            updates=known,
        )

    def _accumulation(self, evaluator: Evaluator) -> Accumulation | None:
        """The sums over the batches of an update, where there are several."""
        if self.entries.accumulate == self.entries.shards == 1:
            return None
        ever = [self.session.parameters[path] for path in self._ever_trained()]
        metrics = self._told(evaluator)
        loss = self.entries.expression("loss")
        assert loss is not None
        assert evaluator.model is not None
        places = {name: stated.place for name, stated in evaluator.model.losses.items()} | {LOSS: loss.span}
        training, shards = evaluator.builder.build(), self.entries.shards
        found = accumulation_of(self.entries.accumulate, training, ever, metrics, places, shards)
        if not self.entries.synchronised or shards == 1:
            return found
        expect_sums_over_rows(training, self.entries.place_of("synchronised"))
        return replace(found, synchronised=True)

    def _check_patterns(self) -> None:
        """Those of keys whose expressions are not evaluated with the parameters at hand."""
        paths = tuple(self.session.parameters)
        self.freezing.check(paths)
        start = self.entries.init_from
        if start is not None and start.span is not None:
            select(start.fresh, paths, "fresh", start.span)

    def _update(self, evaluator: Evaluator, keys: BlockKeys) -> UpdateBlock:
        rules = self._rules(evaluator, keys, self._trained_by(keys))
        schedule, follower = self._schedule(evaluator, keys) or (None, None)
        if follower is not None:
            message = "a schedule that follows the epochs does not go with `update` blocks"
            raise failure("E0620", message, keys.block.place_of("schedule"))
        return UpdateBlock(keys.block.name, rules, schedule, self._clip(evaluator, keys), keys.times, keys.every)

    def _rules(self, evaluator: Evaluator, keys: Keys, trained: Sequence[ParameterSpec]) -> tuple[UpdateRule, ...]:
        expression = keys.expression("optimizer")
        if expression is None:
            raise Poisoned
        optimizers = updates.Optimizers(self.session, keys, self.freezing, evaluator, expression)
        if self.report.has_errors:
            # The parameters are not all known, so that only the forms could be judged.
            raise Poisoned
        return optimizers.updates(trained, self._ever_trained())

    def _schedule(self, evaluator: Evaluator, keys: Keys) -> tuple[Graph, Follower | None] | None:
        found = self._form(evaluator, keys, Namespace.SCHEDULE, "schedule")
        if found is None:
            return None
        if keys is self.entries:
            self.schedule_end = updates.schedule_end(found[0])
        return updates.elaborate_schedule(self.session, *found)

    def _clip(self, evaluator: Evaluator, keys: Keys) -> Clip | None:
        found = self._form(evaluator, keys, Namespace.CLIP, "clip")
        if found is None:
            return None
        clip = updates.elaborate_clip(self.session, *found)
        clip.graph_of(TensorType(DType.F32, (2, 2)))
        return clip

    def _form(self, evaluator: Evaluator, keys: Keys, namespace: Namespace, key: str) -> tuple[FormValue, Span] | None:
        """The form that a key is set to, and where it stands."""
        expression = keys.expression(key)
        if expression is None:
            return None
        evaluator.span = expression.span
        return evaluator.evaluate_key(namespace, expression, keys.prefix + key), expression.span
