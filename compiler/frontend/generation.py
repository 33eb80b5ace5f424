"""`generate`: which output of a model extends which input, where sequences begin and end, and how tokens are chosen."""

from __future__ import annotations

from compiler.causality.reach import Breach
from compiler.causality.rules import reaches_of
from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.axes import Axis
from compiler.frontend.bodies.evaluate import Evaluator
from compiler.frontend.bodies.setting_binding import ready
from compiler.frontend.data_parts import SettingValue
from compiler.frontend.elaborator import Frame, Session
from compiler.frontend.failures import Poisoned, failure, nearest
from compiler.frontend.program import SEEN, BeamSearch, Generation, InputSpec
from compiler.frontend.scope import ModuleScope, Namespace
from compiler.frontend.settings import COMMAND_LINE, plain
from compiler.frontend.tensors.shapes import shown
from compiler.frontend.values import FormValue, RunTimeNumber, TensorValue, TupleValue, Value, describe
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Graph, Role
from compiler.syntax import tree
from compiler.types import BatchExtent, DType, TensorType

KEYS = ("start", "length", "sample", "stop", "repetition_penalty")
TIME = 1
"""The axis along which a sequence grows."""


def generation_of(session: Session, model: str, inference: Evaluator) -> Generation | None:
    """How sequences are decoded from a model, as its `generate` says; None without one, or with mistakes recorded."""
    if model not in session.generates or inference.model is None or not inference.model.is_sound:
        return None
    declaration, scope = session.generates[model]
    return session.report.attempt(_Generate(session, declaration, scope, inference).generation)


