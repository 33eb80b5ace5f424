"""The state of elaboration: the session that a program's graphs share, and the frame of one application."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import NoReturn

from compiler.errors.diagnostics import Note, Span, hint
from compiler.frontend.applications import Application
from compiler.frontend.axes import Axis
from compiler.frontend.data_parts import Cuts, DataSource
from compiler.frontend.failures import Report, failure
from compiler.frontend.program import InputSpec, Limit, ParameterSpec
from compiler.frontend.scope import ModuleScope, Signature, signature_of
from compiler.frontend.settings import SettingsRecord
from compiler.frontend.trace import Claim, Seen, Trace
from compiler.frontend.values import FormValue, RunTimeNumber, TensorValue, Twin, Value
from compiler.graph import ir
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Origin, Role
from compiler.graph.op import Op, TypeRuleError
from compiler.ops.sources import Constant, RandomUniform
from compiler.support.record import mutable_record
from compiler.syntax import tree
from compiler.types import DType, Extent, Shape, TensorType, static_elements

MAXIMUM_WORK = 1_000_000
"""Expressions that may be evaluated for one program: some 100 times as many as ResNet-50 has."""
MAXIMUM_APPLICATIONS = 10_000
"""Of one declaration, in one graph."""
MAXIMUM_RECURSIONS = 1_000
"""Applications of one declaration, in one graph, while it is being applied."""
MAXIMUM_NODES = 300_000
MAXIMUM_DEPTH = 100
MAXIMUM_ROUNDS = 100_000
MAXIMUM_ELEMENTS = 2**31


@mutable_record
class Frame:
    """One application of a declaration. `scope` numbers it; `application` is the path and count of the layer around."""

    module: ModuleScope
    keyword: str
    name: str
    scope: int
    calls: tuple[Span, ...] = ()
    path: str = ""
    application: str = ""
    variables: dict[str, Value] = field(default_factory=dict[str, Value])
    dimensions: dict[str, Extent] = field(default_factory=dict[str, Extent])
    dimension_origins: dict[str, Span | None] = field(default_factory=dict[str, "Span | None"])
    rounds: tuple[int, ...] = ()
    variable: str = ""
    states: dict[str, str] = field(default_factory=dict[str, str])
    pending: dict[str, ir.Value] = field(default_factory=dict[str, ir.Value])
    ordinals: Mapping[int, int] = field(default_factory=dict[int, int])
    ellipsis: tuple[tuple[Extent, Axis], ...] | None = None
    draws: list[int] = field(default_factory=lambda: [0])
    result: Value = None
    has_result: bool = False
    is_frozen: bool = False  # `training` is false: the states of the layer stay as they are
    twin: tuple[str, Twin] | None = None  # around, with its path: an averaged or a stored layer
    losses: dict[tuple[str, tuple[int, ...]], Span] = field(
        default_factory=dict["tuple[str, tuple[int, ...]]", Span]
    )  # that it has stated, by name and round

    @property
    def makes_instances(self) -> bool:
        return self.keyword in ("layer", "model", "test")

    def place(self) -> str:
        """The path of layers and parameters that the current statement makes, before their kind."""
        return joined(self.path, self.variable, *map(str, self.rounds))


def joined(*segments: str) -> str:
    return ".".join(segment for segment in segments if segment)


@mutable_record
class Session:
    """The state that all graphs of one program share."""

    report: Report
    modules: tuple[tree.Module, ...]  # the last one imports the others
    scopes: Mapping[str, ModuleScope]
    library: ModuleScope
    is_builtin: Callable[[str], bool]
    settings: SettingsRecord
    dimensions: Mapping[str, int] = field(default_factory=dict[str, int])  # of the data
    data: DataSource | None = None
    cuts: Cuts = field(default_factory=Cuts)
    generates: Mapping[str, tuple[tree.Generate, ModuleScope]] = field(
        default_factory=dict[str, "tuple[tree.Generate, ModuleScope]"]
    )  # by the model
    samples: Mapping[str, tuple[tuple[tree.Sample, ModuleScope], ...]] = field(
        default_factory=dict[str, "tuple[tuple[tree.Sample, ModuleScope], ...]"]
    )  # by the model
    inputs: dict[str, InputSpec] = field(default_factory=dict[str, InputSpec])
    open_dimensions: dict[str, Span] = field(default_factory=dict[str, Span])
    decided: set[str] = field(default_factory=set[str])
    run_time: dict[str, RunTimeNumber] = field(default_factory=dict[str, RunTimeNumber])
    limits: dict[str, list[Limit]] = field(default_factory=dict[str, "list[Limit]"])  # of settings of run time
    parameters: dict[str, ParameterSpec] = field(default_factory=dict[str, ParameterSpec])
    claims: dict[str, tuple[object, ...]] = field(default_factory=dict[str, tuple[object, ...]])
    constants: dict[int, Value] = field(default_factory=dict[int, Value])
    evaluating: list[tree.Const] = field(default_factory=list[tree.Const])
    unknown: set[tuple[str, str, str, str]] = field(default_factory=set[tuple[str, str, str, str]])
    is_frozen: Callable[[str], bool] | None = None  # of the path of a parameter or state; None where nothing is
    trace: Trace = field(default_factory=Trace)
    work: int = 0
    sound_loops: set[tuple[int, int]] = field(default_factory=set[tuple[int, int]])  # by id and number of rounds
    frames: int = 0

    @property
    def root(self) -> ModuleScope:
        return self.scopes[self.modules[-1].source.name]

    def signature(self, declaration: tree.Callable | tree.Model | tree.Sample, scope: ModuleScope) -> Signature:
        known = scope.signatures.get(id(declaration))
        if known is None:
            known = scope.signatures[id(declaration)] = signature_of(declaration, scope, self.is_builtin)
        return known

    def is_new_unknown(self, file: str, keyword: str, declaration: str, name: str) -> bool:
        """Whether a name that means nothing is met in a declaration for the first time: it is told once in each."""
        key = (file, keyword, declaration, name)
        is_new = key not in self.unknown
        self.unknown.add(key)
        return is_new

    def frame_of(self, form: FormValue, keyword: str, calls: tuple[Span, ...], path: str, graph: str) -> Frame:
        """The frame of a form whose body becomes a graph of its own, under `path`."""
        settings = dict(form.settings or {})
        scope = self.new_scope()
        return Frame(form.module, keyword, form.declaration.name, scope, calls, path, f"{path}#{graph}", settings)

    def new_scope(self) -> int:
        self.frames += 1
        return self.frames

    def limit(self, value: Value, limit: Limit) -> None:
        """Record what a number of run time has to be, where it is a setting and not made of others."""
        if isinstance(value, RunTimeNumber) and not value.is_derived:
            known = self.limits.setdefault(value.name, [])
            known += [] if limit in known else [limit]

    def decide(self, number: RunTimeNumber) -> None:
        """Record that a setting decides the program's form, so that it is elaborated and not passed at run time."""
        self.decided |= number.sources


