"""Initialisers: the mean, deviation, bounds and structure that each promises; draws that depend on the seed alone."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
import pytest
from elaboration import program, started
from initializer_cases import INITIALIZERS, ORTHOGONAL, InitializerCase
from standard_library import initial

from compiler.evaluate import evaluate
from compiler.ops.scan import Scan

Array: TypeAlias = np.ndarray[Any, Any]

RANDOM = [case for case in INITIALIZERS if case.deviation > 0]


def drawn(call: str, shape: tuple[int, ...], seed: int = 3) -> Array:
    return evaluate(initial(call, shape), {"seed": np.asarray(seed, np.int64)}, 1)["value"]


def identity(case: InitializerCase) -> str:
    return f"{case.call}:{'x'.join(map(str, case.shape))}"


@pytest.mark.parametrize("case", INITIALIZERS, ids=identity)
def test_the_distribution_is_the_promised_one(case: InitializerCase) -> None:
    values = drawn(case.call, case.shape)
    assert values.shape == case.shape
    assert values.dtype == np.float32
    # Five deviations of the estimates: one false alarm in a million, and the seed is fixed.
    allowed = 5 * case.deviation / math.sqrt(values.size)
    assert abs(values.mean(dtype=np.float64) - case.mean) <= allowed + 1e-7
    assert abs(values.std(dtype=np.float64) - case.deviation) <= allowed + 1e-7
    assert values.min() >= case.low - 1e-6
    assert values.max() <= case.high + 1e-6


@pytest.mark.parametrize("case", RANDOM, ids=identity)
def test_rows_and_columns_do_not_repeat(case: InitializerCase) -> None:
    values = drawn(case.call, case.shape).reshape(-1)
    assert len(np.unique(values)) > 0.98 * values.size
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 5 / math.sqrt(values.size)


@pytest.mark.parametrize("case", RANDOM, ids=identity)
def test_the_seed_decides(case: InitializerCase) -> None:
    np.testing.assert_array_equal(drawn(case.call, case.shape), drawn(case.call, case.shape))
    assert not np.array_equal(drawn(case.call, case.shape), drawn(case.call, case.shape, seed=4))


@pytest.mark.parametrize("call", ["normal(std = 1.0)", "he_normal", "glorot_normal", "lecun_normal"])
def test_normal_numbers_are_normal(call: str) -> None:
    values = np.sort(drawn(call, (100, 100)).reshape(-1).astype(np.float64))
    values /= values.std()
    normal = 0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2)))
    # The Kolmogorov–Smirnov distance; 1.95 / sqrt(n) is exceeded once in a thousand seeds.
    assert np.abs(normal - (np.arange(values.size) + 0.5) / values.size).max() < 1.95 / math.sqrt(values.size)


def test_a_truncated_normal_has_the_shape_of_the_normal_within_its_bounds() -> None:
    values = np.sort(drawn("truncated_normal(std = 1.0)", (100, 100)).reshape(-1).astype(np.float64))
    inside = math.erf(math.sqrt(2))
    share = (0.5 * (1 + np.vectorize(math.erf)(values / math.sqrt(2))) - 0.5 * (1 - inside)) / inside
    assert np.abs(share - (np.arange(values.size) + 0.5) / values.size).max() < 1.95 / math.sqrt(values.size)


@pytest.mark.parametrize(("shape", "gain"), ORTHOGONAL)
def test_orthogonal_matrices_are_orthogonal(shape: tuple[int, ...], gain: float) -> None:
    values = drawn(f"orthogonal({gain})", shape).astype(np.float64).reshape(-1, shape[-1])
    rows, columns = values.shape
    product = values.T @ values if rows >= columns else values @ values.T
    np.testing.assert_allclose(product, gain**2 * np.eye(min(rows, columns)), atol=3e-6 * gain**2)


def test_an_orthogonal_start_is_a_small_program() -> None:
    """Its steps are two scans: written out for each gate, they took longer to compile than the training step."""
    graph = initial("split_init(orthogonal, 4)", (12, 48))
    scans = [node.op for node in graph.nodes if isinstance(node.op, Scan)]
    assert [scan.length for scan in scans] == [12, 5] * 4
    assert len(graph.nodes) + sum(len(scan.body.nodes) for scan in scans) < 4 * 100


def test_orthogonal_gates_are_orthogonal_one_by_one() -> None:
    gates = np.split(drawn("split_init(orthogonal, 4)", (12, 48)).astype(np.float64), 4, axis=-1)
    for gate in gates:
        np.testing.assert_allclose(gate.T @ gate, np.eye(12), atol=3e-6)
    assert np.abs(gates[0] - gates[1]).max() > 0.1


def test_gates_start_one_by_one_or_at_once() -> None:
    for inner in ("orthogonal", "glorot_uniform"):
        each, whole = (drawn(f"gates_init({inner}, 4{given})", (12, 48)) for given in ("", ", by_gate = false"))
        np.testing.assert_array_equal(each, drawn(f"split_init({inner}, 4)", (12, 48)))
        np.testing.assert_array_equal(whole, drawn(inner, (12, 48)))
    rows = drawn("gates_init(orthogonal, 4, by_gate = false)", (12, 48)).astype(np.float64)
    np.testing.assert_allclose(rows @ rows.T, np.eye(12), atol=3e-6)


@pytest.mark.parametrize("shape", [(4, 4), (3, 5)])
def test_the_identity_is_the_identity(shape: tuple[int, int]) -> None:
    np.testing.assert_array_equal(drawn("identity", shape), np.eye(*shape))
    np.testing.assert_array_equal(drawn("identity(gain = 0.5)", shape), 0.5 * np.eye(*shape))


def test_the_bias_of_the_forget_gate_is_the_second_quarter() -> None:
    np.testing.assert_array_equal(drawn("forget_bias", (8,)), [0, 0, 1, 1, 0, 0, 0, 0])
    np.testing.assert_array_equal(drawn("forget_bias(2.5)", (4,)), [0, 2.5, 0, 0])
    np.testing.assert_array_equal(
        drawn("forget_bias(2.5, constant(0.5))", (8,)), [0.5, 0.5, 2.5, 2.5, 0.5, 0.5, 0.5, 0.5]
    )
    random, whole = drawn("forget_bias(1.0, normal)", (8,)), drawn("normal", (8,))
    np.testing.assert_array_equal(random, [*whole[:2], 1, 1, *whole[4:]])


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        ("simple_rnn(2, biases = constant(0.5))", [0.5] * 2),
        ("gru(2, biases = constant(0.5))", [0.5] * 6),
        ("lstm(2, biases = constant(0.5))", [0.5, 0.5, 1, 1, 0.5, 0.5, 0.5, 0.5]),
        ("lstm(2, forget = 3.0, biases = constant(0.5))", [0.5, 0.5, 3, 3, 0.5, 0.5, 0.5, 0.5]),
        ("peephole_lstm(2, biases = constant(0.5))", [0.5, 0.5, 1, 1, 0.5, 0.5, 0.5, 0.5]),
    ],
)
def test_biases_of_recurrent_layers_start_as_they_say(layer: str, expected: list[float]) -> None:
    text = f"model M() {{\n    input x: f32[batch, 3, 4]\n    output y = x |> {layer}\n}}\n"
    (bias,) = (spec for spec in program(text).parameters if spec.path.endswith(".b"))
    np.testing.assert_array_equal(started(bias.initializer), expected)
