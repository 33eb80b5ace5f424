"""The graph of a training step on the reference target against the same training written in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest

from compiler.errors.diagnostics import CompilerBug, Source, Span
from compiler.frontend.program import InputSpec, ParameterSpec, Program, TrainingPlan
from compiler.frontend.update_rules import Clip, OptimizerState, UpdateRule
from compiler.graph.builder import GraphBuilder
from compiler.graph.ir import Direction, Graph, Origin, Role, Value
from compiler.graph.verify import verify
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.interface import Steps
from compiler.ops.contraction import Contraction
from compiler.ops.elementwise import Maximum, Minimum, Symbolic
from compiler.ops.mathematics import Sqrt, Tanh
from compiler.ops.movement import Broadcast
from compiler.ops.reduction import Sum, element_count
from compiler.pipeline import optimise_graph
from compiler.programs.steps.training_step import evaluation_graph, prediction_graph, training_step
from compiler.targets.reference import ReferenceExecutable
from compiler.types import BatchExtent, DType, Shape, TensorType, at_batch

Array: TypeAlias = np.ndarray[Any, Any]

BATCH = BatchExtent()
SCALAR = TensorType(DType.F32)
SPAN = Span(Source("model.dl", "z = x @ W"), 1, 1, 1, 10)
RATE, DECAY, ROWS, BATCH_SIZE = 0.1, 0.9, 22, 5


def of(*shape: int | BatchExtent) -> TensorType:
    return TensorType(DType.F32, shape)


SHAPES: dict[str, Shape] = {"fc.W": (3, 2), "fc.b": (2,), "gain": (), "fixed": (2,), "idle": (4,)}
EMPTY = GraphBuilder("initial").build()
PARAMETERS = (
    *(ParameterSpec(p, Role.PARAMETER, of(*shape), EMPTY, SPAN, frozen=p == "fixed") for p, shape in SHAPES.items()),
    ParameterSpec("seen", Role.STATE, of(), EMPTY, SPAN),
)


def model(name: str, is_training: bool) -> Graph:
    """y = gain * tanh(x W + b) + fixed; loss mean((y - target)^2); `seen` counts rows; `idle` is not used."""
    builder = GraphBuilder(name)
    builder.origins = (Origin(SPAN, path="fc"),)
    x = builder.input("x", Role.DATA, of(BATCH, 3))
    target = builder.input("target", Role.DATA, of(BATCH, 2))
    given = {spec.path: builder.input(spec.path, spec.role, spec.type) for spec in PARAMETERS}

    def rows(value: Value) -> Symbolic:
        return Symbolic(builder, builder.emit(Broadcast((BATCH, 2), tuple(range(1, 1 + value.type.rank))), value))

    product = Symbolic(builder, builder.emit(Contraction((0, 1), (1, 2), (0, 2)), x, given["fc.W"]))
    gain = Symbolic(builder, builder.emit(Broadcast((BATCH, 2), ()), given["gain"]))
    y = gain * (product + rows(given["fc.b"])).apply(Tanh()) + rows(given["fixed"])
    error = y - Symbolic(builder, target)
    count = Symbolic(builder, element_count(builder, (BATCH, 2), (0, 1), DType.F32))
    builder.output("y", Role.OUTPUT, y.value)
    builder.output("loss", Role.OUTPUT, ((error * error).apply(Sum((0, 1))) / count).value)
    builder.output("worst", Role.OUTPUT, (error * error).apply(Sum((0, 1))).value)
    if is_training:
        seen = Symbolic(builder, given["seen"]) + Symbolic(builder, element_count(builder, (BATCH,), (0,), DType.F32))
        builder.output("seen", Role.STATE, seen.value, updates="seen")
    return builder.build()


def momentum(type_: TensorType) -> Graph:
    """v <- decay v + g; p - lr v / t ^ 0."""
    builder = GraphBuilder("momentum")
    builder.origins = (Origin(SPAN),)
    p, g, t, lr, v, decay = (
        Symbolic(builder, builder.input(name, role, kind))
        for name, role, kind in (
            ("p", Role.PARAMETER, type_),
            ("g", Role.DATA, type_),
            ("t", Role.STEP, SCALAR),
            ("lr", Role.SETTING, SCALAR),
            ("v", Role.OPTIMIZER_STATE, type_),
            ("optimizer.decay", Role.SETTING, SCALAR),
        )
    )

    def spread(scalar: Symbolic) -> Symbolic:
        return scalar.apply(Broadcast(type_.shape, ())) if type_.shape else scalar

    moved = spread(decay) * v + g
    builder.output("p", Role.PARAMETER, (p - spread(lr / t) * moved).value)
    builder.output("v", Role.OPTIMIZER_STATE, moved.value)
    return builder.build()


def warm_up() -> Graph:
    """lr * min(1, (t + 1) / 8)."""
    builder = GraphBuilder("warm_up")
    lr, t = (Symbolic(builder, builder.input(name, Role.SETTING, SCALAR)) for name in ("lr", "t"))
    share = (t + 1) / 8
    builder.output("lr", Role.OUTPUT, (lr * share.apply(Minimum(), 1.0)).value)
    return builder.build()


def by_value(type_: TensorType) -> Graph:
    builder = GraphBuilder("value")
    g = Symbolic(builder, builder.input("g", Role.DATA, type_))
    builder.output("g", Role.OUTPUT, g.apply(Minimum(), 0.05).apply(Maximum(), -0.05).value)
    return builder.build()


def by_global_norm(type_: TensorType) -> Graph:
    builder = GraphBuilder("global_norm")
    g = Symbolic(builder, builder.input("g", Role.DATA, type_))
    total = Symbolic(builder, builder.input("total", Role.DATA, SCALAR))
    limit = Symbolic(builder, builder.input("clip.limit", Role.SETTING, SCALAR))
    scale = limit / total.apply(Sqrt()).apply(Maximum(), limit)
    builder.output("g", Role.OUTPUT, (g * (scale.apply(Broadcast(type_.shape, ())) if type_.shape else scale)).value)
    return builder.build()


def program(clip: Clip | None = None, schedule: Graph | None = None) -> Program:
    rules = tuple(
        UpdateRule(s.path, momentum(s.type), (OptimizerState("v", s.type, s.initializer),), "optimizer.lr")
        for s in PARAMETERS
        if s.role is Role.PARAMETER and not s.frozen
    )
    plan = TrainingPlan(rules, schedule, clip, ("worst",), BATCH_SIZE, 1, None, 0, None, None, None, None, None, None)
    inputs = tuple(
        InputSpec(name, of(BATCH, width), name == "target", None, None, SPAN)
        for name, width in (("x", 3), ("target", 2))
    )
    return Program(
        "M", "M", (), (), inputs, ("y",), PARAMETERS, model("train", True), model("infer", False), plan
    )  # fmt: skip


class Store(dict[str, Any]):
    """Tensors by name."""

    def __getitem__(self, name: str) -> Array:
        return super().__getitem__(name)

    def names(self) -> tuple[str, ...]:
        return tuple(self)

    def write(self, name: str, values: Array) -> None:
        self[name][...] = values


def start() -> tuple[Store, dict[str, Array]]:
    random = np.random.default_rng(3)
    store = Store({path: random.normal(size=at_batch(shape, 1)) for path, shape in SHAPES.items()})
    store.update({f"{path}:v": np.zeros(at_batch(shape, 1)) for path, shape in SHAPES.items() if path != "fixed"})
    store["seen"] = np.array(0.0)
    return store, {"x": random.normal(size=(ROWS, 3)), "target": random.normal(size=(ROWS, 2))}


def numpy_losses(
    store: Store, data: dict[str, Array], steps: int, rate_at: Callable[[int], float], clip: Callable[..., Any]
) -> list[float]:
    """The same training by hand; `store` is updated."""
    losses: list[float] = []
    for step in range(steps):
        first = step * BATCH_SIZE % (5 * BATCH_SIZE)
        x, target = data["x"][first : first + BATCH_SIZE], data["target"][first : first + BATCH_SIZE]
        h = np.tanh(x @ store["fc.W"] + store["fc.b"])
        error = store["gain"] * h + store["fixed"] - target
        losses.append(float((error**2).mean()))
        dy = 2 * error / error.size
        dz = dy * store["gain"] * (1 - h**2)
        slopes = {"fc.W": x.T @ dz, "fc.b": dz.sum(0), "gain": (dy * h).sum(), "idle": np.zeros(4)}
        total = sum(float((g**2).sum()) for g in slopes.values())
        for path, g in slopes.items():
            store[f"{path}:v"][...] = DECAY * store[f"{path}:v"] + clip(g, total)
            store[path][...] = store[path] - rate_at(step) / (step + 1) * store[f"{path}:v"]
        store["seen"][...] += len(x)
    return losses


CASES = {
    "plain": (None, None, lambda step: RATE, lambda g, total: g),
    "schedule": (None, warm_up(), lambda step: RATE * min(1, (step + 1) / 8), lambda g, total: g),
    "value": (Clip("value", False, by_value), None, lambda step: RATE, lambda g, total: np.clip(g, -0.05, 0.05)),
    "norm": (
        Clip("global_norm", True, by_global_norm),
        warm_up(),
        lambda step: RATE * min(1, (step + 1) / 8),
        lambda g, total: g * 0.3 / max(0.3, total**0.5),
    ),
}


@pytest.mark.parametrize("optimised", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_twenty_steps_equal_numpy(case: str, optimised: bool) -> None:
    clip, schedule, rate_at, clipped = CASES[case]
    graph = to_dtype(training_step(program(clip, schedule)), DType.F64)
    verify(graph)
    executable = ReferenceExecutable(optimise_graph(graph, verify=True) if optimised else graph)
    (ours, data), (theirs, _) = start(), start()
    settings = {"optimizer.lr": RATE, "optimizer.decay": DECAY, "clip.limit": 0.3}
    losses: list[float] = []
    rates: list[float] = []
    for epoch in range(4):  # five steps each, the last of two rows
        results = executable.run(Steps(ours, data, np.arange(ROWS), BATCH_SIZE, 5 * epoch, settings=settings))
        losses.extend(results.scalars["loss"])
        rates.extend(results.scalars["lr"])
        assert not results.nonfinite
    expected = numpy_losses(theirs, data, 20, rate_at, clipped)
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    np.testing.assert_allclose(rates, [rate_at(step) for step in range(20)], rtol=1e-12)
    for name in theirs:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-8, atol=1e-12, err_msg=name)


def test_the_step_has_these_inputs_and_outputs() -> None:
    graph = training_step(program())
    trained = ["fc.W", "fc.b", "gain", "idle"]
    states = [f"{path}:v" for path in trained]
    assert [o.name for o in graph.outputs] == [*trained, *states, "seen", "loss", "worst", "lr"]
    assert [o.updates for o in graph.outputs] == [*trained, *states, "seen", None, None, None]
    assert {i.name for i in graph.inputs if i.role is Role.SETTING} == {"optimizer.lr", "optimizer.decay"}
    assert {i.name for i in graph.inputs if i.role is Role.OPTIMIZER_STATE} == set(states)
    assert graph.input("step").role is Role.STEP


def test_nodes_say_which_part_of_the_step_they_serve() -> None:
    graph = training_step(program())
    found = {(origin.direction, origin.path) for node in graph.nodes for origin in node.origins}
    assert {(Direction.FORWARD, "fc"), (Direction.BACKWARD, "fc"), (Direction.UPDATE, "fc.W")} <= found
    assert all(node.origins for node in graph.nodes)


def test_evaluation_and_prediction_compute_no_more_than_they_give() -> None:
    graph = evaluation_graph(program())
    assert [o.name for o in graph.outputs] == ["loss", "worst"]
    store, data = start()
    wide = ReferenceExecutable(to_dtype(prediction_graph(program()), DType.F64))
    assert [i.name for i in wide.graph.inputs if i.role is Role.DATA] == ["x"]
    rows = np.array([4, 1, 1, 20])
    found = wide.run(Steps(store, {"x": data["x"]}, rows, 3)).arrays["y"]
    expected = store["gain"] * np.tanh(data["x"][rows] @ store["fc.W"] + store["fc.b"]) + store["fixed"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_a_result_that_is_not_finite_is_named_with_its_step() -> None:
    store, data = start()
    data["x"][7] = np.inf
    executable = ReferenceExecutable(to_dtype(evaluation_graph(program()), DType.F64))
    data["target"][7] = np.nan
    results = executable.run(Steps(store, data, np.arange(ROWS), BATCH_SIZE, 10))
    assert results.nonfinite == (("loss", 11), ("worst", 11))


def test_a_bare_model_has_no_step() -> None:
    bare = program()
    bare = Program(
        "M", "M", (), (), bare.inputs, ("y",), PARAMETERS, model("train", True), model("infer", False), None
    )  # fmt: skip
    with pytest.raises(CompilerBug, match="without a loss"):
        training_step(bare)