@mutable_record
class StatedLoss:
    """A loss that arises in a body: `values` has what each application and round stated, `place` is the first name."""

    place: Span
    values: list[TensorValue] = field(default_factory=list[TensorValue])


@mutable_record
class ModelRecord:
    """The inputs and outputs that the body of a model has declared so far.

    `losses`, by their names, are those that the body and its layers state. `columns` say of the inputs that `augment`
    views which column of the data each shows; `views` are these inputs, and `inputs` has the column in their place.
    """

    inputs: list[InputSpec] = field(default_factory=list[InputSpec])
    outputs: dict[str, TensorValue] = field(default_factory=dict[str, TensorValue])
    losses: dict[str, StatedLoss] = field(default_factory=dict[str, "StatedLoss"])
    columns: Mapping[str, tree.Name] = field(default_factory=dict[str, tree.Name])
    views: dict[str, InputSpec] = field(default_factory=dict[str, InputSpec])
    is_sound: bool = True


@mutable_record
class ScanRecord:
    """The body of a `scan` that is being elaborated: its emitted values, and each state as a step finds it.

    `place` is that of the step along the scanned axis, an i64 scalar, where something asks for it.
    """

    frame: Frame
    place: ir.Value | None = None
    emitted: list[TensorValue] = field(default_factory=list[TensorValue])
    states: dict[str, ir.Value] = field(default_factory=dict[str, ir.Value])


