"""W0128: a loss or metric of the library that wants probabilities, and whose value is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler.errors.diagnostics import Diagnostic, hint
from compiler.frontend.applications import Application
from compiler.frontend.trace import Subject
from compiler.graph.ir import Value
from compiler.graph.op import Category, Op
from compiler.lints.flow import inlined
from compiler.lints.possible_zero import AnySign
from compiler.lints.ranges import Ranges
from compiler.ops.elementwise import Comparison, Subtract
from compiler.ops.intervals import Range

_SIGMOID, _SOFTMAX = "`sigmoid` of the scores", "`softmax` of the scores"
_ADVICE: Mapping[str, str] = {
    "binary_cross_entropy": f"give it the {_SIGMOID}, or take `binary_cross_entropy_with_logits` of the scores",
    "categorical_cross_entropy": f"give it the {_SOFTMAX}, or take `cross_entropy` of the scores",
    "sparse_categorical_cross_entropy": f"give it the {_SOFTMAX}, or take `cross_entropy` of the scores",
    "kl_divergence": f"give it the {_SOFTMAX}",
    "nll": "give it the `log_softmax` of the scores, or take `cross_entropy` of the scores",
}
"""The losses of the library that want probabilities or their logarithms, and how they get them."""
_AROUND_ZERO = {"hinge": "score", "perceptron_loss": "score"}
"""Losses that decide at a score of 0, beside all with a parameter `logits`."""


def find_scores_for_probabilities(subject: Subject) -> Iterator[Diagnostic]:
    """In the user's own calls: in the loss or the model, and in metrics of values that the loss takes as logits."""
    program = subject.program
    frozen = {spec.path for spec in program.parameters if spec.frozen}
    for whole in (program.training_graph, program.inference_graph):
        applications = subject.trace.applications.get(whole.name, [])
        graph = inlined(whole)
        search = _Search(Ranges(program, graph, applications), AnySign(graph, frozen))
        logits = search.logits(applications)
        for application in applications:
            if application.is_library and not application.call.source.is_library:
                yield from search.of_loss(application)
                yield from search.of_metric(application, logits)


class _Search:
    def __init__(self, ranges: Ranges, any_sign: AnySign) -> None:
        self.ranges, self.any_sign = ranges, any_sign
        self.softmaxes = {ranges.flow.source(made.results[0]) for made in ranges.softmaxes.values()}

    def logits(self, applications: list[Application]) -> dict[int, str]:
        """The sources of values that a loss of the library takes as logits, with the name of the loss."""
        found: dict[int, str] = {}
        for application in applications:
            name = application.declaration.name
            value = application.operands.get(_AROUND_ZERO.get(name, "logits"))
            if value is not None and application.is_library:
                found.setdefault(self.ranges.flow.source(value).index, name)
        return found

    def of_loss(self, application: Application) -> Iterator[Diagnostic]:
        name = application.declaration.name
        if name not in _ADVICE:
            return
        for parameter, value in application.operands.items():
            if parameter == "log_probability":
                wanted, told = "logarithms of probabilities", self._above_zero(value)
            elif parameter in ("probability", "prediction"):
                wanted, told = "probabilities, from 0 to 1", self._no_probability(value)
            else:
                continue
            if told:
                message = f"`{name}` wants {wanted}, but this value {told}"
                yield Diagnostic("W0128", message, application.user_call, (hint(_ADVICE[name]),), "warning")

    def of_metric(self, application: Application, logits: Mapping[int, str]) -> Iterator[Diagnostic]:
        """A threshold of 0.5, or bins from 0 to 1, for scores that the loss takes as logits."""
        score, name = application.operands.get("score"), application.declaration.name
        if score is None or name in _AROUND_ZERO:
            return
        loss = logits.get(self.ranges.flow.source(score).index)
        if loss is None:
            return
        if self._meets(application, score, Comparison, 0.5):
            message = f"`{name}` takes a score above 0.5 for 1, but `{loss}` takes one above 0 for it"
            advice = f"give `{name}` a threshold of 0, or the `sigmoid` of the score"
        elif name == "binned_auc" and self._meets(application, score, Subtract, 0.0):
            message = (
                f"`{name}` has bins from 0 to 1, but `{loss}` takes this score, which can be any number, for a logit"
            )
            advice = f"give `{name}` the `sigmoid` of the score"
        else:
            return
        yield Diagnostic("W0128", message, application.user_call, (hint(advice),), "warning")

    def _no_probability(self, value: Value) -> str:
        """How a value leaves the interval from 0 to 1, if it is known to."""
        known = self.ranges[value]
        if self.any_sign[value]:
            return "can be any number"
        if not self._is_of_any_sign(value) or (known.low >= 0 and known.high <= 1):
            return ""
        return "can be negative" if known.low < 0 else "can be above 1"

    def _above_zero(self, value: Value) -> str:
        if self.ranges.flow.source(value) in self.softmaxes:
            return "has the probabilities themselves"
        is_above = self.any_sign[value] or (self._is_of_any_sign(value) and self.ranges[value].high > 0)
        return "can be above 0" if is_above else ""

    def _is_of_any_sign(self, value: Value) -> bool:
        """Whether a function of single elements made it from a value that can be any number, such as `tanh`."""
        node = self.ranges.flow.maker(self.ranges.flow.source(value))
        if node is None or node.op.category is not Category.ELEMENTWISE:
            return False
        return any(self.any_sign[operand] for operand in node.operands)

    def _meets(self, application: Application, score: Value, kind: type[Op], number: float) -> bool:
        """Whether an operation of the application has the score and that number for its operands."""
        flow, source = self.ranges.flow, self.ranges.flow.source(score)
        for node in flow.graph.nodes:
            if isinstance(node.op, kind) and node.results[0].index in application.values:
                others = [operand for operand in node.operands if flow.source(operand) != source]
                if len(others) == 1 and self.ranges[others[0]] == Range(number, number):
                    return True
        return False
