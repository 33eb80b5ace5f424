"""Layers: outputs, new states and gradients equal NumPy and differences; dropout by its statistics."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest
from differentiation import assert_gradients
from elaboration import program
from image_cases import IMAGE_LAYERS
from layer_cases import LAYERS, LayerCase
from standard_library import applied

from compiler.evaluate import evaluate, first_value
from compiler.graph.ir import Graph, Role

Array: TypeAlias = np.ndarray[Any, Any]

CASES = (*LAYERS, *IMAGE_LAYERS)


def identity(case: LayerCase) -> str:
    return f"{case.call}:{case.x.ndim}"


def last(path: str) -> str:
    return path.rsplit(".", 1)[-1]


def tensors_of(case: LayerCase, graph: Graph) -> dict[str, Array]:
    """Values, by graph input, for the parameters and states that the graph has; variances are positive."""
    random = np.random.default_rng(2)
    values = {name: random.uniform(0.5, 1.5, shape) for name, shape in case.tensors.items()}
    paths = [i.name for i in graph.inputs if i.role in (Role.PARAMETER, Role.STATE)]
    return {path: values[last(path)] for path in paths}


def graph_of(case: LayerCase, training: bool) -> Graph:
    return applied(f"{case.call}(x)", {"x": case.x}, "layer", training)


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_the_output_in_training_equals_numpy(case: LayerCase) -> None:
    graph = graph_of(case, training=True)
    tensors = tensors_of(case, graph)
    named = {last(path): value for path, value in tensors.items()}
    result = evaluate(graph, {"x": case.x, **tensors}, 1)["result"]
    np.testing.assert_allclose(result, case.training(case.x, **named), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_the_output_in_inference_equals_numpy(case: LayerCase) -> None:
    graph = graph_of(case, training=False)
    tensors = tensors_of(case, graph)
    assert {last(path) for path in tensors} == set(case.tensors)
    named = {last(path): value for path, value in tensors.items()}
    expected = (case.inference or case.training)(case.x, **named)
    result = evaluate(graph, {"x": case.x, **tensors}, 1)
    np.testing.assert_allclose(result["result"], expected, rtol=1e-9, atol=1e-9)
    assert not [o.name for o in graph.outputs if o.role is Role.STATE]


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_rows_that_only_a_run_knows_change_nothing(case: LayerCase) -> None:
    graph = graph_of(case, training=True)
    of_batches = applied(f"{case.call}(x)", {"x": case.x}, "layer", training=True, in_batches=True)
    given = {"x": case.x, **tensors_of(case, graph)}
    expected, found = evaluate(graph, given, 1), evaluate(of_batches, given, len(case.x))
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", [case for case in CASES if case.states is not None], ids=identity)
def test_the_states_after_a_step_equal_numpy(case: LayerCase) -> None:
    assert case.states is not None
    graph = graph_of(case, training=True)
    tensors = tensors_of(case, graph)
    results = evaluate(graph, {"x": case.x, **tensors}, 1)
    expected = case.states(case.x, **{last(path): value for path, value in tensors.items()})
    found = {last(o.updates): results[o.name] for o in graph.outputs if o.updates is not None}
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-9)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("case", CASES, ids=identity)
def test_the_gradient_equals_a_difference(case: LayerCase, training: bool) -> None:
    graph = graph_of(case, training)
    tensors = tensors_of(case, graph)
    parameters = [i.name for i in graph.inputs if i.role is Role.PARAMETER]
    moving = [*parameters, *(["x"] if case.x.dtype.kind == "f" and np.ptp(case.x) > 0 else [])]
    assert_gradients(graph, "result", moving, {"x": case.x, **tensors})


def dropout(x: Array, rate: str, training: bool, step: int = 0) -> Array:
    graph = applied(f"dropout({rate})(x)", {"x": x}, "layer", training)
    draws = {"seed": np.asarray(1, np.int64), "step": np.asarray(step, np.int64)}
    return evaluate(graph, {"x": x, **{i.name: draws[i.name] for i in graph.inputs if i.name in draws}}, 1)["result"]


def test_dropout_drops_its_share_and_keeps_the_mean() -> None:
    x = np.ones((200, 100))
    result = dropout(x, "0.25", training=True)
    dropped = result == 0
    assert abs(dropped.mean() - 0.25) < 0.02
    np.testing.assert_allclose(result[~dropped], 1 / 0.75)
    assert abs(result.mean() - 1) < 0.02
    # Neither rows nor columns are dropped as a whole.
    assert np.ptp(dropped.mean(0)) < 0.3
    assert np.ptp(dropped.mean(1)) < 0.35


def test_dropout_draws_anew_at_each_step_and_the_same_for_the_same_step() -> None:
    x = np.ones((8, 8))
    first, again, later = (dropout(x, "0.5", True, step) for step in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, later)


def test_dropout_does_nothing_in_inference_and_at_rate_zero() -> None:
    x = np.random.default_rng(0).normal(size=(4, 5))
    np.testing.assert_array_equal(dropout(x, "0.5", training=False), x)
    np.testing.assert_array_equal(dropout(x, "0.0", training=True), x)


@pytest.mark.parametrize(
    ("shape", "layer"),
    [
        ("4", "dense(3"),
        ("4, 9", "conv1d(3, 2"),
        ("4, 9, 9", "conv2d(3, 2"),
        ("4, 9, 9, 9", "conv3d(3, 2"),
        ("4, 9, 9", "depthwise_conv2d(2"),
        ("4, 9, 9", "separable_conv2d(3, 2"),
        ("4, 9", "conv_transpose1d(3, 2"),
        ("4, 9, 9", "conv_transpose2d(3, 2"),
    ],
)
def test_biases_start_as_they_are_told(shape: str, layer: str) -> None:
    text = f"model M {{\n    input x: f32[batch, {shape}]\n    output y = x |> {layer}, biases = constant(0.5))\n}}\n"
    starts = {spec.path: first_value(spec.initializer, 0) for spec in program(text).parameters}
    biases = [array for path, array in starts.items() if path.endswith(".b")]
    assert len(biases) == 1
    assert (biases[0] == 0.5).all()