class Elaborator(ABC):
    """Builds one graph. `frame` and `span` say where evaluation stands in the text."""

    def __init__(self, session: Session, builder: GraphBuilder, frame: Frame, training: bool) -> None:
        self.session = session
        self.builder = builder
        self.frame = frame
        self.training = training
        self.draws_by_seed_alone = False
        self.takes_settings = True
        self.keeps_states = False
        self.applies_trained = False  # whether parameters are those that the model has already
        self.span: Span | None = None
        self.running: list[int] = []  # the declarations that are being applied, by their ids, the innermost last
        self.inputs: dict[str, ir.Value] = {}
        self.user_scopes: set[int] = set() if frame.module.is_library else {frame.scope}
        self.applications: dict[str, int] = {}
        self.frames_of: dict[int, int] = {}  # how often each declaration was applied, by its id
        self.recursions_of: dict[int, int] = {}
        self.states: dict[str, ir.Value] = {}
        self.axes: dict[int, tuple[Axis, ...]] = {}  # of values that expressions gave, by index
        self.scans: list[ScanRecord] = []  # the innermost is last
        self.model: ModelRecord | None = None
        self.has_own_gradient = False  # of what is being evaluated, a `gradient` clause says the derivative
        self.directions: dict[int, bool] = {}  # of values by index: whether the larger is the better
        self.applied: list[Application] = []  # in the graph of `builder`, in the order in which they ended
        self.claims: list[Claim] | None = None  # of the lines of a test
        self._origin: tuple[Span | None, Frame | None, tuple[Origin, ...]] = (None, None, ())

    @abstractmethod
    def evaluate(self, expression: tree.Expression) -> Value:
        """The value of an expression in the current frame, never `POISON`. Raises `Failure` and `Poisoned`."""

    @abstractmethod
    def evaluate_axis(self, expression: tree.Expression) -> Value:
        """As `evaluate`, where an axis is asked for: a bare dimension name means that dimension."""

    @abstractmethod
    def evaluate_initializer(self, expression: tree.Expression) -> FormValue:
        """As `evaluate`, with names looked up among the initialisers."""

    @abstractmethod
    def initializer_graph(self, path: str, type_: TensorType, value: FormValue, span: Span) -> ir.Graph:
        """The graph that gives a parameter its first value."""

    def claim(self, statement: tree.ExpressionStatement) -> None:
        """Record a claim of a test."""
        self.fail("E0206", "this value is not used", span=statement.span)

    @abstractmethod
    def declare_optimizer_state(self, statement: tree.StateDeclaration) -> TensorValue:
        """Add a state to the update rule that is being elaborated."""

    @property
    def here(self) -> Span:
        assert self.span is not None
        return self.span

    def fail(self, code: str, message: str, *notes: Note, span: Span | None = None) -> NoReturn:
        raise failure(code, message, span or self.here, *notes)

    def see(self, place: Span, value: Value) -> None:
        """Record the value of a name or expression of the user's text, where somebody asks for it."""
        if self.session.trace.seen is not None and not place.source.is_library:
            self.session.trace.seen.append(Seen(place, value, self.user_scopes))

    def origins(self) -> tuple[Origin, ...]:
        span, frame, origins = self._origin
        if span is not self.span or frame is not self.frame:
            origins = (Origin(self.here, self.frame.calls, self.frame.path),) if self.span is not None else ()
            self._origin = (self.span, self.frame, origins)
        return origins

    def emit_all(self, op: Op, *operands: ir.Value) -> tuple[ir.Value, ...]:
        """Add a node for the current place in the text. A type that the op refuses is the user's mistake."""
        self.builder.origins = self.origins()
        try:
            results = self.builder.emit_all(op, *operands)
        except TypeRuleError as error:
            self.fail("E0417", str(error))
        for result in results:
            # A shape that an operand has was judged before.
            if not operands or result.type.shape != operands[0].type.shape:
                self.expect_size(result.type)
        if len(self.builder.nodes) > MAXIMUM_NODES:
            message = f"elaboration stopped here after {MAXIMUM_NODES} operations"
            self.fail("E0310", message, hint("a loop or a chain of calls unrolls into too many operations"))
        return results

    def emit(self, op: Op, *operands: ir.Value) -> ir.Value:
        (result,) = self.emit_all(op, *operands)
        return result

    def expect_size(self, type_: TensorType) -> None:
        count = static_elements(type_.shape)
        if count > MAXIMUM_ELEMENTS:
            message = f"a tensor {type_} has {count} elements; the limit is {MAXIMUM_ELEMENTS}"
            self.fail("E0414", message, hint("look for a dimension that is larger than meant"))

    def input(self, name: str, role: Role, type_: TensorType) -> ir.Value:
        """The graph input called `name`, new unless it is there."""
        value = self.inputs.get(name)
        if value is None:
            value = self.inputs[name] = self.builder.input(name, role, type_)
        return value

    def state(self, path: str) -> ir.Value:
        """The newest value of a declared state: of this graph so far, of the step before in a `scan`, or its input."""
        if path in self.states:
            return self.states[path]
        start = self.inputs[path]
        if not self.scans:
            return start
        found = self.scans[-1].states
        if path not in found:
            found[path] = self.builder.value(start.type)
        return found[path]

    def place_in(self, scan: ScanRecord) -> ir.Value:
        """The place of the step of a `scan` along the scanned axis, from 0: an i64 scalar."""
        if scan.place is None:
            scan.place = self.builder.value(TensorType(DType.I64))
        return scan.place

    def draw_operands(self) -> tuple[ir.Value, ir.Value]:
        """The seed and the step that a random draw depends on."""
        scalar = TensorType(DType.I64)
        seed = self.input("seed", Role.SEED, scalar)
        if self.draws_by_seed_alone:
            return seed, self.emit(Constant(0, DType.I64))
        return seed, self.input("step", Role.STEP, scalar)

    def draw(self, shape: Shape) -> ir.Value:
        """Numbers from [0, 1), drawn anew at each step."""
        return self.emit(RandomUniform(shape, self.next_stream()), *self.draw_operands())

    def next_stream(self) -> int:
        """A number of 31 bits that no other draw of the program has, unmoved by edits elsewhere."""
        counter = self.frame.draws
        counter[0] += 1
        return zlib.crc32(f"{self.frame.application}/{counter[0] - 1}".encode()) & 0x7FFFFFFF

    def count_work(self, span: Span) -> None:
        self.session.work += 1
        if self.session.work > MAXIMUM_WORK:
            advice = hint("a loop has too many rounds, or functions call each other too often")
            raise failure("E0310", f"elaboration stopped here after {MAXIMUM_WORK} evaluated expressions", span, advice)
