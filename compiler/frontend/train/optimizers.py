"""The `optimizer` of an experiment: its rules, and which of them updates which parameter."""

from __future__ import annotations

from collections.abc import Sequence

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.elaborator import Session
from compiler.frontend.failures import failure
from compiler.frontend.program import AVERAGE, OptimizerState, ParameterSpec, UpdateRule
from compiler.frontend.scope import Namespace
from compiler.frontend.train.entries import Entries
from compiler.frontend.train.freezing import Freezing
from compiler.frontend.train.patterns import MATRICES, patterns_of, select, without_keywords
from compiler.frontend.train.updates import OptimizerEntry, RuleCache, elaborate_rule, refuse_with_objective
from compiler.frontend.values import FormValue, RunTimeNumber
from compiler.graph.ir import Role
from compiler.syntax import tree
from compiler.types import TensorType, static_elements


class Optimizers:
    """What stands after `optimizer =`: one rule, or a list of which the first that selects a parameter updates it."""

    def __init__(
        self,
        session: Session,
        entries: Entries,
        freezing: Freezing,
        evaluator: Evaluator,
        expression: tree.Expression,
    ) -> None:
        self.session, self.entries, self.freezing, self.evaluator = session, entries, freezing, evaluator
        self.span = expression.span
        items = expression.items if isinstance(expression, tree.ListLiteral) else (expression,)
        self.rules = [
            self._rule(item, "optimizer" if len(items) == 1 else f"optimizer.{number}")
            for number, item in enumerate(items)
        ]
        self._expect_rates()

    def updates(self, trained: Sequence[ParameterSpec], paths: Sequence[str]) -> tuple[UpdateRule, ...]:
        """The update of each parameter that is trained now; `paths` are those that some epoch trains."""
        selected = [select(rule.on, paths, "on", rule.on_span) for rule in self.rules]
        cache = RuleCache(self.session)
        chosen = [(spec, _chosen(selected, spec, self.span)) for spec in trained]
        joint = [number for number, rule in enumerate(self.rules) if rule.takes_objective(self.session)]
        single = [self._update(cache, number, spec) for spec, number in chosen if number not in joint]
        together = [(number, [spec for spec, n in chosen if n == number]) for number in joint]
        return (*single, *(self._joint_update(number, specs) for number, specs in together if specs))

    def _expect_rates(self) -> None:
        """Refuse what changes rates where no optimizer has one; the schedule `constant` changes none."""
        schedule = self.entries.expression("schedule")
        is_constant = isinstance(schedule, tree.Name) and schedule.id == "constant"
        if any(rule.rate for rule in self.rules):
            return
        for key in ("schedule", "plateau"):
            is_asked_for = key in self.entries.written or key in self.session.settings.used
            if is_asked_for and not (key == "schedule" and is_constant):
                names = ", ".join(f"`{rule.form.declaration.name}`" for rule in self.rules)
                raise failure(
                    "E0301", f"`{key}` changes the setting `lr` of an optimizer, which {names} does not have", self.span
                )

    def _rule(self, item: tree.Expression, prefix: str) -> OptimizerEntry:
        bare, given = without_keywords(item, ("on", "decay_on"))
        self.evaluator.span = item.span
        form = self.evaluator.evaluate_form(Namespace.OPTIMIZER, bare, prefix)
        assert isinstance(form, FormValue)
        on, on_span = ("*",), item.span
        if "on" in given:
            on, on_span = patterns_of(self.evaluator.evaluate(given["on"]), "on", given["on"].span), given["on"].span
        decay, decay_span = None, item.span
        if "decay_on" in given:
            decay_span = given["decay_on"].span
            _expect_decay(form, decay_span)
            decay = self._decay_patterns(given["decay_on"])
        rate = (form.settings or {}).get("lr")
        if isinstance(rate, RunTimeNumber):
            # Every graph takes the scheduled rate as `lr`; the run passes the setting itself to the schedule.
            self.session.run_time.setdefault(rate.name, rate)
        return OptimizerEntry(
            form, f"{prefix}.lr" if rate is not None else "", on, on_span, decay, decay_span, item.span
        )

    def _decay_patterns(self, expression: tree.Expression) -> tuple[str, ...]:
        if isinstance(expression, tree.Name) and expression.id == MATRICES:
            return (MATRICES,)
        return patterns_of(self.evaluator.evaluate(expression), "decay_on", expression.span)

    def _update(self, cache: RuleCache, number: int, spec: ParameterSpec) -> UpdateRule:
        """The update of one parameter."""
        rule = self.rules[number]
        decays = rule.decay_on is None or self._decays(rule, spec)
        graph, states = cache.rule(number, rule, spec.path, spec.type, decays)
        if self.entries.ema is not None:
            states = (*states, OptimizerState(AVERAGE, spec.type, spec.initializer))
        return UpdateRule(spec.path, graph, states, rule.rate, self.freezing.since(spec.path) or 0)

    def _joint_update(self, number: int, specs: list[ParameterSpec]) -> UpdateRule:
        """The update of parameters as one vector."""
        rule = self.rules[number]
        refuse_with_objective(self.entries, rule, specs)
        name = "(optimizer)" if len(self.rules) == 1 else f"(optimizer.{number})"
        type_ = TensorType(specs[0].type.dtype, (sum(static_elements(spec.type.shape) for spec in specs),))
        graph, states = elaborate_rule(self.session, rule, name, type_, True)
        return UpdateRule(name, graph, states, rule.rate, group=tuple(spec.path for spec in specs))

    def _decays(self, rule: OptimizerEntry, spec: ParameterSpec) -> bool:
        if rule.decay_on == (MATRICES,):
            return spec.type.rank >= 2
        paths = [s.path for s in self.session.parameters.values() if s.role is Role.PARAMETER]
        return spec.path in select(rule.decay_on or (), paths, "decay_on", rule.decay_span)


def _expect_decay(form: FormValue, span: Span) -> None:
    if "weight_decay" not in (form.settings or {}):
        raise failure(
            "E0301",
            f"`decay_on` selects the parameters of `weight_decay`, which `{form.declaration.name}` does not have",
            span,
        )


def _chosen(selected: list[frozenset[str]], spec: ParameterSpec, span: Span) -> int:
    """The number of the first rule that selects a parameter."""
    number = next((i for i, paths in enumerate(selected) if spec.path in paths), None)
    if number is None:
        raise failure(
            "E0606",
            f"no optimizer updates `{spec.path}`",
            span,
            Note("the parameter is declared here", spec.span),
            hint('end the list with an optimizer for all others (`on = "*"`), or freeze the parameter'),
        )
    return number
