"""Optimizers, schedules, clips and penalties: several steps of each equal NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from standard_library import plan_of, trained
from update_cases import (
    CLIPS,
    GRADIENTS,
    OPTIMIZERS,
    PENALTIES,
    SCHEDULES,
    START,
    ClipCase,
    OptimizerCase,
    PenaltyCase,
    ScheduleCase,
)

from compiler.evaluate import Array, evaluate
from compiler.graph.ir import Graph
from compiler.graph_passes.convert_dtype import to_dtype
from compiler.types import DType, TensorType

RATES = (1.0, 1.0, 0.5, 0.25, 0.25, 0.125)


def scalar(value: float) -> Array:
    return np.asarray(value, np.float64)


def call_of(case: OptimizerCase | ScheduleCase | ClipCase | PenaltyCase) -> str:
    return case.call


def in_double(graph: Graph) -> Graph:
    return to_dtype(graph, DType.F64)


@pytest.mark.parametrize("case", OPTIMIZERS, ids=call_of)
def test_steps_of_an_optimizer_equal_numpy(case: OptimizerCase) -> None:
    program = trained(optimizer=case.call)
    (rule,) = plan_of(program).rules
    settings = {s.name: scalar(s.value) for s in program.settings if isinstance(s.value, int | float)}
    rate = float(settings[rule.rate])
    graph = in_double(rule.graph)
    states = {
        s.name: evaluate(in_double(s.initializer), {"seed": np.asarray(0, np.int64)}, 1)["value"] for s in rule.states
    }
    steps = [(t, rate * share, g) for t, (share, g) in enumerate(zip(RATES, GRADIENTS, strict=True), 1)]
    p = START
    for (t, lr, g), expected in zip(steps, case.meaning(START, iter(steps)), strict=True):
        given = {"p": p, "g": g, "t": scalar(t), "lr": scalar(lr), **states, **settings}
        results = evaluate(graph, {i.name: given[i.name] for i in graph.inputs}, 1)
        p, states = results["p"], {name: results[name] for name in states}
        np.testing.assert_allclose(p, expected, rtol=1e-9, atol=1e-12)


def test_adam_is_accurate_in_single_precision_at_the_first_step() -> None:
    program = trained(optimizer="adam(lr = 1e-3)")
    (rule,) = plan_of(program).rules
    settings = {s.name: np.float32(s.value) for s in program.settings if isinstance(s.value, int | float)}
    zeros = np.zeros((4, 3), np.float32)
    g = GRADIENTS[0].astype(np.float32)
    given = {"p": zeros, "g": g, "t": np.float32(1), "lr": np.float32(1e-3), "m": zeros, "v": zeros, **settings}
    given = {i.name: np.asarray(given[i.name]) for i in rule.graph.inputs}
    np.testing.assert_allclose(evaluate(rule.graph, given, 1)["p"], -1e-3 * np.sign(g), rtol=1e-5)


@pytest.mark.parametrize("case", SCHEDULES, ids=call_of)
def test_rates_of_a_schedule_equal_numpy(case: ScheduleCase) -> None:
    program = trained(schedule=case.call, steps="100")
    schedule = plan_of(program).schedule
    assert schedule is not None
    settings = {s.name: s.value for s in program.settings if isinstance(s.value, int | float)}
    for t in case.times:
        for graph, dtype, tolerance in ((schedule, np.float32, 2e-6), (in_double(schedule), np.float64, 1e-12)):
            given = {"lr": 0.5, "t": t, **settings}
            found = evaluate(graph, {i.name: np.asarray(given[i.name], dtype) for i in graph.inputs}, 1)["lr"]
            np.testing.assert_allclose(found, case.meaning(t), rtol=tolerance, atol=tolerance, err_msg=f"at {t}")


@pytest.mark.parametrize("case", CLIPS, ids=call_of)
def test_clips_equal_numpy(case: ClipCase) -> None:
    program = trained(clip=case.call)
    settings = {s.name: scalar(s.value) for s in program.settings if isinstance(s.value, int | float)}
    clip = plan_of(program).clip
    assert clip is not None
    graph = in_double(clip.graph_of(TensorType(DType.F32, (4, 3))))
    for g in (*GRADIENTS[:2], np.zeros((4, 3)), GRADIENTS[0] * 1e4):
        total = 2 * float((g * g).sum())
        given = {"g": g, "total": scalar(total), **settings}
        found = evaluate(graph, {i.name: given[i.name] for i in graph.inputs}, 1)["g"]
        np.testing.assert_allclose(found, case.meaning(g, total), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("case", PENALTIES, ids=call_of)
def test_penalties_join_the_loss_of_training_only(case: PenaltyCase) -> None:
    program = trained(penalty=case.call)
    random = np.random.default_rng(1)
    given = {"x": random.normal(size=(2, 4)), "z": random.normal(size=(2, 3)), "y.dense.W": START}
    given |= {s.name: scalar(s.value) for s in program.settings if isinstance(s.value, int | float)}
    training, inference = (
        evaluate(graph, {i.name: given[i.name] for i in graph.inputs}, 2)["loss"]
        for graph in (in_double(program.training_graph), in_double(program.inference_graph))
    )
    np.testing.assert_allclose(training - inference, case.meaning(START), rtol=1e-9)
    np.testing.assert_allclose(inference, ((given["x"] @ START - given["z"]) ** 2).mean())
