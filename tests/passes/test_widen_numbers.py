"""What is computed of settings, the step and constants alone is so in f64, and rounded where a tensor takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from graph_text import graph, ops_of
from native import compiled

from compiler import driver
from compiler.driver import Options
from compiler.evaluate import evaluate
from compiler.graph.ir import Graph
from compiler.graph_passes.eliminate import eliminate_dead
from compiler.graph_passes.widen_numbers import widen_numbers
from compiler.interface import FUSIONS, Steps
from compiler.programs.kinds import TRAINING, GraphKind, Purpose
from compiler.types import DType

INPUTS = (
    'input "p" parameter %0: f32[4]',
    'input "n" optimizer_state %1: f32[]',
    'input "step" step %2: i64[]',
    'input "beta" setting %3: f32[]',
    'input "decay" setting %4: f32[]',
    "%5: f32[] = constant() value=1.0 dtype=f32",
)


def widened(*lines: str) -> Graph:
    """The pass over a graph of these nodes, and of the inputs above."""
    return eliminate_dead(widen_numbers(graph(*INPUTS, *lines)))


def types_of(found: Graph) -> list[tuple[str, str]]:
    ops_of(found)  # verifies
    return [(node.op.name, node.results[0].type.dtype.value) for node in found.nodes]


def test_numbers_are_computed_in_f64_and_rounded_once_for_all_tensors() -> None:
    found = widened(
        "%6: f32[] = cast(%2) dtype=f32",
        "%7: f32[] = pow(%3, %6)",
        "%8: f32[] = sub(%5, %7)",
        "%9: f32[4] = broadcast(%8) shape=[4] axes=[]",
        "%10: f32[4] = mul(%9, %0)",
        "%11: f32[] = mul(%8, %1)",
        'output "p" parameter %10 updates "p"',
        'output "n" optimizer_state %11 updates "n"',
    )
    assert types_of(found) == [
        ("constant", "f64"),
        ("cast", "f64"),
        ("pow", "f64"),
        ("sub", "f64"),
        ("cast", "f32"),
        ("broadcast", "f32"),
        ("mul", "f32"),
        ("mul", "f32"),
    ]
    assert found.input("beta").value.type.dtype is DType.F64
    given = {"p": np.ones(4, "f4"), "n": np.array(1, "f4"), "step": np.array(7), "beta": np.array(0.999)}
    exact = np.float32(1 - 0.999**7)
    assert (evaluate(found, given, 1)["p"] == exact).all()
    assert exact != np.float32(1) - np.float32(0.999) ** np.float32(7), "in f32, another number"


def test_a_setting_that_only_tensors_read_stays_f32() -> None:
    lines = (
        "%6: f32[4] = broadcast(%4) shape=[4] axes=[]",
        "%7: f32[4] = mul(%6, %0)",
        "%8: f32[] = mul(%3, %1)",
        'output "p" parameter %7 updates "p"',
        'output "n" optimizer_state %8 updates "n"',
    )
    assert widen_numbers(graph(*INPUTS, *lines)) == graph(*INPUTS, *lines)


def test_one_that_both_read_is_f64_and_tensors_get_it_rounded() -> None:
    found = widened(
        "%6: f32[] = mul(%3, %4)",
        "%7: f32[] = mul(%3, %1)",
        "%8: f32[] = mul(%6, %1)",
        "%9: f32[] = add(%7, %8)",
        'output "n" optimizer_state %9 updates "n"',
    )
    assert sorted(types_of(found)) == sorted(
        [("mul", "f64"), ("cast", "f32"), ("cast", "f32")] + [("mul", "f32")] * 2 + [("add", "f32")]
    )


def test_comparisons_and_whole_numbers_are_decided_by_the_exact_numbers() -> None:
    found = widened(
        "%6: bool[] = lt(%3, %4)",
        "%7: f32[4] = broadcast(%3) shape=[4] axes=[]",
        "%8: bool[4] = broadcast(%6) shape=[4] axes=[]",
        "%9: f32[4] = where(%8, %7, %0)",
        "%10: i32[] = cast(%4) dtype=i32",
        'output "p" parameter %9 updates "p"',
        'output "whole" output %10',
        'output "less" output %6',
    )
    ops_of(found)
    given = {"p": np.zeros(4, "f4"), "step": np.array(0), "beta": np.array(1.0), "decay": np.array(1.0 + 1e-12)}
    assert evaluate(found, given, 1)["less"], "which are one number in f32"
    assert types_of(found)[-1] == ("cast", "i32")


def test_a_result_has_its_type_and_another_type_stays() -> None:
    found = widened(
        "%6: f32[] = mul(%3, %5)",
        "%7: f64[] = cast(%6) dtype=f64",
        "%8: bf16[] = cast(%6) dtype=bf16",
        'output "f32" output %6',
        'output "f64" output %7',
        'output "bf16" output %8',
        'output "given" output %3',
        'output "one" output %5',
    )
    ops_of(found)
    assert [o.value.type.dtype.value for o in found.outputs] == ["f32", "f64", "bf16", "f32", "f32"]


def test_what_stands_around_a_number_for_differentiation_is_seen_through() -> None:
    found = widened("%6: f32[] = stop_gradient(%3)", "%7: f32[] = mul(%6, %4)", 'output "y" output %7')
    assert types_of(found) == [("mul", "f64"), ("cast", "f32")]


def test_nothing_is_done_where_no_number_is_computed_or_all_are_f64() -> None:
    plain = graph(*INPUTS, "%6: f32[4] = exp(%0)", 'output "y" output %6')
    assert widen_numbers(plain) is plain
    once = widened("%6: f32[] = mul(%3, %4)", 'output "y" output %6')
    assert types_of(widen_numbers(once)) == types_of(once)


# In whole programs

MODEL = """
model M {
    input x: f32[batch, 1]
    param w: [2] = zeros
    output y = x * w
}
train M {
    target z: f32[batch, 2]
    loss = mean((y - z) ^ 2)
    OPTIMIZER
    batch = 1
}
"""


def updates(optimizer: str, definition: str, times: Sequence[int], options: Options) -> list[np.ndarray[Any, Any]]:
    """The parameter after each of these updates, with its state 0 before."""
    text = definition + MODEL.replace("OPTIMIZER", optimizer)
    program = driver.load_text(text, "model.dl")
    tensors = driver.allocate(program, options)
    driver.initialise(program, tensors, 0, options)
    step = driver.compile_program(program, TRAINING, options)
    settings = {s.name: float(s.value) for s in program.settings if s.is_runtime and isinstance(s.value, int | float)}
    data = {"x": np.ones((1, 1), np.float32), "z": np.zeros((1, 2), np.float32)}
    found: list[np.ndarray[Any, Any]] = []
    for t in times:
        tensors.write("w", np.zeros(2, np.float32))
        step.run(Steps(tensors, data, np.arange(1), 1, t - 1, settings=settings))
        found.append(tensors["w"].copy())
    return found


CORRECTIONS = """
optimizer corrections(lr = 1e-3, beta1 = 0.9, beta2 = 0.999, eps = 1e-8)(p, g, t) {
    root = sqrt(1 - beta2 ^ t)
    where(arange(2) == 0, lr * root / (1 - beta1 ^ t), eps * root) + 0 * g
}
"""
TIMES = (*range(1, 30), 100, 1_000, 100_000, 20_000_001)


@pytest.mark.parametrize(
    "options",
    [Options(), Options(without=tuple(FUSIONS)), Options(target="reference")],
    ids=["native", "without any fusion", "reference"],
)
def test_the_corrections_of_adam_are_those_of_f64_rounded_once(options: Options) -> None:
    found = updates("optimizer = corrections()", CORRECTIONS, TIMES, options)
    roots = [(1 - 0.999**t) ** 0.5 for t in TIMES]
    expected = [(1e-3 * root / (1 - 0.9**t), 1e-8 * root) for t, root in zip(TIMES, roots, strict=True)]
    np.testing.assert_allclose(np.array(found), np.array(expected), rtol=2**-24 * (1 + 1e-6))


@pytest.mark.parametrize("options", [Options(), Options(target="reference")], ids=["native", "reference"])
def test_what_a_schedule_keeps_between_epochs_is_not_rounded(options: Options) -> None:
    shrinking = """