class _Generate:
    """One `generate` in the course of elaboration."""

    def __init__(self, session: Session, declaration: tree.Generate, scope: ModuleScope, inference: Evaluator) -> None:
        self.session, self.declaration, self.scope = session, declaration, scope
        self.inference = inference
        self.written = {entry.key: entry.value for entry in declaration.entries}

    def generation(self) -> Generation:
        if self.declaration.feed is None:
            advice = hint("such as `feed tokens from logits`: the token chosen from `logits` extends `tokens`")
            raise failure("E0621", "`generate` needs a `feed` line", self.declaration.model.span, advice)
        tokens, logits = self.declaration.feed
        fed = self._fed(tokens)
        classes = self._classes(tokens, logits, fed)
        self._expect_causal(tokens, logits)
        length = self._whole("length", 256)
        start, stop = self._sequence("start"), self._sequence("stop")
        form, place = self._form()
        sampler, beam = self._sampler(form, classes, place)
        return Generation(tokens.id, logits.id, start, stop, length, sampler, beam)

    # The output that extends the input

    def _fed(self, name: tree.Name) -> InputSpec:
        assert self.inference.model is not None
        found = next((s for s in self.inference.model.inputs if s.name == name.id and not s.is_target), None)
        if found is None:
            raise Poisoned  # the check of names has told
        shape = found.type.shape
        if found.type.dtype.is_float or found.type.dtype is DType.BOOL or len(shape) != 2:
            message = f"`feed` extends rows of tokens, i32[batch, time], and `{name.id}` is {found.type}"
            raise failure("E0622", message, name.span, Note("the input is declared here", found.span))
        return found

    def _classes(self, tokens: tree.Name, logits: tree.Name, fed: InputSpec) -> int:
        """How many tokens there are to choose from, by the output, which must score each for every position."""
        assert self.inference.model is not None
        output = self.inference.model.outputs.get(logits.id)
        if output is None:
            raise Poisoned  # the check of names has told
        time = fed.type.shape[TIME]
        shape = output.shape
        if len(shape) != 3 or shape[:2] != (BatchExtent(), time) or not output.dtype.is_float:
            raise failure(
                "E0622",
                f"`{logits.id}` must score each token at each position, f32[batch, {time}, tokens], but is "
                f"{shown(self.inference, output)}",
                logits.span,
                Note(f"`{tokens.id}` is {fed.type}", fed.span),
            )
        classes = shape[2]
        assert isinstance(classes, int)
        if fed.high is not None and not (fed.low == 0 and classes <= fed.high):
            message = f"`{logits.id}` chooses among {classes} tokens, but `{tokens.id}` is in {fed.low}..{fed.high}"
            advice = hint("the chosen token becomes an input")
            raise failure("E0622", message, logits.span, Note("the input is declared here", fed.span), advice)
        return classes

    def _expect_causal(self, tokens: tree.Name, logits: tree.Name) -> None:
        """A context that is filled only so far must give the scores of a full one there."""
        graph = self.inference.builder.build()
        output = graph.output(logits.id).value
        reach = reaches_of(graph, tokens.id, TIME)[output.index]
        if isinstance(reach, Breach):
            origins = reach.node.origins
            place = (Note("here a position sees later ones", origins[0].user_span),) if origins else ()
        elif set(reach.offsets) <= {TIME}:
            return
        else:
            place = ()
        raise failure(
            "E0623",
            f"`{logits.id}` at a position depends on later ones of `{tokens.id}`, so it cannot choose the next token",
            logits.span,
            *place,
            hint("mask attention (`causal = true`), and let recurrences run forward only"),
        )

    # Where sequences begin and end

    def _constant(self, key: str, default: SettingValue) -> tuple[Value, Span]:
        name = f"generate.{key}"
        override = self.session.settings.take(name)
        expression = override.as_expression if override is not None else self.written.get(key)
        origin = COMMAND_LINE if override is not None else "generate" if key in self.written else "default"
        place = expression.span if expression is not None else self.declaration.model.span
        value = default if expression is None else self._evaluator(place).evaluate(expression)
        self.session.settings.record(name, value, origin)
        return value, place

    def _whole(self, key: str, default: int) -> int:
        value, span = self._constant(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            message = f"`{key}` of `generate` is a whole number of at least 1, not {describe(value)}"
            raise failure("E0621", message, span, hint(f"such as `{key} = {default}`"))
        return value

    def _sequence(self, key: str) -> str | tuple[int, ...] | None:
        """A text, a token, or a list of tokens."""
        value, span = self._constant(key, None)
        if value is None or (isinstance(value, str) and value):
            return value
        items = plain(value)
        tokens = items if isinstance(items, tuple) else (items,)
        if not tokens or not all(type(token) is int and token >= 0 for token in tokens):
            message = f"`{key}` of `generate` is a text, or a list of tokens from 0 on, not {describe(value)}"
            raise failure("E0621", message, span, hint(f'such as `{key} = "\\n"`, or `{key} = [2, 5]`'))
        return tuple(token for token in tokens if isinstance(token, int))

    # How tokens are chosen

    def _evaluator(self, span: Span) -> Evaluator:
        name = self.declaration.model.id
        frame = Frame(self.scope, "generate", name, self.session.new_scope(), application="#generate")
        evaluator = Evaluator(self.session, GraphBuilder("sampler"), frame, training=False)
        evaluator.span = span
        return evaluator

    def _form(self) -> tuple[FormValue, Span]:
        override = self.session.settings.take("generate.sample")
        expression = override.as_expression if override is not None else self.written.get("sample")
        place = self.declaration.model.span
        if expression is None:
            expression = tree.Name("greedy", place)
        form = self._evaluator(expression.span).evaluate_form(Namespace.SAMPLE, expression, "generate.sample")
        origin = COMMAND_LINE if override is not None else "generate" if "sample" in self.written else "default"
        self.session.settings.record("generate.sample", form, origin)
        return form, expression.span

    def _penalised(self, evaluator: Evaluator, logits: TensorValue) -> Value:
        """The logits with those of tokens of the window made smaller, where a penalty is given."""
        if not self._is_given("repetition_penalty"):
            return logits
        value, place = self._constant("repetition_penalty", None)
        if isinstance(value, bool) or not isinstance(value, int | float):
            message = f"`repetition_penalty` of `generate` is a number, not {describe(value)}"
            raise failure("E0621", message, place, hint("such as `repetition_penalty = 1.2`"))
        name = "generate.repetition_penalty"
        number = RunTimeNumber(name, float(value), frozenset({name}))
        found = self.session.library.lookup(Namespace.VALUE, "penalise_seen")
        assert found is not None
        assert isinstance(found.declaration, tree.Callable)
        form = FormValue(found.declaration, found.scope, {"penalty": number})
        seen = evaluator.input(SEEN, Role.DATA, TensorType(DType.BOOL, logits.shape))
        evaluator.span = place
        return evaluator.apply(form, (ready(logits, place), ready(TensorValue(seen, logits.axes), place)), ())

    def _is_given(self, key: str) -> bool:
        return key in self.written or f"generate.{key}" in self.session.settings.overrides

    def _sampler(self, form: FormValue, classes: int, place: Span) -> tuple[Graph, BeamSearch | None]:
        """The graph from `logits` to `token`, or to the `scores` that a beam search adds up."""
        evaluator = self._evaluator(place)
        type_ = TensorType(DType.F32, (BatchExtent(), classes))
        logits = TensorValue(
            evaluator.input("logits", Role.DATA, type_), tuple(Axis(origin=place) for _ in type_.shape)
        )
        penalised = self._penalised(evaluator, logits)
        evaluator.span = place
        result = evaluator.apply(form, (ready(penalised, place),), ())
        match result:
            case TensorValue(value) if value.type == TensorType(DType.I32, (BatchExtent(),)):
                evaluator.builder.output("token", Role.OUTPUT, value)
                return evaluator.builder.build(), None
            case TupleValue((TensorValue(value), width, penalty)) if value.type == type_:
                evaluator.builder.output("scores", Role.OUTPUT, value)
                return evaluator.builder.build(), self._beam(form, width, penalty, place)
            case _:
                given = shown(evaluator, result) if isinstance(result, TensorValue) else describe(result)
                raise failure(
                    "E0621",
                    f"`{form.declaration.name}` makes {given} of logits; a way of sampling gives a token for each row",
                    place,
                    hint("such as `argmax(logits, axis = -1)`, or `draw_class(logits)`"),
                )

    def _beam(self, form: FormValue, width: Value, penalty: Value, place: Span) -> BeamSearch:
        power = penalty.value if isinstance(penalty, RunTimeNumber) else penalty
        if not isinstance(width, int) or width < 1 or not isinstance(power, int | float):
            message = f"`{form.declaration.name}` gives scores, but keeps {describe(width)} sequences"
            raise failure("E0621", message, place, hint("beam search keeps 1 or more"))
        return BeamSearch(width, float(power))


def check_keys(session: Session, declaration: tree.Generate) -> None:
    """Record unknown and repeated keys."""
    seen: dict[str, Span] = {}
    for entry in declaration.entries:
        if entry.key not in KEYS:
            notes = nearest(entry.key, KEYS) or (hint(f"the keys are {', '.join(KEYS)}"),)
            session.report.mistake("E0621", f"`generate` has no key `{entry.key}`", entry.span, *notes)
        elif entry.key in seen:
            earlier = Note("first given here", seen[entry.key])
            session.report.mistake("E0621", f"`{entry.key}` is given twice", entry.span, earlier)
        seen.setdefault(entry.key, entry.span)
