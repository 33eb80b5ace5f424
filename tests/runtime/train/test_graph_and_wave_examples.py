"""`examples/karate` and `examples/wave`: their data, and what they learn."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import networkx as nx
import numpy as np

import dlc

EXAMPLES = Path(__file__).parents[3] / "examples"


def maker(example: str) -> ModuleType:
    """The module `make_data.py` of an example."""
    spec = importlib.util.spec_from_file_location(f"make_{example}", EXAMPLES / example / "make_data.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_club_is_zacharys() -> None:
    graph: Any = nx.karate_club_graph()
    with np.load(EXAMPLES / "karate" / "club.npz") as file:
        pairs, side, labelled = file["pairs"][0], file["side"][0], file["labelled"][0]
    assert {tuple(pair) for pair in pairs.tolist()} == {tuple(sorted(edge)) for edge in graph.edges()}
    assert side.tolist() == [int(graph.nodes[k]["club"] != "Mr. Hi") for k in range(34)]
    assert np.flatnonzero(labelled).tolist() == [0, 33]


def test_two_labels_tell_the_sides_of_the_club() -> None:
    result = dlc.load(EXAMPLES / "karate" / "model.dl").train()
    assert result.test["accuracy"] >= 31 / 32 - 1e-6


def test_messages_of_the_club_follow_the_normalised_adjacency() -> None:
    """A layer of the model is D^-1/2 (A + I) D^-1/2 H W."""
    model = dlc.load(EXAMPLES / "karate" / "model.dl", dtype="f64")
    with np.load(EXAMPLES / "karate" / "club.npz") as file:
        pairs = file["pairs"]
    adjacency = np.eye(34)
    for a, b in pairs[0]:
        adjacency[a, b] = adjacency[b, a] = 1
    degree = adjacency.sum(1)
    weights = [np.array(model.parameters[name]) for name in sorted(model.parameters)]
    first, second = sorted(weights, key=lambda w: -w.shape[0])
    spread = adjacency / np.sqrt(degree[:, None] * degree)
    expected = spread @ np.tanh(spread @ first) @ second
    np.testing.assert_allclose(model.predict({"pairs": pairs})["logits"][0], expected, rtol=1e-9, atol=1e-12)


def test_the_solution_of_the_wave_solves_its_equation() -> None:
    made = maker("wave")
    t, x = np.random.default_rng(0).random((2, 50))
    step = 1e-4
    by_t = (made.solution(t + step, x) - 2 * made.solution(t, x) + made.solution(t - step, x)) / step**2
    by_x = (made.solution(t, x + step) - 2 * made.solution(t, x) + made.solution(t, x - step)) / step**2
    np.testing.assert_allclose(by_t, made.SPEED**2 * by_x, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(made.solution(t, 0 * t), 0, atol=1e-12)
    with np.load(EXAMPLES / "wave" / "exact.npz") as file:
        np.testing.assert_allclose(file["value"], made.solution(*file["place"].T.astype(float)), atol=1e-5)


def test_the_speed_of_the_wave_is_approached() -> None:
    model = dlc.load(EXAMPLES / "wave" / "model.dl", experiment="start", steps=600)
    model.train()
    assert abs(float(model.parameters["speed"][0]) - 1.5) < 0.3
