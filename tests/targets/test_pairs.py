"""Values with the batch on two axes, compiled: as NumPy has them, and the same bits for any number of places."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pytest
from differentiation import gradient_graph
from function_case import FunctionCase
from pair_cases import PAIRS
from random_pairs import inputs_of, narrowed, random_pairs, run
from standard_library import applied

from compiler.evaluate import evaluate
from compiler.graph_passes.lay_out_pairs import has_pairs, lay_out_pairs, most_rows, places_for
from compiler.interface import FUSIONS, Options, Steps
from compiler.pipeline import to_f64
from compiler.programs.executables import executable
from compiler.targets.memory import allocated

Array: TypeAlias = np.ndarray[Any, Any]

NAMES = ("info_nce", "clip_loss", "nt_xent", "mmd", "triplet_hard", "supervised_contrastive")
LOSSES = [case for case in PAIRS if case.name in NAMES and "s" not in case.operands]


@pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.id)
def test_losses_and_their_gradients(case: FunctionCase) -> None:
    rows = len(next(iter(case.operands.values())))
    graph = applied(case.call, case.operands, is_double=False, in_batches=True)
    whole = gradient_graph(graph, "result", case.slopes)
    wide = {**case.operands, "cotangent": np.ones(())}
    expected = evaluate(to_f64(whole), wide, rows)
    np.testing.assert_allclose(expected["result"], case.expected(**case.operands), rtol=1e-8, atol=1e-10)
    made = run(executable(whole, Options(dtype="f64", threads=1)), wide, rows)
    single = run(executable(whole, Options(threads=1)), narrowed(wide), rows)
    for name, value in expected.items():
        np.testing.assert_allclose(made[name], value, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(single[name], value, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", NAMES)
def test_losses_of_many_rows_and_of_few_in_their_places(name: str) -> None:
    """A batch that fills its places, one that does not, and a single row, pair by pair in NumPy."""
    case = next(case for case in LOSSES if case.name == name)
    graph = applied(case.call, case.operands, is_double=False, in_batches=True)
    programs = {dtype: executable(graph, Options(batch=144, dtype=dtype, threads=2)) for dtype in ("f32", "f64")}
    random = np.random.default_rng(3)
    for rows in (144, 37, 1):
        arrays = {
            key: random.normal(size=(rows, *array.shape[1:])) if array.dtype == np.float64
            else random.integers(0, 4, rows).astype(np.int32)
            for key, array in case.operands.items()
        }  # fmt: skip
        expected = case.expected(**arrays)
        np.testing.assert_allclose(run(programs["f64"], arrays, rows)["result"], expected, rtol=1e-10, atol=1e-12)
        single = run(programs["f32"], narrowed(arrays), rows)["result"]
        np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_random_pairs_have_their_meaning_and_their_bits(seed: int) -> None:
    graph = random_pairs(seed)
    assert has_pairs(graph)
    programs = [
        executable(graph, Options(batch=places, threads=threads, without=without))
        for places, threads, without in ((1, 1, ()), (64, 2, ()), (150, 1, ()), (64, 1, tuple(FUSIONS)))
    ]
    double = executable(graph, Options(batch=150, dtype="f64", threads=1))
    for rows in (1, 5, 64, 150):
        arrays = inputs_of(graph, rows, seed)
        meaning = evaluate(to_f64(graph), arrays, rows)
        found = [run(program, narrowed(arrays), rows) for program in programs]
        for name, value in run(double, arrays, rows).items():
            scale = max(1.0, float(np.abs(meaning[name]).max(initial=0)))
            np.testing.assert_allclose(value, meaning[name], rtol=1e-8, atol=1e-8 * scale)
            assert len({np.asarray(one[name]).tobytes() for one in found}) == 1, (name, rows)


@pytest.mark.parametrize("seed", range(3))
def test_the_laid_out_graph_means_the_same(seed: int) -> None:
    graph = to_f64(random_pairs(seed, 20))
    laid_out = lay_out_pairs(graph, 40)
    assert not has_pairs(laid_out)
    assert most_rows(laid_out, 40) == places_for(40) == 48
    for rows in (1, 40, 48):
        arrays = inputs_of(graph, rows, seed)
        expected, found = evaluate(graph, arrays, rows), evaluate(laid_out, arrays, rows)
        for name, value in expected.items():
            scale = max(1.0, float(np.abs(value).max(initial=0)))
            np.testing.assert_allclose(found[name], value, rtol=1e-9, atol=1e-9 * scale)


def test_a_graph_without_pairs_stays() -> None:
    graph = applied("x + 1", {"x": np.ones((2, 3))}, in_batches=True)
    assert lay_out_pairs(graph, 4) is graph
    assert most_rows(graph, 4) == 0


@pytest.mark.parametrize(("rows", "places"), [(0, 16), (1, 16), (16, 16), (17, 32), (128, 128), (129, 256)])
def test_places(rows: int, places: int) -> None:
    assert places_for(rows) == places


def test_a_step_of_more_rows_gets_more_places() -> None:
    graph = applied("mean(logsumexp(x @ x.T))", {"x": np.ones((2, 3))}, is_double=False, in_batches=True)
    small, large = (executable(graph, Options(batch=batch, threads=1)) for batch in (4, 300))
    for rows in (4, 300, 16, 17):
        arrays = narrowed(inputs_of(graph, rows, rows))
        assert run(small, arrays, rows)["result"].tobytes() == run(large, arrays, rows)["result"].tobytes()


def test_several_steps_of_a_call_and_a_short_one() -> None:
    graph = applied("sum(max(x @ x.T, axis = 0))", {"x": np.ones((2, 3))}, is_double=False, in_batches=True)
    program = executable(graph, Options(batch=8, threads=1))
    x = narrowed(inputs_of(graph, 21, 3))["x"]
    together = program.run(Steps(allocated(program.tensors), {"x": x}, np.arange(21), 8)).scalars["result"]
    alone = [run(program, {"x": x[first : first + 8]}, len(x[first : first + 8]))["result"] for first in (0, 8, 16)]
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("verified", [0, 1])
def test_random_pairs_are_verified(verified: int) -> None:
    executable(random_pairs(verified), Options(batch=20, threads=1, verify=True))


def test_the_reference_knows_no_places() -> None:
    graph = applied("sum(x @ x.T)", {"x": np.ones((2, 3))}, is_double=False, in_batches=True)
    arrays = {"x": np.ones((70, 3), np.float32)}
    program = executable(graph, Options(target="reference", batch=4))
    assert float(run(program, arrays, 70)["result"]) == 3 * 70 * 70