schedule shrinking(lr, t, metric) {
    state share = ones
    share = share * 0.1
    return lr * share + 0 * metric
}
"""
    training = "optimizer = gradient_descent(lr = 0.3)\n    schedule = shrinking"
    program = driver.load_text(shrinking + MODEL.replace("OPTIMIZER", training), "model.dl")
    settings = {"optimizer.lr": 0.3, "(schedule).share": 0.7, "(schedule).metric": 1.0}
    following = driver.compile_program(program, GraphKind(Purpose.FOLLOWING), options)
    found = following.run(Steps(driver.allocate(program, options), {}, np.zeros(1, np.int64), 1, settings=settings))
    assert found.scalars["(schedule).share"][0] == 0.7 * 0.1


def test_numbers_of_one_setting_are_one_kernel() -> None:
    numbers = compiled(
        widened(
            "%6: f32[] = mul(%3, %4)",
            "%7: f32[] = exp(%3)",
            "%8: f32[4] = broadcast(%7) shape=[4] axes=[]",
            "%9: f32[4] = mul(%0, %8)",
            'output "product" output %6',
            'output "p" parameter %9 updates "p"',
            'output "given" output %4',
        )
    )
    kernels = [instance.kernel.name for instance in numbers.plan.instances]
    assert len([name for name in kernels if name.startswith("k")]) == 2, kernels
